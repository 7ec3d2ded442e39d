--- The estate file: which certificates there are, who issues them, where they are installed.
--
--     local estate = require "estate"
--     local e = estate.load(estate.find(options.config))
--     for _, certificate in ipairs(e.certificates) do … end
--
-- The file is Lua data, read in a cage: no I/O, bounded time and memory. Every mistake in it
-- is reported at once, each with its place and its mend. A `secret "env:NAME"` in it is only
-- a reference until estate.secret resolves it.

local alert_routes = require "alert_routes"
local args = require "args"
local cage = require "cage"
local challenges = require "estate_challenge"
local errors = require "errors"
local fs = require "fs"
local practice = require "practice"
local process = require "process"
local schedule_list = require "schedule_list"
local scm_estate = require "scm_estate"
local store = require "store"
local time = require "time"
local x509 = require "x509"

local estate = {}

local GLOBALS = {"acme", "challenge", "orgs", "policies", "certificates", "state", "keep",
  "allow_internal", "schedules", "alerts", "store", "scm"}

local ACME = {
  {name = "directory", type = "string", required = true, nonempty = true,
    doc = "the CA's directory URL"},
  {name = "contact", type = "list", choices = "string", doc = "mailto: addresses"},
  {name = "terms_agreed", type = "boolean", doc = "the CA's terms of service were read"},
  {name = "key", type = "string", doc = "account key file; made when it is missing"},
  {name = "eab", type = "table", doc = "{kid = …, hmac_key = secret …}"},
  {name = "ca", type = "string", doc = "PEM file that verifies the directory's TLS"},
  {name = "proxy", type = "string"},
}

local EAB = {
  {name = "kid", type = "string", required = true, nonempty = true, doc = "the key id"},
  {name = "hmac_key", type = "any", required = true, doc = 'secret "env:NAME"'},
  {name = "alg", type = "enum", choices = "HS256|HS384|HS512"},
}

local ORG = {
  {name = "acme", type = "table", doc = "as the estate's, for this organization"},
  {name = "policies", type = "list", choices = "string"},
  {name = "challenge", type = "table"},
  {name = "scm", type = "table", doc = "its login to SCM; see scm_estate.lua"},
}

local KEY_TYPES = "p256|p384|p521|rsa2048|rsa3072|rsa4096|ed25519"

local CERTIFICATE = {
  {name = "name", type = "string", required = true, nonempty = true,
    doc = "what people call it; also its folder's name"},
  {name = "domains", type = "list", choices = "string", required = true, nonempty = true,
    doc = "the names in the certificate"},
  {name = "org", type = "string"},
  {name = "product", type = "string"},
  {name = "owner", type = "string", doc = "whom to tell"},
  {name = "key_type", type = "enum", choices = KEY_TYPES, doc = "p256 by default"},
  {name = "reuse_key", type = "boolean", doc = "keep the key over renewals"},
  {name = "renew_before", type = "duration", doc = "30d; at least a third of its life"},
  {name = "profile", type = "string"},
  {name = "challenge", type = "table"},
  {name = "install", type = "table", doc = "{dir = …, owner = …, mode = …}"},
  {name = "reload", type = "list", choices = "string", nonempty = true,
    doc = 'argv, {"systemctl", "reload", "nginx"}'},
  {name = "reload_timeout", type = "duration"},
}

local INSTALL = {
  {name = "dir", type = "string", required = true, nonempty = true,
    doc = "its own folder"},
  {name = "owner", type = "string", doc = '"user", "user:group" or ":group"'},
  {name = "mode", type = "string", doc = 'of the key, "0600" or "0640"'},
}

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
  data, err = try(cage.data, {text = text, name = path, allowed = GLOBALS,
    what = "estate file"})
  if not data then errors.raise("usage", err.message, {code = "ESTATE", cause = err}) end
  return data
end

------------------------------------------------------------------ checking

--- Collects what is wrong; the file is refused as a whole at the end.
local Check = {}
Check.__index = Check

function Check:note(place, format, ...)
  self.problems[#self.problems + 1] = ("%s: %s"):format(place, format:format(...))
end

--- Check a table against a spec; false when it is wrong.
function Check:spec(place, spec, value)
  local ok, err = pcall(args.check, place, spec, value)
  if not ok then self.problems[#self.problems + 1] = err.message end
  return ok
end

--- A DNS name as a certificate carries it (RFC 5280 4.2.1.6, RFC 5890 A-labels).
local function wrong_name(name)
  if #name > 253 then return "longer than 253 characters" end
  if name:find("[\128-\255]") then return "not ASCII; write the A-label (xn--…)" end
  if name:find("%u") then return "written with capitals; write " .. name:lower() end
  local rest = name:gsub("^%*%.", "")
  if not rest:find(".", 1, true) then return "not a full name (no dot)" end
  for label in (rest .. "."):gmatch("([^.]*)%.") do
    if #label == 0 or #label > 63 then return "has an empty or too long label" end
    if label:find("[^%w-]") or label:find("^%-") or label:find("%-$") then
      return ("has the label %q"):format(label)
    end
  end
  if not rest:find("%.%a[%w-]*$") then
    return "ends in digits; IP addresses do not work here"
  end
end

function Check:domains(place, certificate, challenge)
  local seen = {}
  for _, name in ipairs(certificate.domains) do
    local why = wrong_name(name)
    if why then self:note(place, "the name %q is %s", name, why) end
    if seen[name] then self:note(place, "the name %s stands twice", name) end
    if name:find("^%*") and not challenges.proves_wildcards(challenge) then
      self:note(place, "%s is a wildcard, which only dns-01 validates; this estate has "
        .. "http-01", name)
    end
    seen[name] = true
  end
end

function Check:challenge(place, challenge)
  self.problems[#self.problems + 1] = challenges.mistake(place, challenge)
end

function Check:acme(place, account)
  if not self:spec(place, ACME, account) then return end
  if not account.directory:find("^https://") then
    self:note(place, "directory is an https:// URL, got %q", account.directory)
  end
  for _, contact in ipairs(account.contact or {}) do
    if not contact:find("^mailto:[^%s@]+@[^%s@]+$") then
      self:note(place, 'a contact is "mailto:someone@example.com", got %q', contact)
    end
  end
  if account.eab and self:spec(place .. ".eab", EAB, account.eab)
    and not estate.is_reference(account.eab.hmac_key) then
    self:note(place .. ".eab", 'hmac_key is secret "env:NAME" or secret "file:/path", '
      .. "so that it does not stand in the file")
  end
end

function Check:scm(place, settings)
  local wrong = scm_estate.problems(settings, place)
  table.move(wrong, 1, #wrong, #self.problems + 1, self.problems)
end

local function place_of(i, certificate)
  local name = type(certificate) == "table" and certificate.name
  if type(name) == "string" then return ("certificates[%d] (%s)"):format(i, name) end
  return ("certificates[%d]"):format(i)
end

function Check:install(place, certificate)
  local install = certificate.install
  if not install or not self:spec(place .. ".install", INSTALL, install) then return end
  if not install.dir:find("^/") then
    self:note(place, "install.dir is an absolute path, got %q", install.dir)
  end
  if install.mode and not install.mode:find("^0[46][04]0$") then
    self:note(place, 'install.mode is "0600", "0640", "0400" or "0440", got %q',
      install.mode)
  end
end

function Check:certificate(i, certificate, e)
  local place = place_of(i, certificate)
  if type(certificate) == "table" and type(certificate.reload) == "string" then
    local words = {}
    for word in certificate.reload:gmatch("%S+") do
      words[#words + 1] = ("%q"):format(word)
    end
    self:note(place, "reload is a list of words, {%s}", table.concat(words, ", "))
    certificate.reload = nil
  end
  if not self:spec(place, CERTIFICATE, certificate) then return end
  if not certificate.name:find("^[%w_][%w._-]*$") or #certificate.name > 100 then
    self:note(place, "a name has letters, digits, '.', '_' and '-', got %q",
      certificate.name)
  end
  self:domains(place, certificate, estate.of(e, certificate, "challenge"))
  self:install(place, certificate)
  if certificate.challenge then
    self:challenge(place .. ".challenge", certificate.challenge)
  elseif not estate.of(e, certificate, "challenge") then
    self:note(place,
      'no challenge here nor for all; add challenge = {webroot = "/var/www"}')
  end
  if certificate.org and not (e.orgs or {})[certificate.org] then
    self:note(place, "there is no orgs.%s", certificate.org)
  end
  if not estate.of(e, certificate, "acme") then
    self:note(place, 'no CA here; add acme = {directory = "https://…"}')
  end
end

function Check:unique(certificates)
  local names, folders = {}, {}
  for i, certificate in ipairs(certificates) do
    if type(certificate) == "table" and type(certificate.name) == "string" then
      local place, name = place_of(i, certificate), certificate.name
      if names[name] then
        self:note(place, "certificates[%d] has the same name", names[name])
      end
      names[name] = i
      local dir = type(certificate.install) == "table" and certificate.install.dir
      if dir and folders[dir] then
        self:note(place, "certificates[%d] installs to the same folder", folders[dir])
      end
      if dir then folders[dir] = i end
    end
  end
end

function Check:whole(e)
  if type(e.certificates) ~= "table" or #e.certificates == 0 then
    self:note("certificates", "the list is missing or empty; add certificates = {{name = "
      .. '"www", domains = {"www.example.com"}}}')
    return
  end
  for name, value in pairs{state = "string", keep = "number", policies = "table",
    allow_internal = "table", acme = "table", orgs = "table", challenge = "table",
    schedules = "table", alerts = "table", store = "string", scm = "table"} do
    if e[name] ~= nil and type(e[name]) ~= value then
      self:note(name, "is a %s, got %s", value, type(e[name]))
      e[name] = nil
    end
  end
  if e.state and not e.state:find("^/") then
    self:note("state", "is an absolute path, got %q", e.state)
  end
  local named, why = pcall(store.path, e.store or "/x")
  if not named then self:note("store", "%s", why.message) end
  if e.keep and (math.type(e.keep) ~= "integer" or e.keep < 1) then
    self:note("keep", "is a number of generations, at least 1, got %s", e.keep)
  end
  local _, wrong = schedule_list.read(e.schedules)
  table.move(wrong, 1, #wrong, #self.problems + 1, self.problems)
  _, wrong = alert_routes.read(e.alerts, e.orgs or {})
  table.move(wrong, 1, #wrong, #self.problems + 1, self.problems)
  if e.acme then self:acme("acme", e.acme) end
  if e.scm then self:scm("scm", e.scm) end
  if e.challenge then self:challenge("challenge", e.challenge) end
  for name, org in pairs(e.orgs or {}) do
    local place = "orgs." .. tostring(name)
    if self:spec(place, ORG, org) then
      if org.acme then self:acme(place .. ".acme", org.acme) end
      if org.challenge then self:challenge(place .. ".challenge", org.challenge) end
      if org.scm then self:scm(place .. ".scm", org.scm) end
    end
  end
  for i, certificate in ipairs(e.certificates) do self:certificate(i, certificate, e) end
  self:unique(e.certificates)
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
  local check = setmetatable({problems = {}}, Check)
  check:whole(e)
  if #check.problems > 0 then
    errors.raise("usage", ("%s has %d mistake%s"):format(path, #check.problems,
      #check.problems == 1 and "" or "s"), {code = "ESTATE", details = check.problems})
  end
  e.path = path
  e.folder = path:match("^(.*)/[^/]*$") or "."
  e.state = practice.path(e.state or estate.state_folder())
  if practice.folder() then e.store = nil end -- the sandbox has one of its own
  e.store = e.store or "sqlite:" .. e.state .. "/secrun.db"
  e.keep = math.max(e.keep or 3, 2)
  e.policies = e.policies or {"keys", "names"}
  for _, certificate in ipairs(e.certificates) do
    certificate.key_type = certificate.key_type or "p256"
    certificate.renew_before = args.duration(certificate.renew_before or "30d")
    certificate.install = certificate.install
      or {dir = e.state .. "/live/" .. certificate.name}
  end
  return e
end

------------------------------------------------------------------ questions

--- A setting of a certificate: its own, its org's, or the estate's.
function estate.of(e, certificate, key)
  local org = certificate.org and (e.orgs or {})[certificate.org]
  local own = certificate[key]
  if own ~= nil then return own end
  if type(org) == "table" and org[key] ~= nil then return org[key] end
  return e[key]
end

--- What the policies are asked about a certificate.
function estate.request(e, certificate)
  return {
    action = "renew", name = certificate.name, org = certificate.org,
    names = certificate.domains, key_type = certificate.key_type,
    product = certificate.product, owner = certificate.owner, channel = "acme",
    allow_internal = estate.of(e, certificate, "allow_internal"),
  }
end

--- Whether a value read from the file stands for a secret.
function estate.is_reference(value)
  return type(value) == "table" and value["$secret"] ~= nil
end

--- The secret that a reference in the estate file stands for.
function estate.secret(value)
  if estate.is_reference(value) then return secret(value["$secret"]) end
  return value
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
  return scm_estate.connect(settings, estate.secret, as)
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

--- Run fn; what it raises goes to the list, once, after its place.
local function collect(list, place, fn, ...)
  local _, err = try(fn, ...)
  local text = err and place .. ": " .. err.message
  if text and not list[text] then
    list[text] = true
    list[#list + 1] = text
  end
end

local function look_at_ca(path) x509.read_chain(fs.read(path)) end

local function look_at_account(list, place, account)
  if account.ca and account.ca ~= "system" then
    collect(list, place .. ".ca", look_at_ca, account.ca)
  end
  if account.eab then
    collect(list, place .. ".eab.hmac_key", estate.secret, account.eab.hmac_key)
  end
end

--- Secrets and files of all the logins to SCM.
local function look_at_scm(list, e)
  local needs = e.scm and scm_estate.needs(e.scm, "scm") or {}
  for name, org in pairs(e.orgs or {}) do
    local more = org.scm and scm_estate.needs(org.scm, "orgs." .. name .. ".scm") or {}
    table.move(more, 1, #more, #needs + 1, needs)
  end
  for _, need in ipairs(needs) do
    if need.secret then collect(list, need.place, estate.secret, need.secret) end
    if need.file then collect(list, need.place, fs.read, need.file) end
  end
end

local function look_for_folder(path)
  local stat = fs.stat(path)
  if not stat or stat.type ~= "directory" then
    errors.raise("not_found", ("there is no folder %s; make it, or name the one that the "
      .. "web server serves"):format(path))
  end
end

local function can_be_run(path)
  local stat = fs.stat(path)
  return stat and stat.type == "file" and stat.mode:find("[1357]") ~= nil
end

local function look_for_program(name)
  local found = name:find("/", 1, true) and can_be_run(name)
  local path = not name:find("/", 1, true) and process.env("PATH") or ""
  for folder in path:gmatch("[^:]+") do
    found = found or can_be_run(folder .. "/" .. name)
  end
  if not found then
    errors.raise("not_found", ("there is no program %q that can be run; install it, or "
      .. "give its full path"):format(name))
  end
end

--- What the file names and this machine lacks: CA files, secrets, webroots, programs.
---@return string[] texts each with its place
function estate.missing(e)
  local list = {}
  for i, certificate in ipairs(e.certificates) do
    local place = place_of(i, certificate)
    look_at_account(list, place .. " acme", estate.of(e, certificate, "acme"))
    local webroot = estate.of(e, certificate, "challenge").webroot
    if webroot then collect(list, place .. " challenge", look_for_folder, webroot) end
    if certificate.reload then
      collect(list, place .. " reload", look_for_program, certificate.reload[1])
    end
  end
  look_at_scm(list, e)
  for _, need in ipairs(alert_routes.needs(e.alerts)) do
    if need.secret then collect(list, need.place, estate.secret, need.secret) end
    if need.ca then collect(list, need.place .. ".ca", look_at_ca, need.ca) end
  end
  return list
end

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
