--- Organizations and profiles by name, per connection and kept for some minutes.
--
--     local org = scm_names.organization(conn, "Example Corp/IT")      -- id, path
--     local id, profile = scm_names.profile(conn, "InstantSSL Pro", org)
--
-- Ids are per customer, so people and files name things. A name that several share is
-- refused with what tells them apart; one that is not there, with the closest.

local args = require "args"
local errors = require "errors"
local scm_call = require "scm_call"
local time = require "time"

local KEPT = 300   -- seconds
local FRESH = 5    -- a miss in a list older than this is looked up again

local scm_names = {}

--- The list kept under key, made by load when it is too old.
local function cached(conn, key, age, load)
  local kept = conn.kept[key]
  if not kept or time.mono() - kept.at > age then
    kept = {at = time.mono(), list = load()}
    conn.kept[key] = kept
  end
  return kept.list
end

local function same(a, b) return a:lower() == b:lower() end

--- The entries that a name means: written so, else in any case.
local function matches(list, name, fields)
  for _, equal in ipairs{rawequal, same} do
    local found = {}
    for _, entry in ipairs(list) do
      for _, field in ipairs(fields) do
        if entry[field] and equal(entry[field], name) then
          found[#found + 1] = entry
          break
        end
      end
    end
    if #found > 0 then return found end
  end
  return {}
end

local function refuse(code, text)
  errors.raise(code == "UNKNOWN_NAME" and "not_found" or "usage", text, {code = code})
end

--- One entry of that name, or an error that says what there is.
local function only(what, name, found, list, field)
  if #found == 1 then return found[1] end
  if #found == 0 then
    local names = {}
    for i, entry in ipairs(list) do names[i] = entry[field] end
    local close = args.suggest(name, names)
    table.sort(names)
    local shown = table.concat(names, ", ", 1, math.min(#names, 12))
    refuse("UNKNOWN_NAME", ("%s %q is not there for this login%s"):format(what, name,
      close and ("; did you mean %q?"):format(close)
      or #names > 0 and "; there are: " .. shown or ", and no other"))
  end
  local shown = {}
  for i, entry in ipairs(found) do
    shown[i] = ("%d (%s)"):format(entry.id,
      entry.path or entry.description or entry[field])
  end
  refuse("AMBIGUOUS_NAME", ("%s %q: %d have this name: %s; give the id"):format(what,
    name, #found, table.concat(shown, ", ")))
end

--- Look a name up, once more in a new list when it is not in the kept one.
local function look_up(conn, key, what, name, fields, load)
  local list = cached(conn, key, KEPT, load)
  local found = matches(list, name, fields)
  if #found == 0 then
    list = cached(conn, key, FRESH, load)
    found = matches(list, name, fields)
  end
  return only(what, name, found, list, fields[1])
end

--- Departments stand beside their organization, as "Organization/Department".
local function flatten(tree)
  local list = {}
  for _, org in ipairs(tree) do
    list[#list + 1] = {id = org.id, name = org.name, path = org.name}
    for _, department in ipairs(org.departments or {}) do
      list[#list + 1] = {id = department.id, name = department.name, parent = org.id,
        path = org.name .. "/" .. department.name}
    end
  end
  return list
end

--- The id of an organization or department: "Example Corp", "Example Corp/IT", "IT" where
--- no other has that name; an id as it is.
---@param conn scm.Connection
---@param given string|integer
---@return integer id
---@return string? path
function scm_names.organization(conn, given)
  if math.type(given) == "integer" then return given end
  if type(given) ~= "string" then
    refuse("BAD_ARGUMENT", "org: expected a name or an id, got " .. type(given))
  end
  local entry = look_up(conn, "organizations", "organization", given, {"path", "name"},
    function() return flatten((scm_call.run(conn, "organization.list", {}, {}))) end)
  return entry.id, entry.path
end

--- The id and the profile itself: {id, name, terms, keyTypes, …}. Of an id the profile
--- comes along where the organization has it.
---@param conn scm.Connection
---@param given string|integer
---@param org integer id
---@param resource string? ssl, smime or device
---@return integer id
---@return table? profile
function scm_names.profile(conn, given, org, resource)
  local operation = (resource or "ssl") .. ".profiles"
  local key = ("%s %d"):format(operation, org)
  local function load()
    return (scm_call.run(conn, operation, {organizationId = org}, {}))
  end
  if math.type(given) == "integer" then
    for _, profile in ipairs(cached(conn, key, KEPT, load)) do
      if profile.id == given then return given, profile end
    end
    return given
  end
  if type(given) ~= "string" then
    refuse("BAD_ARGUMENT", "profile: expected a name or an id, got " .. type(given))
  end
  local profile = look_up(conn, key, "profile", given, {"name"}, load)
  return profile.id, profile
end

return scm_names
