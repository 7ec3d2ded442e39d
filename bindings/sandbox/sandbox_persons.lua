--- Persons: those that client certificates are for.

local auth = require "sandbox_auth"
local json = require "json"
local orgs = require "sandbox_orgs"
local wire = require "sandbox_wire"

local persons = {}

local MORE = [[middleName:s(<=64), phone:s(<=32), commonName:s(<=64), secondaryEmails:[s],
  eppn:s(<=128), upn:s(<=256)]]
local CREATE = wire.shape([[{firstName!:s(1..64), lastName!:s(1..64),
email!:s(<=128, e-mail),
  validationType!:s(STANDARD|HIGH), organizationId!:n(>=1), ]] .. MORE .. "}")
local UPDATE = wire.shape([[{firstName:s(1..64), lastName:s(1..64),
email:s(<=128, e-mail),
  validationType:s(STANDARD|HIGH), organizationId:n(>=1), ]] .. MORE .. "}")
local INVITE = wire.shape "{accountId:n, term:n, keyType:s, profileId:n}"

local FIELDS = {"firstName", "middleName", "lastName", "email", "validationType",
  "organizationId", "phone", "commonName", "secondaryEmails", "eppn", "upn"}

function persons.seed(state)
  state.persons = {}
  for i, name in ipairs{"Grace Hopper", "Edsger Dijkstra"} do
    local first, last = name:match "^(%a+) (%a+)$"
    state.persons[i] = {id = state:next_id "person", firstName = first, middleName = "",
      lastName = last, email = ("%s@example.com"):format(first:lower()),
      validationType = "STANDARD", organizationId = 101, phone = "", commonName = name,
      secondaryEmails = {}, eppn = "", upn = "", created = state.started - 86400,
      by = "api", modified = state.started - 86400}
  end
end

local function show(call, person)
  local shown = {id = person.id, created = wire.date(call, person.created, "ISO_HMS"),
    createdBy = person.by, modified = wire.date(call, person.modified, "ISO_HMS"),
    modifiedBy = person.changed_by or person.by}
  for _, name in ipairs(FIELDS) do shown[name] = person[name] end
  local emails = person.secondaryEmails
  shown.secondaryEmails = json.array(table.move(emails, 1, #emails, 1, {}))
  return shown
end

local function may(call) auth.need(call, "clientCertManage", "person management") end

local function find(call)
  local id = wire.id(call, call.params.id and "id" or "personId", -105)
  for i, person in ipairs(call.state.persons) do
    if person.id == id then return person, i end
  end
  wire.missing(-105, ("Person with id: %d was not found"):format(id))
end

local function has_email(person, text)
  if not text then return true end
  for _, email in ipairs(person.secondaryEmails) do
    if wire.contains(email, text) then return true end
  end
  return false
end

local function list(call)
  local found, org = {}, wire.number(call, "organizationId")
  local name, email = wire.text(call, "name"), wire.text(call, "email")
  local cn, phone = wire.text(call, "commonName"), wire.text(call, "phone")
  local second = wire.text(call, "secondaryEmail")
  for _, person in ipairs(call.state.persons) do
    local full = ("%s %s %s"):format(person.firstName, person.middleName, person.lastName)
    if wire.contains(full:gsub("%s+", " "), name) and wire.contains(person.email, email)
      and wire.contains(person.commonName, cn) and wire.contains(person.phone, phone)
      and (not org or person.organizationId == org) and has_email(person, second) then
      found[#found + 1] = person
    end
  end
  return wire.list(call, found, show)
end

local function get(call) return 200, show(call, (find(call))) end

local function by_email(call)
  local email = call.params.email:lower()
  for _, person in ipairs(call.state.persons) do
    if person.email:lower() == email then return 200, {personId = person.id} end
  end
  wire.missing(-105, ("Person with e-mail: %s was not found"):format(call.params.email))
end

local function check(call, body, person)
  if body.organizationId then orgs.of_body(call.state, body.organizationId) end
  local length = 0
  for _, name in ipairs{"firstName", "middleName", "lastName"} do
    length = length + #(body[name] or person and person[name] or "")
  end
  if length > 64 then wire.fail(-1001, "The name must be at most 64 characters long.") end
  for _, other in ipairs(call.state.persons) do
    if other ~= person and body.email and other.email:lower() == body.email:lower() then
      wire.fail(-1601, ("Person with e-mail: %s exists already"):format(body.email))
    end
  end
end

local function create(call)
  may(call)
  local body = wire.body(call, CREATE)
  check(call, body)
  local now = call.state.now()
  local person = {id = call.state:next_id "person", created = now, modified = now,
    by = call.admin.login, secondaryEmails = {}}
  for _, name in ipairs(FIELDS) do person[name] = body[name] or person[name] or "" end
  if person.commonName == "" then
    person.commonName = ("%s %s"):format(person.firstName, person.lastName)
  end
  call.state.persons[#call.state.persons + 1] = person
  return wire.created(call, ("/api/person/v%d/%d"):format(call.version, person.id))
end

local function update(call)
  may(call)
  local person, body = find(call), wire.body(call, UPDATE)
  check(call, body, person)
  for _, name in ipairs(FIELDS) do
    if body[name] ~= nil then person[name] = body[name] end
  end
  person.modified, person.changed_by = call.state.now(), call.admin.login
  return 200
end

local function remove(call)
  may(call)
  local _, at = find(call)
  table.remove(call.state.persons, at)
  return 200
end

local function invite(call)
  may(call)
  find(call)
  wire.body(call, INVITE)
  return 202
end

local ENDPOINT = 70

local function endpoints(call)
  find(call)
  return 200, json.array{{id = ENDPOINT, name = "Client certificate web form",
    url = call.base .. "/customer/" .. call.state.settings.customer_uri .. "/smime"}}
end

local function endpoint_accounts(call)
  find(call)
  if wire.id(call, "endpointId", -105) ~= ENDPOINT then
    wire.missing(-105, "Enrollment endpoint was not found")
  end
  return 200, json.array{{id = 71, name = "Default", profiles = json.array{}}}
end

--- Keys of persons are not kept here.
local function import_key(call)
  may(call)
  find(call)
  wire.fail(-1, "The sandbox imports no private keys")
end

function persons.routes(routes)
  local base = "/api/person/v1,v2"
  routes:add("GET", base, list)
  routes:add("POST", base, create)
  routes:add("GET", base .. "/{id}", get)
  routes:add("PUT", base .. "/{id}", update)
  routes:add("DELETE", base .. "/{id}", remove)
  routes:add("GET", base .. "/id/byEmail/{email}", by_email)
  routes:add("POST", base .. "/{id}/invitation/send", invite)
  routes:add("GET", "/api/person/v2/{id}/invitation/endpoint", endpoints)
  routes:add("GET", "/api/person/v2/{id}/invitation/endpoint/{endpointId}/account",
    endpoint_accounts)
  routes:add("POST", base .. "/{personId}/import-key", import_key)
end

return persons
