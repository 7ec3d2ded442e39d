--- Certificate profiles: the product catalogue, terms that follow the calendar, key types.
--
-- What the CA/Browser Forum allows shrinks over the years (ballot SC-081v3): the terms that a
-- profile offers are those of the sandbox's day.

local json = require "json"
local wire = require "sandbox_wire"

local profiles = {}

local KEYS = {RSA = {"2048", "3072", "4096"}, EC = {"P-256", "P-384"}}

--- id, name, level, wildcard ("none", "only", "allowed"), most names.
local CATALOGUE = {
  {501, "PositiveSSL", "DV", "none", 1},
  {502, "PositiveSSL Wildcard", "DV", "only", 1},
  {503, "PositiveSSL Multi-Domain", "DV", "allowed", 100},
  {511, "InstantSSL", "OV", "none", 1},
  {512, "InstantSSL Pro", "OV", "none", 1},
  {513, "InstantSSL Premium Wildcard", "OV", "only", 1},
  {521, "EV SSL", "EV", "none", 1},
  {522, "EV Multi-Domain", "EV", "none", 100},
}

--- From this instant on: the longest term, and how long a domain's validation lasts.
local SCHEDULE = {
  {from = 0, term = 397, dcv = 398},
  {from = 1773532800, term = 199, dcv = 200}, -- 2026-03-15
  {from = 1805068800, term = 99, dcv = 100},  -- 2027-03-15
  {from = 1868227200, term = 46, dcv = 10},   -- 2029-03-15
}

local TERMS = {30, 46, 90, 99, 199, 365, 397}

--- What the calendar allows at an instant: {term, dcv} in days.
function profiles.limits(instant)
  local found
  for _, row in ipairs(SCHEDULE) do
    if instant >= row.from then found = row end
  end
  return found
end

function profiles.seed(state)
  state.profiles, state.profile_order = {}, {}
  local function add(id, name, level, wildcard, names)
    local profile = {id = id, name = name, level = level, wildcard = wildcard,
      names = names, key_types = KEYS, description = ("%s, %s"):format(name, level)}
    state.profiles[id], state.profile_order[#state.profile_order + 1] = profile, id
  end
  for _, row in ipairs(CATALOGUE) do add(table.unpack(row)) end
  if state.settings.duplicate_profiles then add(599, "InstantSSL", "OV", "none", 1) end
end

--- The terms a profile offers now, in days, shortest first.
function profiles.terms(state)
  local list, longest = {}, profiles.limits(state.now()).term
  for _, term in ipairs(TERMS) do
    if term <= longest then list[#list + 1] = term end
  end
  return json.array(list)
end

--- A profile as /types and certificate details show it.
function profiles.show(state, profile)
  local keys = {}
  for kind, sizes in pairs(profile.key_types) do keys[kind] = json.array(sizes) end
  return {id = profile.id, name = profile.name, description = profile.description,
    useSecondaryOrgName = false, terms = profiles.terms(state), keyTypes = keys}
end

local function types(call)
  local state, org_id = call.state, wire.number(call, "organizationId")
  if org_id and not state.orgs[org_id] then
    wire.fail(-1023, ("Organization with id %d was not found"):format(org_id))
  end
  local list = {}
  for _, id in ipairs(state.profile_order) do
    list[#list + 1] = profiles.show(state, state.profiles[id])
  end
  return 200, json.array(list)
end

-- ---------------------------------------------------------------- /api/profile/v1 (26.x)

local function show_new(_, profile)
  return {id = profile.id, name = profile.name, description = profile.description,
    certType = "SSL", backendType = "SECTIGO", delegationMode = "GLOBAL_FOR_CUSTOMER"}
end

--- "name,desc" → an order; raises for fields that cannot be sorted by.
local function sorter(call)
  local field, way = (wire.text(call, "sort") or "id"):match "^(%w+),?(%w*)$"
  if field ~= "id" and field ~= "name" then
    wire.fail(-1601, "Field ''sort'' has invalid value")
  end
  return function(a, b)
    if way:lower() == "desc" then a, b = b, a end
    if a[field] ~= b[field] then return a[field] < b[field] end
    return a.id < b.id
  end
end

local function new_list(call)
  local list, state = {}, call.state
  local kind, name = wire.text(call, "certType"), wire.text(call, "name")
  for _, id in ipairs(state.profile_order) do
    local profile = state.profiles[id]
    if (not kind or wire.same_word(kind, "SSL")) and wire.contains(profile.name,
      name) then
      list[#list + 1] = profile
    end
  end
  table.sort(list, sorter(call))
  return wire.list(call, list, show_new, wire.new_window)
end

local function new_get(call)
  local profile = call.state.profiles[wire.id(call, "id", -111)]
    or wire.missing(-111, ("Profile with id %s was not found"):format(call.params.id))
  local shown = show_new(call, profile)
  shown.attributes = {validationLevel = profile.level,
    maxNames = tostring(profile.names), wildcard = profile.wildcard}
  return 200, shown
end

function profiles.routes(routes)
  routes:add("GET", "/api/ssl/v1,v2/types", types)
  routes:add("GET", "/api/profile/v1", new_list)
  routes:add("GET", "/api/profile/v1/{id}", new_get)
end

return profiles
