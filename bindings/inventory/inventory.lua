--- Certificates as SCM has them: one row each, from every login of the estate.
--
--     inventory.each(e, {expires_within = "30d"}, function(row)
--       print(row.common_name, row.org, row.expires)
--     end)
--
-- SCM's list of certificates says little and its details cost a request each; the report has
-- everything. It comes in one answer, so it is asked for in spans of the expiry date, which
-- bounds what is held of it at a time; what has no expiry yet is asked for by its request.

local args = require "args"
local errors = require "errors"
local estate = require "estate"
local scm = require "scm"
local time = require "time"

local inventory = {}

local DAY = 86400
local SPAN = 30 * DAY       -- of one report by expiry
local BACK, AHEAD = 90 * DAY, 1200 * DAY -- how far around today

-- Numbers of SCM's report: certificateStatus and certificateDateAttribute.
local REQUESTED, BY_EXPIRY, BY_REQUEST = 1, 3, 4

---@class inventory.Row
---@field id integer SCM's id
---@field common_name string
---@field names string alternative names, as SCM writes them
---@field org string
---@field profile string
---@field status string
---@field requested number? UTC seconds
---@field expires number? UTC seconds
---@field serial string
---@field requester string
---@field via string
---@field issuer string
---@field comments string
---@field login string the organization of the estate whose login saw it

--- The fields of a row, in the order they are shown.
inventory.FIELDS = {"id", "common_name", "names", "org", "profile", "status", "requested",
  "expires", "serial", "requester", "via", "issuer", "comments", "login"}

local function date_of(text)
  if type(text) ~= "string" or text == "" then return nil end
  return try(scm.date, text)
end

local function row_of(entry, login)
  return {id = entry.id, common_name = entry.commonName, names = entry.subjAltNames or "",
    org = entry.organizationName or "", profile = entry.type or "",
    status = entry.status or "", requested = date_of(entry.requested),
    expires = date_of(entry.expires), serial = entry.serialNumber or "",
    requester = entry.requester or "", via = entry.requestedVia or "",
    issuer = entry.issuer or "", comments = entry.comments or "", login = login}
end

local function day(seconds) return scm.date_text(seconds, "ISO") end

--- The first to expire first; what has no expiry yet, last.
local function sooner(a, b)
  local x, y = a.expires or math.huge, b.expires or math.huge
  if x ~= y then return x < y end
  return a.id < b.id
end

--- The rows of one report that were not seen before, the first to expire first.
local function rows_of(connection, filter, login, seen)
  local rows = {}
  local answer = connection:call("report.ssl_certificates", filter)
  for _, entry in ipairs(answer.reports or {}) do
    if not seen[entry.id] then
      seen[entry.id] = true
      rows[#rows + 1] = row_of(entry, login)
    end
  end
  table.sort(rows, sooner)
  return rows
end

local function report(connection, filter, login, seen, fn)
  for _, row in ipairs(rows_of(connection, filter, login, seen)) do fn(row) end
end

--- Everything that one login sees, row by row.
local function walk(connection, login, options, seen, given)
  local now = time.now()
  local from = options.expired and now - BACK or now
  local to = now + (options.expires_within or AHEAD)
  if options.expired and options.expires_within == nil then from = now - 10 * BACK end
  local function fn(row) -- SCM's filters know days only
    local at = row.expires
    if at and (at > to or at < now and not options.expired) then return end
    given(row)
  end
  for at = from, to, SPAN do
    report(connection, {certificateDateAttribute = BY_EXPIRY, from = day(at),
      to = day(math.min(at + SPAN, to))}, login, seen, fn)
  end
  if options.expires_within == nil then
    report(connection, {certificateStatus = REQUESTED,
      certificateDateAttribute = BY_REQUEST, from = day(now - 10 * BACK),
      to = day(now + DAY)}, login, seen, fn)
  end
end

local LIST = {
  {name = "org", type = "string", doc = "of the estate: only what its login sees"},
  {name = "expires_within", type = "duration", doc = "from now"},
  {name = "expired", type = "boolean", doc = "with those that have expired"},
  {name = "where", type = "table", doc = "{field = glob}: in any case, * and ?"},
}

--- A glob as a pattern of Lua's, without regard to case.
local function pattern_of(glob)
  local text = glob:lower():gsub("[%^%$%(%)%%%.%[%]%+%-]", "%%%0")
  return "^" .. text:gsub("%*", ".*"):gsub("%?", ".") .. "$"
end

local function filter_of(where)
  local patterns = {}
  for field, glob in pairs(where or {}) do
    local known = false
    for _, name in ipairs(inventory.FIELDS) do known = known or name == field end
    if not known then
      local close = args.suggest(field, inventory.FIELDS)
      errors.raise("usage", ("a certificate has no field %q; %s"):format(field, close
        and "did you mean " .. close .. "?"
        or "it has: " .. table.concat(inventory.FIELDS, ", ")), {code = "COMMAND_LINE"})
    end
    patterns[field] = pattern_of(glob)
  end
  return function(row)
    for field, pattern in pairs(patterns) do
      local value = row[field]
      if field == "expires" or field == "requested" then
        value = value and time.rfc3339(value)
      end
      if not tostring(value or ""):lower():find(pattern) then return false end
    end
    return true
  end
end

local function logins_of(e, org)
  local logins = estate.scm_logins(e)
  if not org then
    if #logins > 0 then return logins end
    errors.raise("usage", ("%s has no login to SCM; add scm = {customer_uri = …, login = "
      .. "…, password = secret …}"):format(e.path), {code = "ESTATE"})
  end
  estate.scm(e, org) -- raises where there is none
  local own = (e.orgs or {})[org]
  return {{org = org, settings = own and own.scm or e.scm}}
end

--- Call fn with each certificate that the estate's logins see: login by login, the first to
--- expire first; logins to the same SCM give each once. Holds a month of them at a time.
---@param e table estate
---@param options {org: string?, expires_within: number?, expired: boolean?,
---  where: table<string, string>?}?
---@param fn fun(row: inventory.Row)
function inventory.each(e, options, fn)
  options = args.check("inventory.each", LIST, options)
  if options.expires_within then
    options.expires_within = args.duration(options.expires_within)
  end
  local fits, known = filter_of(options.where), {}
  for _, login in ipairs(logins_of(e, options.org)) do
    local connection = estate.scm(e, login.org ~= "(all)" and login.org or nil)
    local ids = known[connection.url] or {}
    known[connection.url] = ids
    walk(connection, login.org, options, ids, function(row)
      if fits(row) then fn(row) end
    end)
  end
end

--- All of them in a list, the first to expire first.
---@param e table estate
---@param options table? as of inventory.each
---@return inventory.Row[]
function inventory.list(e, options)
  local rows = {}
  inventory.each(e, options, function(row) rows[#rows + 1] = row end)
  table.sort(rows, sooner)
  return rows
end

return inventory
