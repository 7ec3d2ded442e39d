--- Domains and their delegation to organizations and departments.

local auth = require "sandbox_auth"
local json = require "json"
local profiles = require "sandbox_profiles"
local wire = require "sandbox_wire"

local domains = {}

local ALL_PRIVILEGES = {"DOMAIN", "SUBDOMAIN", "WILDCARD_1ST_LEVEL", "WILDCARD_2ND_LEVEL"}
local DELEGATION = [[certTypes:[s(SSL|SMIME|CodeSign)],
domainCertificateRequestPrivileges:
  [s(DOMAIN|SUBDOMAIN|WILDCARD_1ST_LEVEL|WILDCARD_2ND_LEVEL)] ]]
local MONITORING = "{enabled:b, includeSubdomains:b, bucketId:s}"

local CREATE = wire.shape("{name!:s(<=255), description:s(<=255), active:a, "
  .. "ctLogMonitoring:" .. MONITORING .. ", delegations:[{orgId!:n, " .. DELEGATION
    .. "}]}")
local DELEGATE = wire.shape("{orgId!:n(>=1), " .. DELEGATION .. "}")
local DELEGATE_MANY = wire.shape("{orgId!:n(>=1), domainIds!:[n](1..1000), "
  .. DELEGATION .. "}")
local DECIDE = wire.shape "{orgId!:n(>=1)}"
local MONITOR = wire.shape(MONITORING)

--- Endings under which anybody may have a name.
local PUBLIC = {["co.uk"] = true, ["org.uk"] = true, ["com.au"] = true, ["co.jp"] = true}

--- The registrable domain of a name: its last two labels, three under co.uk and the like.
function domains.registrable(name)
  local two = name:match "([^.]+%.[^.]+)$"
  if two and PUBLIC[two] then return name:match "([^.]+%.[^.]+%.[^.]+)$" end
  return two
end

-- ---------------------------------------------------------------- keeping

local function add(state, name, more)
  local domain = {id = state:next_id "domain", name = name, state = "ACTIVE",
    requested = state.now(), delegations = {}, monitoring = {enabled = false,
      includeSubdomains = false}, order = {status = "NOT_INITIATED"}}
  for key, value in pairs(more or {}) do domain[key] = value end
  state.domains[domain.id], state.domain_names[name] = domain, domain
  state.domain_order[#state.domain_order + 1] = domain.id
  return domain
end

local function delegated(org_id, status)
  return {org_id = org_id, cert_types = {"SSL", "SMIME"}, privileges = ALL_PRIVILEGES,
    status = status or "ACTIVE"}
end

--- Validated domains of two organizations, and one each that is expired, new or not yet
--- delegated.
function domains.seed(state)
  state.domains, state.domain_names, state.domain_order = {}, {}, {}
  local day, now = 86400, state.started
  local dcv = profiles.limits(now).dcv * day
  local function made(name, orgs, validated, expires)
    local list = {}
    for i, id in ipairs(orgs) do list[i] = delegated(id) end
    add(state, name, {delegations = list, validated = validated, expires = expires,
      method = validated and "CNAME_CSR_HASH", requested = now - 400 * day})
  end
  made("example.com", {101, 102, 103}, now - 30 * day, now - 30 * day + dcv)
  made("example.org", {101, 103}, now - 3 * day, now - 3 * day + dcv)
  made("example.net", {201, 202}, now - 20 * day, now - 20 * day + dcv)
  made("expired.test", {101, 201}, now - 500 * day, now - 100 * day)
  made("new.test", {101, 301})
  made("startup.test", {301}, now - day, now - day + dcv)
  add(state, "requested.test", {delegations = {delegated(101, "REQUESTED")},
    validated = now - day, expires = now - day + dcv, method = "EMAIL"})
end

--- "NOT_VALIDATED", "VALIDATED" or "EXPIRED", now.
function domains.status(state, domain)
  if not domain.validated then return "NOT_VALIDATED" end
  return state.now() < domain.expires and "VALIDATED" or "EXPIRED"
end

--- The domain of a record that a name (perhaps a wildcard) falls under, the closest one.
---@return table?
function domains.covering(state, name)
  local rest = name:gsub("^%*%.", "")
  if state.domain_names[name] then return state.domain_names[name] end
  while rest and rest ~= "" do
    if state.domain_names[rest] then return state.domain_names[rest] end
    rest = rest:match "^[^.]+%.(.+)$"
  end
end

--- Which privilege a name needs.
local function privilege_for(name, domain)
  if name == domain.name then return "DOMAIN" end
  if name == "*." .. domain.name then return "WILDCARD_1ST_LEVEL" end
  return name:find "^%*%." and "WILDCARD_2ND_LEVEL" or "SUBDOMAIN"
end

local function has(list, word)
  for _, one in ipairs(list) do
    if one == word then return true end
  end
  return false
end

--- Whether an organization may ask for certificates for a name.
function domains.allows(domain, org_id, name)
  if domain.state ~= "ACTIVE" then return false end
  for _, delegation in ipairs(domain.delegations) do
    if delegation.org_id == org_id and delegation.status == "ACTIVE"
      and has(delegation.cert_types, "SSL")
      and has(delegation.privileges, privilege_for(name, domain)) then
      return true
    end
  end
  return false
end

-- ---------------------------------------------------------------- reading

local function by_path(call)
  local id = wire.id(call, "id", -727)
  return call.state.domains[id] or wire.missing(-727, "Domain does not exist")
end

local function delegation_status(domain)
  for _, delegation in ipairs(domain.delegations) do
    if delegation.status == "ACTIVE" then return "ACTIVE" end
  end
  return #domain.delegations > 0 and "REQUESTED" or "ACTIVE"
end

local function show_delegation(delegation)
  return {orgId = delegation.org_id, status = delegation.status,
    certTypes = json.array(table.move(delegation.cert_types, 1,
      #delegation.cert_types, 1, {})),
    domainCertificateRequestPrivileges = json.array(table.move(delegation.privileges, 1,
      #delegation.privileges, 1, {}))}
end

local function get(call)
  local domain, list = by_path(call), {}
  for i, delegation in ipairs(domain.delegations) do
    list[i] = show_delegation(delegation)
  end
  return 200, {id = domain.id, name = domain.name, state = domain.state,
    delegationStatus = delegation_status(domain),
    validationStatus = domains.status(call.state, domain),
    validationMethod = domain.method or nil,
    dcvValidation = wire.date(call, domain.validated, "ISO"),
    dcvExpiration = wire.date(call, domain.expires, "ISO"),
    ctLogMonitoring = domain.monitoring, delegations = json.array(list)}
end

local STATES = {active = "ACTIVE", inactive = "SUSPENDED", suspended = "SUSPENDED"}
local STATUSES = {requested = "REQUESTED", approved = "ACTIVE", active = "ACTIVE"}

local function word_of(words, call, name)
  local text = wire.text(call, name)
  if not text then return nil end
  return words[text:lower()]
    or wire.fail(-1601, ("Field ''%s'' has invalid value %s"):format(name, text))
end

local function delegated_to(domain, org_id, status)
  if not org_id and not status then return true end
  for _, delegation in ipairs(domain.delegations) do
    if (not org_id or delegation.org_id == org_id)
      and (not status or delegation.status == status) then
      return true
    end
  end
  return false
end

local function filtered(call)
  local list, state = {}, call.state
  local name, org_id = wire.text(call, "name"), wire.number(call, "orgId")
  local wanted, status = word_of(STATES, call, "state"), word_of(STATUSES, call, "status")
  for _, id in ipairs(state.domain_order) do
    local domain = state.domains[id]
    if domain and wire.contains(domain.name, name)
      and (not wanted or domain.state == wanted)
      and delegated_to(domain, org_id, status) then
      list[#list + 1] = domain
    end
  end
  return list
end

local function list(call)
  return wire.list(call, filtered(call), function(_, domain)
    return {id = domain.id, name = domain.name}
  end)
end

local function count(call) return 200, {count = #filtered(call)} end

-- ---------------------------------------------------------------- changing

local function may_manage(call)
  auth.need(call, "allowManageDomains", "domain management")
end

local function check_name(name)
  local bare = name:gsub("^%*%.", "")
  if #name < 4 then wire.fail(-712, "The domain name is too short") end
  if not bare:find "%." then wire.fail(-714, "The domain name has too few dots") end
  for label in (bare .. "."):gmatch "([^.]*)%." do
    if #label > 63 then wire.fail(-713, "The domain name is too long") end
    if not label:find "^[%w_-]+$" or label:find "^%-" or label:find "%-$" then
      wire.fail(-732, ("Invalid domain name ''%s''"):format(name))
    end
  end
end

--- Delegate to an organization, at once for those who may approve, else as a request.
local function delegate(call, domain, body)
  local state = call.state
  if not state.orgs[body.orgId] then
    wire.fail(-1023, ("Organization with id %d was not found"):format(body.orgId))
  end
  local status = call.admin.privileges.approveDomainDelegation and "ACTIVE" or "REQUESTED"
  local found
  for _, delegation in ipairs(domain.delegations) do
    if delegation.org_id == body.orgId then found = delegation end
  end
  if not found then
    found = {org_id = body.orgId}
    domain.delegations[#domain.delegations + 1] = found
  end
  found.status = found.status == "ACTIVE" and "ACTIVE" or status
  found.cert_types = body.certTypes or {"SSL"}
  found.privileges = body.domainCertificateRequestPrivileges or ALL_PRIVILEGES
end

local function create(call)
  may_manage(call)
  local state, body = call.state, wire.body(call, CREATE)
  local name = body.name:lower()
  check_name(name)
  if state.domain_names[name] then
    wire.fail(-700, ("Domain ''%s'' already exists"):format(name))
  end
  if not body.delegations or #body.delegations == 0 then
    wire.fail(-709, "The domain must be delegated to at least one organization")
  end
  for _, delegation in ipairs(body.delegations) do
    if not state.orgs[delegation.orgId] then
      wire.fail(-1023, ("Organization with id %d was not found"):format(delegation.orgId))
    end
  end
  local domain = add(state, name, {description = body.description,
    state = (body.active == false or body.active == "false") and "SUSPENDED" or "ACTIVE"})
  for _, delegation in ipairs(body.delegations) do delegate(call, domain, delegation) end
  if body.ctLogMonitoring then domain.monitoring = body.ctLogMonitoring end
  return wire.created(call, "/api/domain/v1/" .. domain.id)
end

local function remove(call)
  may_manage(call)
  local state, domain = call.state, by_path(call)
  if state.certs:any_under(domain.name) then
    wire.fail(-740, "There are certificates for the domain")
  end
  state.domains[domain.id], state.domain_names[domain.name] = nil, nil
  for i, id in ipairs(state.domain_order) do
    if id == domain.id then table.remove(state.domain_order, i) break end
  end
  return call.admin_face and 200 or 204
end

local function set_state(value)
  return function(call)
    may_manage(call)
    if not call.admin.privileges.approveDomainDelegation then
      wire.fail(-738, "The operation is denied")
    end
    by_path(call).state = value
    return 200
  end
end

local function monitor(call)
  may_manage(call)
  local domain, body = by_path(call), wire.body(call, MONITOR)
  if body.enabled and not body.bucketId then
    wire.fail(-7, "Required value is missing: bucketId")
  end
  for key, value in pairs(body) do domain.monitoring[key] = value end
  return 200
end

local function delegate_one(call)
  may_manage(call)
  delegate(call, by_path(call), wire.body(call, DELEGATE))
  return 200
end

local function delegate_many(call)
  may_manage(call)
  local body, found = wire.body(call, DELEGATE_MANY), {}
  for i, id in ipairs(body.domainIds) do
    found[i] = call.state.domains[id] or wire.fail(-727, "Domain does not exist")
  end
  for _, domain in ipairs(found) do delegate(call, domain, body) end
  return 200
end

local function find_delegation(domain, org_id)
  for i, delegation in ipairs(domain.delegations) do
    if delegation.org_id == org_id then return i, delegation end
  end
  wire.fail(-707, "The delegation request was deleted already")
end

local function undelegate(call)
  may_manage(call)
  local domain, body = by_path(call), wire.body(call, DELEGATE)
  local at, delegation = find_delegation(domain, body.orgId)
  local left = {}
  for _, kind in ipairs(delegation.cert_types) do
    if body.certTypes and not has(body.certTypes, kind) then left[#left + 1] = kind end
  end
  delegation.cert_types = left
  if #left == 0 then table.remove(domain.delegations, at) end
  return 200
end

local function decide(approved)
  return function(call)
    auth.need(call, "approveDomainDelegation", "domain delegation approval")
    local domain = by_path(call)
    local at, delegation = find_delegation(domain, wire.body(call, DECIDE).orgId)
    if delegation.status ~= "REQUESTED" then
      wire.fail(-705, "The delegation is not in state ''Requested''")
    end
    if approved then
      delegation.status = "ACTIVE"
    else
      table.remove(domain.delegations, at)
    end
    return 200
  end
end

function domains.routes(routes)
  routes:add("GET", "/api/domain/v1", list)
  routes:add("POST", "/api/domain/v1", create)
  routes:add("GET", "/api/domain/v1/count", count)
  routes:add("POST", "/api/domain/v1/delegation", delegate_many)
  routes:add("GET", "/api/domain/v1/{id}", get)
  routes:add("DELETE", "/api/domain/v1/{id}", remove)
  routes:add("PUT", "/api/domain/v1/{id}/monitoring", monitor)
  routes:add("PUT", "/api/domain/v1/{id}/activate", set_state "ACTIVE")
  routes:add("PUT", "/api/domain/v1/{id}/suspend", set_state "SUSPENDED")
  routes:add("POST", "/api/domain/v1/{id}/delegation", delegate_one)
  routes:add("DELETE", "/api/domain/v1/{id}/delegation", undelegate)
  routes:add("POST", "/api/domain/v1/{id}/delegation/approve", decide(true))
  routes:add("POST", "/api/domain/v1/{id}/delegation/reject", decide(false))
end

return domains
