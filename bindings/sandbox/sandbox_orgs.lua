--- Organizations and departments.

local auth = require "sandbox_auth"
local json = require "json"
local wire = require "sandbox_wire"

local orgs = {}

local LIMITS = [[alternativeName:s(<=1024), schacHomeOrganization:s(<=1024),
  alias:s(<=1024), contactEmails:s(<=512), contactWebhook:s(<=2048),
  contactSlack:s(<=2048), contactTeams:s(<=2048), address2:s(<=128), address3:s(<=128),
  city:s(<=32), stateProvince:s(<=32), postalCode:s(<=10), sslCertsApiEnabled:b,
  clientCertsApiEnabled:b, parentOrgName:s(<=128)]]

local RECOVERY = [[{allowKeyRecoveryByMasterAdmins:b, allowKeyRecoveryByOrgAdmins:b,
  allowKeyRecoveryByDepartmentAdmins:b}]]

local CREATE = wire.shape("{name!:s(1..128), address1!:s(<=128), country!:s(2..2), "
  .. "clientCertificate!:" .. RECOVERY .. ", " .. LIMITS .. "}")
local UPDATE = wire.shape("{name:s(1..128), address1:s(<=128), country:s(2..2), "
  .. "clientCertificate:" .. RECOVERY .. ", " .. LIMITS .. "}")

--- Written names that are read under another.
local READ_AS = {stateProvince = "stateOrProvince", alternativeName = "secondaryName"}

local PLAIN = {"name", "address1", "address2", "address3", "city", "postalCode",
  "country",
  "alias", "schacHomeOrganization", "contactEmails", "contactWebhook", "contactSlack",
  "contactTeams", "sslCertsApiEnabled", "clientCertsApiEnabled", "clientCertificate",
  "stateProvince", "alternativeName"}

local function take(org, body)
  for _, name in ipairs(PLAIN) do
    if body[name] ~= nil then org[READ_AS[name] or name] = body[name] end
  end
end

--- What a sandbox begins with: one organization that is validated for all, one for OV, one for
--- nothing yet.
function orgs.seed(state)
  state.orgs, state.org_order = {}, {}
  local function add(id, name, parent, more)
    local org = {id = id, name = name, parent = parent, address1 = "Sandbox Street 1",
      city = "Berlin", stateOrProvince = "Berlin", postalCode = "10115", country = "DE",
      sslCertsApiEnabled = true, clientCertsApiEnabled = true,
      clientCertificate = {allowKeyRecoveryByMasterAdmins = false,
        allowKeyRecoveryByOrgAdmins = false, allowKeyRecoveryByDepartmentAdmins = false}}
    for key, value in pairs(more or {}) do org[key] = value end
    state.orgs[id], state.org_order[#state.org_order + 1] = org, id
  end
  add(101, "Example Corp", nil, {contactEmails = "pki@example.com"})
  add(102, "Web", 101)
  add(103, "IT", 101)
  add(201, "Example Bank", nil, {city = "Hamburg", stateOrProvince = "Hamburg"})
  add(202, "Payments", 201)
  add(301, "Example Startup")
end

-- ---------------------------------------------------------------- looking things up

--- The organization or department that an id in a body names; -1023 when there is none.
function orgs.of_body(state, id)
  return state.orgs[id] or wire.fail(-1023, ("Organization with id %d was not found")
    :format(id))
end

--- The organization that a department belongs to, or the organization itself.
function orgs.top(state, org) return org.parent and state.orgs[org.parent] or org end

--- Whether `id` is the organization or one of its departments.
function orgs.within(state, id, org_id)
  local org = state.orgs[id]
  return id == org_id or org ~= nil and org.parent == org_id
end

--- Subject attributes of OV and EV certificates.
function orgs.subject(state, org)
  local top = orgs.top(state, org)
  return {O = top.name, L = top.city, ST = top.stateOrProvince, C = top.country}
end

local function children(state, org, show)
  local list = {}
  for _, id in ipairs(state.org_order) do
    local department = state.orgs[id]
    if department and department.parent == org.id then
      list[#list + 1] = show(department)
    end
  end
  return json.array(list)
end

-- ---------------------------------------------------------------- showing

local function short(state)
  return function(org)
    local parent = org.parent and state.orgs[org.parent]
    return {id = org.id, name = org.name, parentName = parent and parent.name}
  end
end

local function listed(call)
  local list, state = {}, call.state
  for _, id in ipairs(state.org_order) do
    local org = state.orgs[id]
    if org and not org.parent then
      list[#list + 1] = {id = org.id, name = org.name,
        departments = children(state, org, short(state))}
    end
  end
  return 200, json.array(list)
end

local CERT_TYPES = {"SSL", "SMIME", "CodeSign"}

local function details(state, org)
  local shown = {id = org.id, certTypes = json.array(CERT_TYPES),
    departments = children(state, org, short(state))}
  for _, name in ipairs(PLAIN) do
    local read = READ_AS[name] or name
    shown[read] = org[read]
  end
  return shown
end

local function by_path(call)
  local id = wire.id(call, "id", -1023)
  return call.state.orgs[id] or wire.missing(-1023,
    ("Organization with id %d was not found"):format(id))
end

local function get(call) return 200, details(call.state, by_path(call)) end

local ROLES = {MRAO = true, RAO_SSL = true, RAO_SMIME = true, RAO_DEVICE = true,
  RAO_CS = true, DRAO_SSL = true, DRAO_SMIME = true, DRAO_DEVICE = true, DRAO_CS = true}

local function managed_by(call)
  if not ROLES[call.params.role] then
    wire.fail(-1601, ("Field ''role'' has invalid value %s"):format(call.params.role))
  end
  local list, show = {}, short(call.state)
  for _, id in ipairs(call.state.org_order) do
    local org = call.state.orgs[id]
    if org then list[#list + 1] = show(org) end
  end
  return 200, json.array(list)
end

local REPORT_TYPES = {SSL = true, Client = true, Device = true, CodeSign = true}

local function by_report_type(call)
  if not REPORT_TYPES[call.params.type] then
    wire.fail(-1601, ("Field ''type'' has invalid value %s"):format(call.params.type))
  end
  return listed(call)
end

-- ---------------------------------------------------------------- changing

local function same_level(state, name, parent)
  for _, org in pairs(state.orgs) do
    if org.name == name and org.parent == parent then return org end
  end
end

local function parent_of(state, name)
  local parent = same_level(state, name, nil)
  return parent and parent.id
    or wire.fail(-1023, ("Organization ''%s'' was not found"):format(name))
end

local function create(call)
  auth.need(call, "addOrganizationAndDepartments", "organization creation")
  local state, body = call.state, wire.body(call, CREATE)
  local parent = body.parentOrgName and parent_of(state, body.parentOrgName)
  if same_level(state, body.name, parent) then
    wire.fail(-1021, ("Organization ''%s'' exists already"):format(body.name))
  end
  local org = {id = state:next_id "org", parent = parent, sslCertsApiEnabled = false,
    clientCertsApiEnabled = false}
  take(org, body)
  state.orgs[org.id], state.org_order[#state.org_order + 1] = org, org.id
  return wire.created(call, "/api/organization/v1/" .. org.id)
end

local function update(call)
  auth.need(call, "editOrganizationAndDepartment", "organization update")
  local org = by_path(call)
  take(org, wire.body(call, UPDATE))
  return 200, details(call.state, org)
end

local function remove(call)
  auth.need(call, "editOrganizationAndDepartment", "organization deletion")
  local state, org = call.state, by_path(call)
  if #children(state, org, short(state)) > 0 then
    wire.fail(-1021, "The organization has departments")
  end
  state.orgs[org.id] = nil
  for i, id in ipairs(state.org_order) do
    if id == org.id then table.remove(state.org_order, i) break end
  end
  return call.admin_face and 200 or 204
end

function orgs.routes(routes)
  routes:add("GET", "/api/organization/v1", listed)
  routes:add("POST", "/api/organization/v1", create)
  routes:add("GET", "/api/organization/v1/{id}", get)
  routes:add("PUT", "/api/organization/v1/{id}", update)
  routes:add("DELETE", "/api/organization/v1/{id}", remove)
  routes:add("GET", "/api/organization/v1/managedBy,managed-by/{role}", managed_by)
  routes:add("GET", "/api/organization/v1/report-type/{type}", by_report_type)
end

return orgs
