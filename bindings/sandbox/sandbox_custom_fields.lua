--- Custom fields of certificates: their definitions, and what requests must fill in.

local auth = require "sandbox_auth"
local json = require "json"
local wire = require "sandbox_wire"

local custom_fields = {}

local FIELDS = [[name!:s(1..256), mandatories:[s(ADMIN_UI|REST_API|SOAP_API|WEB_FORM)],
  certType:s(ssl|smime|device|codesign|mark), state:s(ACTIVE|INACTIVE|SUSPENDED_ACTIVE|
  SUSPENDED_INACTIVE), mandatory:b, input:{type:s(TEXT_SINGLE_LINE|TEXT_MULTI_LINE|EMAIL|
  NUMBER|TEXT_OPTION|DATE), options:[s]}]]
local CREATE = wire.shape("{" .. FIELDS .. "}")
local UPDATE = wire.shape("{id!:n(>=1), " .. FIELDS .. "}")

local function add(state, field)
  field.id = state:next_id "custom field"
  state.custom_fields[#state.custom_fields + 1] = field
  return field
end

function custom_fields.seed(state)
  state.custom_fields = {}
  add(state, {name = "Cost center", mandatories = {}, cert_type = "ssl", state = "ACTIVE",
    input = {type = "TEXT_SINGLE_LINE", options = {}}})
end

-- ---------------------------------------------------------------- of requests

local function demanded(field)
  for _, where in ipairs(field.mandatories) do
    if where == "REST_API" then return true end
  end
  return false
end

--- The {name, value} list of a request, checked against the definitions: -135 for a field that
--- does not exist, -62 for one that must be there and is not.
function custom_fields.check(state, cert_type, given)
  local values = {}
  for _, entry in ipairs(given or {}) do
    values[entry.name or ""] = entry.value
  end
  local list, known = {}, {}
  for _, field in ipairs(state.custom_fields) do
    if wire.same_word(field.cert_type, cert_type) then
      known[field.name] = true
      local value = values[field.name]
      if value == "" then value = nil end
      if not value and demanded(field) and field.state == "ACTIVE" then
        wire.fail(-62, ("Mandatory custom field ''%s'' is missing"):format(field.name))
      end
      if value then list[#list + 1] = {name = field.name, value = value} end
    end
  end
  for name in pairs(values) do
    if not known[name] then
      wire.fail(-135, ("Custom field ''%s'' was not found"):format(name))
    end
  end
  return list
end

--- A record's values as details show them.
function custom_fields.show(values)
  local list = {}
  for i, value in ipairs(values) do list[i] = {name = value.name, value = value.value} end
  return json.array(list)
end

-- ---------------------------------------------------------------- definitions

local function list_of(words) return json.array(table.move(words, 1, #words, 1, {})) end

local function show(call, field)
  local shown = {id = field.id, name = field.name, certType = field.cert_type,
    state = field.state, input = {type = field.input.type}}
  if field.input.type == "TEXT_OPTION" then
    shown.input.options = list_of(field.input.options)
  end
  if call.version < 2 then
    shown.mandatory = demanded(field)
  else
    shown.mandatories = list_of(field.mandatories)
  end
  return shown
end

local function list(call)
  local found = {}
  local kind = call.params.type or wire.text(call, "certType")
  for _, field in ipairs(call.state.custom_fields) do
    if not kind or wire.same_word(field.cert_type, kind) then
      found[#found + 1] = field
    end
  end
  return wire.all(call, found, show)
end

--- The short form for enrolments.
local function of_ssl(call)
  local found = {}
  for _, field in ipairs(call.state.custom_fields) do
    if field.cert_type == "ssl" and field.state == "ACTIVE" then
      found[#found + 1] = {id = field.id, name = field.name, mandatory = demanded(field)}
    end
  end
  return 200, json.array(found)
end

local function find(call, id)
  for i, field in ipairs(call.state.custom_fields) do
    if field.id == id then return field, i end
  end
  wire.fail(-135, "Custom field was not found", call.params.id and 404 or 400)
end

local function get(call)
  return 200, show(call, (find(call, wire.id(call, "id", -135))))
end

local function take(call, field, body)
  for _, other in ipairs(call.state.custom_fields) do
    if other.id ~= field.id and other.name == body.name
      and other.cert_type == (field.cert_type or body.certType) then
      wire.fail(-134, "The custom field name is not unique")
    end
  end
  field.name = body.name
  field.cert_type = (body.certType or field.cert_type or "ssl"):lower()
  field.state = body.state or field.state or "ACTIVE"
  if body.mandatory ~= nil then
    field.mandatories = body.mandatory and {"REST_API"} or {}
  end
  field.mandatories = body.mandatories or field.mandatories or {}
  if body.input or not field.input then
    local input = body.input or {}
    field.input = {type = input.type or "TEXT_SINGLE_LINE", options = input.options or {}}
  end
end

local LIMIT = 60 -- fields of a customer

local function create(call)
  auth.need_master(call, "custom field creation")
  local body, field = wire.body(call, CREATE), {}
  if #call.state.custom_fields >= LIMIT then
    wire.fail(-131, "The limit of custom fields is exceeded")
  end
  take(call, field, body)
  add(call.state, field)
  if call.version < 2 then return 200, show(call, field) end
  return wire.created(call, "/api/customField/v2/" .. field.id)
end

local function update(call)
  auth.need_master(call, "custom field update")
  local body = wire.body(call, UPDATE)
  local field = find(call, body.id)
  take(call, field, body)
  return 200, show(call, field)
end

local function remove(call)
  auth.need_master(call, "custom field deletion")
  local _, at = find(call, wire.id(call, "id", -135))
  table.remove(call.state.custom_fields, at)
  return 204
end

function custom_fields.routes(routes)
  routes:add("GET", "/api/ssl/v1,v2/customFields", of_ssl)
  routes:add("GET", "/api/customField/v1,v2", list)
  routes:add("GET", "/api/customField/v1/ssl", function(call)
    call.params.type = "ssl"
    return list(call)
  end)
  routes:add("POST", "/api/customField/v1,v2", create)
  routes:add("PUT", "/api/customField/v1,v2", update)
  routes:add("GET", "/api/customField/v2/{id}", get)
  routes:add("DELETE", "/api/customField/v1,v2/{id}", remove)
end

return custom_fields
