--- Sectigo Certificate Manager: connections, every operation by name, lists as streams.
--
--     local scm = require "scm"
--     local c = scm.connect{customer_uri = "example", login = "api",
--       password = secret "env:SCM_PASSWORD"}
--     for cert in c.ssl:list{status = "Issued", org = "Example Corp"} do print(cert.sslId) end
--     local orgs = c:call("organization.list")

local args = require "args"
local core = require "scm.core"
local errors = require "errors"
local http = require "http"
local scm_auth = require "scm_auth"
local scm_call = require "scm_call"
local scm_list = require "scm_list"
local scm_resource = require "scm_resource"

local CLASSIC_HOST = {enterprise = "https://cert-manager.com",
  hard = "https://hard.cert-manager.com"}
local INSTANCES = {"enterprise", "hard", "eu"}

local scm = {}

---@class scm.Connection
---@field url string base, without /api
---@field face "classic"|"admin"
---@field auth scm.Auth
---@field http table options of http.request for every call
---@field retries integer
---@field date_format string|false
local Connection = {}

--- c.ssl, c.person …: made when first asked for.
function Connection.__index(self, key)
  local method = Connection[key]
  if method ~= nil or type(key) ~= "string" then return method end
  local resource = scm_resource.of(self, key)
  rawset(self, key, resource)
  return resource
end

function Connection:__tostring()
  return ("scm.connection %s (%s face, %s)"):format(self.url, self.face, self.auth.how)
end

local CALL = {
  {name = "version", type = "integer", positive = true, doc = "of the path, /v2"},
  {name = "timeout", type = "duration", positive = true, doc = "of each try"},
  {name = "retries", type = "integer", doc = "how often a call may be repeated"},
  {name = "body", type = "any", doc = "the whole body, unchecked, instead of its fields"},
  {name = "query", type = "table", doc = "further query parameters, unchecked"},
}

--- Call one operation by its name (scm.operations() lists them) or the vendor's id.
--- Parameters have SCM's names, wherever they go: path, query or body. A list comes as one
--- page; connection:list reads all of them.
---
--- Returns what the operation gives (a table, a list, the id of what was created, bytes,
--- a count; true where there is nothing to give) and {status, total, location, response}.
---
--- Raises usage for what does not fit the table, and for what SCM refuses auth, denied,
--- not_found, conflict, rate_limited, limit, usage, pending or http, with its code as
--- err.code and err.scm = {code, description, meaning, mend, pending}; connect, timeout …
--- as http.request does. err.unanswered: a write that may have had its effect.
---@param name string
---@param parameters table?
---@param options {version: integer?, timeout: number|string?, retries: integer?, body: any,
---  query: table?}?
---@return any value
---@return scm.Info info
function Connection:call(name, parameters, options)
  return scm_call.run(self, name, parameters, args.check("scm.call", CALL, options))
end

--- All entries of a list operation, read while they are walked; see scm_list.lua.
---@param name string
---@param parameters table? with size, limit, position beside the operation's own
---@param options table? as of connection:call
---@return scm.List
function Connection:list(name, parameters, options)
  return scm_list.open(self, name, parameters, args.check("scm.list", CALL, options))
end

local CONNECT = {
  {name = "url", type = "string", nonempty = true, doc = "the API's host, https://…"},
  {name = "instance", type = "string", nonempty = true,
    doc = "enterprise, hard or eu, instead of url"},
  {name = "customer_uri", type = "string", nonempty = true,
    doc = "classic: the word after /customer/ in the portal's address"},
  {name = "login", type = "string", nonempty = true, doc = "classic: admin login"},
  {name = "password", type = "secret", doc = "classic: its password"},
  {name = "email", type = "string", nonempty = true,
    doc = "classic: developer login, for code signing on demand"},
  {name = "cert", type = "any", doc = "classic: client certificate, path or PEM"},
  {name = "key", type = "any", doc = "its key: path, PEM, secret or x509 key"},
  {name = "key_password", type = "secret", doc = "opens the key"},
  {name = "oauth", type = "table", doc = "{client_id =, client_secret =, token_url =}"},
  {name = "ca", type = "any", doc = "trust for TLS: path, PEM or list (the system's)"},
  {name = "timeout", type = "duration", positive = true, doc = "of each try (2m)"},
  {name = "connect_timeout", type = "duration", positive = true, doc = "(15s)"},
  {name = "retries", type = "integer", doc = "of calls that may be repeated (3)"},
  {name = "date_format", type = "any", doc = "dateFormat to ask for (ISO_HMS), or false"},
  {name = "http", type = "table", doc = "further options of http.request: proxy …"},
}

local function refuse(what)
  return errors.raise("usage", "scm.connect: " .. what, {code = "BAD_OPTION"})
end

local function base_url(options, face)
  if options.url and options.instance then
    refuse "give either url or instance"
  end
  if options.url then
    core.check_url(options.url)
    return (options.url:gsub("/+$", ""))
  end
  local instance = options.instance or "enterprise"
  if not instance:find "^%l[%l%d%-]*$" then
    refuse(("instance %q; a host goes into url"):format(instance))
  end
  if face == "admin" then return ("https://admin.%s.sectigo.com"):format(instance) end
  return CLASSIC_HOST[instance]
    or refuse(("the classic face has no instance %q; give its host as url"):format(
      instance))
end

local function check_format(options)
  local format = options.date_format
  if format == nil then return "ISO_HMS" end
  if format ~= false then core.date_text(0, format) end
  return format
end

--- Connect to SCM. Makes no request yet.
---
--- The classic face, cert-manager.com: `customer_uri`, `login` and `password`, or `cert`
--- and `key` instead of the password, or `email` instead of the login (developers). The admin face, admin.*.sectigo.com: `oauth`.
--- Another host: `url`, https only (http on a loopback address, for tests).
---@param options table
---@return scm.Connection
function scm.connect(options)
  options = args.check("scm.connect", CONNECT, options)
  local network = {}
  for name, value in pairs(options.http or {}) do network[name] = value end
  network.timeout = options.timeout or "2m"
  network.connect_timeout = options.connect_timeout or "15s"
  network.ca = options.ca
  local auth = scm_auth.new(options, network)
  local own = {max_body = "64MiB", cert = options.cert, key = options.key,
    key_password = options.key_password}
  for name, value in pairs(network) do own[name] = value end
  http.client(own) -- refuses options that there are not, before the first call does
  return setmetatable({
    url = base_url(options, auth.face), face = auth.face, auth = auth, http = own,
    retries = options.retries or 3, date_format = check_format(options), kept = {},
    other_words = false,
  }, Connection)
end

--- The instances that Sectigo runs; the hosts of others are given as url.
scm.INSTANCES = INSTANCES

local known -- the table, once made

--- Every operation: {name, ids, method, path, paging, result, reads, classic, admin,
--- parameters = {{name, place, type, required}}}; classic and admin are lists of versions.
---@param filter string? only names that contain it
---@return table[]
function scm.operations(filter)
  known = known or core.operations()
  if not filter then return known end
  local some = {}
  for _, op in ipairs(known) do
    if op.name:find(filter, 1, true) then some[#some + 1] = op end
  end
  return some
end

--- SCM's error codes: {code, op, kind, again, meaning, mend}.
---@return table[]
function scm.codes() return core.codes() end

--- A date of SCM's, in any form the API uses, as UTC seconds; 31/12/2025 needs "UK".
---@param text string
---@param format string? ISO, EU, US, UK, JP, each also with _HMS
---@return number
function scm.date(text, format) return core.date(text, format) end

--- UTC seconds in a form of SCM's.
---@param seconds number
---@param format string? (ISO)
---@return string
function scm.date_text(seconds, format)
  return core.date_text(seconds, format or "ISO")
end

--- A certificate's status in one spelling, and what it means: "open" (on its way),
--- "issued", "dead" (declined, rejected, invalid), "gone" (revoked, expired, replaced).
--- nil for a text that is no status.
---@param text string
---@return string? status
---@return string? state
function scm.status(text) return core.status(text) end

return scm
