--- The estate file: which certificates there are, who issues them, where they are installed.
--
--     local estate = require "estate"
--     local e = estate.load(estate.find(options.config))
--     for _, certificate in ipairs(e.certificates) do … end
--
-- The file is Lua data, read in a cage: no I/O, bounded time and memory. Every mistake in it
-- is reported at once, each with its place and its mend. A `secret "env:NAME"` in it is only
-- a reference until estate.secret resolves it.

local args = require "args"
local cage = require "cage"
local errors = require "errors"
local estate_check = require "estate_check"
local fs = require "fs"
local practice = require "practice"
local process = require "process"
local scm_estate = require "scm_estate"
local setting = require "estate_setting"
local time = require "time"

local estate = {}

------------------------------------------------------------------ finding and reading

--- The estate file to use: the given one, $SECRUN_CONFIG, /etc/secrun/secrun.lua for root,
--- else $XDG_CONFIG_HOME/secrun/secrun.lua.
---@param given string?
---@return string path
function estate.find(given)
  given = given or process.env("SECRUN_CONFIG")
  if given then return given end
  if process.uid == 0 then return "/etc/secrun/secrun.lua" end
  local base, home = process.env("XDG_CONFIG_HOME"), process.env("HOME")
  if base and base ~= "" then return base .. "/secrun/secrun.lua" end
  if home and home ~= "" then return home .. "/.config/secrun/secrun.lua" end
  errors.raise("usage", "no estate file is named, and HOME is not set; name one with "
    .. "--config FILE or $SECRUN_CONFIG", {code = "ESTATE"})
end

--- Where state is kept: $STATE_DIRECTORY, else $XDG_STATE_HOME/secrun, else
--- ~/.local/state/secrun.
---@return string path
function estate.state_folder()
  local folder = process.env("STATE_DIRECTORY")
  if folder and folder ~= "" then return folder end
  local base = process.env("XDG_STATE_HOME")
  if base and base ~= "" then return base .. "/secrun" end
  local home = process.env("HOME")
  if not home or home == "" then
    errors.raise("usage", "no place for state: set STATE_DIRECTORY, XDG_STATE_HOME or "
      .. "HOME, or `state = \"/path\"` in the estate file", {code = "ESTATE"})
  end
  return home .. "/.local/state/secrun"
end

local function read(path)
  local text, err = try(fs.read, path, {max = 4 * 1024 * 1024})
  if not text then
    if err.kind == "not_found" then
      errors.raise("usage", ("no estate file at %s; name one with --config FILE or "
        .. "$SECRUN_CONFIG"):format(path), {code = "ESTATE", cause = err})
    end
    errors.raise("usage", err.message, {code = "ESTATE", cause = err})
  end
  local trusted, why = try(function()
    fs.check_owner(path)
    return true
  end)
  if not trusted then
    errors.raise("usage", why.message, {code = "ESTATE", cause = why})
  end
  local data
  data, err = try(cage.data, {text = text, name = path, allowed = estate_check.GLOBALS,
    what = "estate file"})
  if not data then errors.raise("usage", err.message, {code = "ESTATE", cause = err}) end
  return data
end

--- Fill in what a certificate leaves to us.
local function complete(e, certificate)
  certificate.key_type = certificate.key_type or "p256"
  certificate.renew_before = args.duration(certificate.renew_before or "30d")
  certificate.install = certificate.install
    or {dir = e.state .. "/live/" .. certificate.name}
end

--- No child inherits a variable that the file calls a secret, resolved or not.
local function withhold(value)
  local source = value["$secret"]
  local name = type(source) == "string" and source:match("^env:(.+)")
  if name then process.withhold(name) end
  for _, inner in pairs(value) do
    if type(inner) == "table" then withhold(inner) end
  end
end

--- Read and check an estate file. Raises usage (code ESTATE) when it cannot be read, when
--- root would trust a file that others can write, or when it is wrong: then `details` are all
--- the mistakes, each with its place and its mend.
---@param path string
---@return table estate {path, state, store, keep, acme, orgs, policies, challenge, certificates}
function estate.load(path)
  local e = read(path)
  withhold(e)
  local problems = estate_check.problems(e)
  if #problems > 0 then
    errors.raise("usage", ("%s has %d mistake%s"):format(path, #problems,
      #problems == 1 and "" or "s"), {code = "ESTATE", details = problems})
  end
  e.path = path
  e.folder = path:match("^(.*)/[^/]*$") or "."
  e.state = practice.path(e.state or estate.state_folder())
  if practice.folder() then e.store = nil end -- the sandbox has one of its own
  e.store = e.store or "sqlite:" .. e.state .. "/secrun.db"
  e.keep = math.max(e.keep or 3, 2)
  e.policies = e.policies or {"keys", "names"}
  for _, certificate in ipairs(e.certificates) do complete(e, certificate) end
  return e
end

--- Add a certificate that does not stand in the file, for this run. Raises usage (code
--- COMMAND_LINE) with every mistake.
---@param e table estate
---@param certificate table as in the file
---@return table certificate
function estate.add(e, certificate)
  local problems = estate_check.certificate(e, certificate)
  if #problems > 0 then
    for i, text in ipairs(problems) do
      problems[i] = text:gsub("^certificates%[%d+%] %([^)]*%): ", "")
    end
    errors.raise("usage", table.concat(problems, "; "), {code = "COMMAND_LINE"})
  end
  complete(e, certificate)
  e.certificates[#e.certificates + 1] = certificate
  return certificate
end

------------------------------------------------------------------ questions

-- Settings of a certificate, and secrets; see estate_setting.lua.
estate.of, estate.channel = setting.of, setting.channel
estate.is_reference, estate.secret = setting.is_reference, setting.secret
estate.secret_sources = setting.secret_sources

--- What the policies are asked about a certificate.
function estate.request(e, certificate)
  return {
    action = "renew", name = certificate.name, org = certificate.org,
    names = certificate.domains, key_type = certificate.key_type,
    product = certificate.product, owner = certificate.owner, term = certificate.term,
    channel = setting.channel(e, certificate),
    allow_internal = estate.of(e, certificate, "allow_internal"),
  }
end

--- The SCM settings of each organization that has some, sorted: {{org =, settings =}}; the
--- estate's own stand under "(all)".
---@return {org: string, settings: table}[]
function estate.scm_logins(e)
  local logins = {}
  if e.scm then logins[1] = {org = "(all)", settings = e.scm} end
  for name, org in pairs(e.orgs or {}) do
    if org.scm then logins[#logins + 1] = {org = name, settings = org.scm} end
  end
  table.sort(logins, function(a, b) return a.org < b.org end)
  return logins
end

--- A connection to the SCM of an organization, or of the estate. Raises usage without one.
---@param e table
---@param org string?
---@param as "approver"|nil with the login that approves
---@return scm.Connection
function estate.scm(e, org, as)
  local own = org and (e.orgs or {})[org]
  local settings = own and own.scm or e.scm
  if not settings then
    errors.raise("usage", ("%s has no scm%s; add scm = {customer_uri = …, login = …, "
      .. "password = secret …}"):format(e.path, org and " for orgs." .. org or ""),
      {code = "ESTATE"})
  end
  return scm_estate.connect(settings, setting.secret, as)
end

--- The certificates with these names, or all; raises usage for a name that is not there.
function estate.select(e, names)
  if #names == 0 then return e.certificates end
  local known, list, chosen = {}, {}, {}
  for _, certificate in ipairs(e.certificates) do
    known[certificate.name] = certificate
    list[#list + 1] = certificate.name
  end
  for _, name in ipairs(names) do
    if not known[name] then
      local close = args.suggest(name, list)
      local mend = close and "did you mean " .. close .. "?"
        or "it has: " .. table.concat(list, ", ")
      errors.raise("usage", ("%s has no certificate %q; %s"):format(e.path, name, mend),
        {code = "COMMAND_LINE"})
    end
    chosen[#chosen + 1] = known[name]
  end
  return chosen
end

--- What the file names and this machine lacks: CA files, secrets, webroots, programs.
---@return string[] texts each with its place
function estate.missing(e) return require("estate_missing").list(e) end

local DAY = 86400

--- When a certificate is due: not_after − max(renew_before, lifetime/3); half of its life
--- when it lives less than ten days.
---@return number instant UTC seconds
function estate.due_at(certificate, not_before, not_after)
  local lifetime = not_after - not_before
  if lifetime < 10 * DAY then return not_after - lifetime / 2 end
  local before = math.max(certificate.renew_before, lifetime / 3)
  return not_after - math.min(before, lifetime * 2 / 3)
end

--- Why a certificate has to be renewed now, or nil and when it will be due.
---@param certificate table
---@param installed table? what deploy.current gave
---@return string? why
---@return number? instant
function estate.why_due(certificate, installed)
  if not installed then return "there is none yet" end
  if installed.broken then return "it cannot be read: " .. installed.broken end
  if installed.key_broken then return "its key is of no use: " .. installed.key_broken end
  if not installed.matches then return "its key does not match" end
  local leaf = installed.leaf
  for _, name in ipairs(certificate.domains) do
    if not leaf:covers(name) then return name .. " is not in it" end
  end
  if #leaf.names > #certificate.domains then return "it has names that are gone" end
  local at = estate.due_at(certificate, leaf.not_before, leaf.not_after)
  local left = leaf.not_after - time.now()
  if left <= 0 then return "it expired " .. time.show(-left) .. " ago" end
  if at <= time.now() then return "it expires in " .. time.show(left) end
  return nil, at
end

return estate
