--- Whether an estate file is right: every mistake at once, with its place and its mend.
--
--     local problems = estate_check.problems(e)       -- {"acme: …", …}, empty when it is right

local alert_routes = require "alert_routes"
local challenges = require "estate_challenge"
local problems = require "problems"
local products = require "products"
local schedule_list = require "schedule_list"
local scm_estate = require "scm_estate"
local setting = require "estate_setting"
local store = require "store"

local estate_check = {}

--- The globals that an estate file may set.
estate_check.GLOBALS = {"acme", "scm", "challenge", "orgs", "policies", "certificates",
  "state", "keep", "budgets",
  "allow_internal", "schedules", "alerts", "store"}

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
  {name = "scm", type = "table", doc = "its login to SCM; see scm_estate.lua"},
  {name = "channel", type = "enum", choices = "acme|scm", doc = "for all its products"},
  {name = "policies", type = "list", choices = "string"},
  {name = "challenge", type = "table"},
}

local BUDGET = {
  {name = "max_running", type = "integer", positive = true, doc = "flows at once"},
  {name = "rate", type = "integer", positive = true, doc = "flows begun per period"},
  {name = "period", type = "duration", doc = "of the rate; 60 s"},
}

local KEY_TYPES = "p256|p384|p521|rsa2048|rsa3072|rsa4096|ed25519"

local CERTIFICATE = {
  {name = "name", type = "string", required = true, nonempty = true,
    doc = "what people call it; also its folder's name"},
  {name = "domains", type = "list", choices = "string", required = true, nonempty = true,
    doc = "the names in the certificate"},
  {name = "org", type = "string"},
  {name = "product", type = "string", nonempty = true, doc = "of the catalogue"},
  {name = "channel", type = "enum", choices = "acme|scm", doc = "by the product"},
  {name = "term", type = "integer", positive = true, doc = "days, by SCM"},
  {name = "owner", type = "string", doc = "whom to tell"},
  {name = "key_type", type = "enum", choices = KEY_TYPES, doc = "p256 by default"},
  {name = "reuse_key", type = "boolean", doc = "keep the key over renewals"},
  {name = "renew_before", type = "duration", doc = "30d; at least a third of its life"},
  {name = "profile", type = "string", doc = "of the CA, or of SCM"},
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

--- Collects what is wrong; the file is refused as a whole at the end.
local Check = setmetatable({}, {__index = problems})
Check.__index = Check

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

function Check:domains(place, certificate, any_wildcard)
  local seen = {}
  for _, name in ipairs(certificate.domains) do
    local why = wrong_name(name)
    if why then self:note(place, "the name %q is %s", name, why) end
    if seen[name] then self:note(place, "the name %s stands twice", name) end
    if name:find("^%*") and not any_wildcard then
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
    and not setting.is_reference(account.eab.hmac_key) then
    self:note(place .. ".eab", 'hmac_key is secret "env:NAME" or secret "file:/path", '
      .. "so that it does not stand in the file")
  end
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
  local place = setting.place(i, certificate)
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
  if certificate.org and not (e.orgs or {})[certificate.org] then
    self:note(place, "there is no orgs.%s", certificate.org)
  end
  local known, wrong = try(self.product, certificate)
  if not known then self:note(place, "%s", wrong.message) end
  local channel = setting.channel(e, certificate)
  self:domains(place, certificate, channel == "scm"
    or challenges.proves_wildcards(setting.of(e, certificate, "challenge")))
  self:install(place, certificate)
  if channel == "scm" then
    self:by_scm(place, certificate, e)
  else
    self:by_acme(place, certificate, e)
  end
end

--- Whether the product takes these names. Raises what is wrong.
function Check.product(certificate)
  if certificate.product then
    products.check{product = certificate.product, names = certificate.domains,
      term = certificate.term}
  end
  return true
end

--- What an order by ACME needs.
function Check:by_acme(place, certificate, e)
  if certificate.challenge then
    self:challenge(place .. ".challenge", certificate.challenge)
  elseif not setting.of(e, certificate, "challenge") then
    self:note(place,
      'no challenge here nor for all; add challenge = {webroot = "/var/www"}')
  end
  if not setting.of(e, certificate, "acme") then
    self:note(place, 'no CA here; add acme = {directory = "https://…"}')
  end
end

--- What an order by SCM needs.
function Check:by_scm(place, certificate, e)
  if not setting.of(e, certificate, "scm") then
    self:note(place, "%s is ordered by SCM, and there is no scm here nor for all; add "
      .. 'scm = {customer_uri = "…", login = "…", password = secret "env:…", '
      .. 'org = "…"}',
      certificate.product or certificate.name)
  end
  if not certificate.product and not certificate.profile then
    self:note(place, 'SCM needs product = "InstantSSL Pro" or profile = "…"')
  end
end

--- budgets = {["ca:https://…"] = {max_running = 2}, ["org:corp"] = {rate = 10}}
function Check:budgets(budgets)
  for scope, limits in pairs(budgets) do
    local place = ("budgets[%q]"):format(tostring(scope))
    if type(scope) ~= "string" or not scope:find("^%l+:.")
      or not ({ca = 1, org = 1, account = 1})[scope:match("^%l+")] then
      self:note(place, 'a scope is "ca:DIRECTORY", "ca:scm", "org:NAME" or '
        .. '"account:NAME"')
    elseif type(limits) ~= "table" then
      self:note(place, "is a table, got %s", type(limits))
    else
      self:spec(place, BUDGET, limits)
    end
  end
end

function Check:scm(place, settings)
  local wrong = scm_estate.problems(settings, place)
  table.move(wrong, 1, #wrong, #self.problems + 1, self.problems)
end

function Check:unique(certificates)
  local names, folders = {}, {}
  for i, certificate in ipairs(certificates) do
    if type(certificate) == "table" and type(certificate.name) == "string" then
      local place, name = setting.place(i, certificate), certificate.name
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
    allow_internal = "table", acme = "table", scm = "table", orgs = "table",
    challenge = "table", budgets = "table",
    schedules = "table", alerts = "table", store = "string"} do
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
  self:budgets(e.budgets or {})
  if e.challenge then self:challenge("challenge", e.challenge) end
  for name, org in pairs(e.orgs or {}) do
    local place = "orgs." .. tostring(name)
    if self:spec(place, ORG, org) then
      if org.acme then self:acme(place .. ".acme", org.acme) end
      if org.scm then self:scm(place .. ".scm", org.scm) end
      if org.challenge then self:challenge(place .. ".challenge", org.challenge) end
    end
  end
  for i, certificate in ipairs(e.certificates) do self:certificate(i, certificate, e) end
  self:unique(e.certificates)
end

--- What is wrong with an estate as it was read.
---@param e table
---@return string[] texts each with its place and its mend
function estate_check.problems(e)
  local check = problems.new(Check)
  check:whole(e)
  return check.problems
end

--- What is wrong with one more certificate for an estate that is right.
---@param e table
---@param certificate table
---@return string[]
function estate_check.certificate(e, certificate)
  local check = problems.new(Check)
  local all = table.move(e.certificates, 1, #e.certificates, 1, {})
  all[#all + 1] = certificate
  check:certificate(#all, certificate, e)
  check:unique(all)
  return check.problems
end

return estate_check
