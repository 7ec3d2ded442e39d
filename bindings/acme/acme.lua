--- ACME v2 (RFC 8555): accounts, orders, challenges, certificates.
--
--     local a = acme.account{directory = url, terms_agreed = true,
--       key = {file = "account.pem"}}
--     local result = a:issue{names = {"www.example.com"}, state_dir = "state/www",
--       solver = acme.http01{webroot = "/var/www"}}
--     install(result.pem, result.key)
--     result:done()

local args = require "args"
local client = require "acme_client"
local core = require "acme.core"
local errors = require "errors"
local fs = require "fs"
local http = require "http"
local json = require "json"
local x509 = require "x509"

local acme = {}

local URN = "urn:ietf:params:acme:error:"
local NO_ACCOUNT = URN .. "accountDoesNotExist"
local NOT_READY = URN .. "orderNotReady"
local NEEDS_EAB = URN .. "externalAccountRequired"

-------------------------------------------------------------------- challenges

---@class acme.Challenge
---@field type string "http-01", "dns-01" …
---@field url string
---@field status "pending"|"processing"|"valid"|"invalid"
---@field token string?
---@field error table? problem document
---@field key_authorization string? token and thumbprint (RFC 8555 section 8.1)
---@field account acme.Account
local Challenge = {}
Challenge.__index = Challenge

--- Tell the CA that the challenge is in place (RFC 8555 section 7.5.1). Sending it again
--- is harmless and makes some CAs try again.
---@return acme.Challenge self with its new status
function Challenge:answer()
  local api = self.account.client
  local reply = api:post(self.url, "{}",
    {what = "challenge", accept = "application/json"})
  local document = api:document("challenge", reply, self.url)
  self.status, self.error = document.status, document.error
  return self
end

-------------------------------------------------------------------- authorizations

---@class acme.Authorization
---@field url string
---@field identifier {type: "dns"|"ip", value: string}
---@field status "pending"|"valid"|"invalid"|"deactivated"|"expired"|"revoked"
---@field wildcard boolean?
---@field expires integer? UTC seconds
---@field challenges acme.Challenge[]
---@field account acme.Account
local Authorization = {}
Authorization.__index = Authorization

local function new_challenge(account, document)
  document.account = account
  if document.token then
    document.key_authorization = document.token .. "." .. account:thumbprint()
  end
  return setmetatable(document, Challenge)
end

--- Ask the CA again.
---@return acme.Authorization self
---@return number? retry_after seconds
function Authorization:refresh()
  local document, retry_after = self.account.client:get("authorization", self.url)
  self.challenges = nil
  for name, value in pairs(document) do self[name] = value end
  self.retry_after = retry_after
  for i, challenge in ipairs(self.challenges) do
    self.challenges[i] = new_challenge(self.account, challenge)
  end
  return self, retry_after
end

--- The challenge of this type, or nil.
---@param kind string "http-01"
---@return acme.Challenge?
function Authorization:challenge(kind)
  for _, challenge in ipairs(self.challenges) do
    if challenge.type == kind then return challenge end
  end
end

--- The name this is about, with "*." where it is a wildcard.
---@return string
function Authorization:name()
  return (self.wildcard and "*." or "") .. self.identifier.value
end

--- Give the authorization up (RFC 8555 section 7.5.2).
function Authorization:deactivate()
  self.account.client:post(self.url, json.encode{status = "deactivated"},
    {what = "authorization"})
  return self:refresh()
end

-------------------------------------------------------------------- orders

---@class acme.Order
---@field url string
---@field status "pending"|"ready"|"processing"|"valid"|"invalid"
---@field identifiers {type: string, value: string}[]
---@field authorization_urls string[]
---@field expires integer? UTC seconds
---@field certificate_url string?
---@field error table? problem document
---@field account acme.Account
local Order = {}
Order.__index = Order

local function fill_order(order, document)
  order.status, order.error = document.status, document.error
  order.identifiers, order.expires = document.identifiers, document.expires
  order.authorization_urls = document.authorizations
  order.finalize_url, order.certificate_url = document.finalize, document.certificate
  order.profile = document.profile
  return order
end

--- Names of an order document as a sorted set.
local function names_of(identifiers)
  local names = {}
  for i, identifier in ipairs(identifiers) do names[i] = identifier.value end
  return core.names(names)
end

--- Raise protocol unless the order is about exactly these names, in any order and case.
---@param names string[] canonical, sorted
function Order:check_names(names)
  local ok, got = pcall(names_of, self.identifiers)
  if ok and table.concat(got, " ") == table.concat(names, " ") then return end
  errors.raise("protocol", ("order %s: the CA answered with other names (%s) than "
    .. "asked (%s)"):format(self.url, ok and table.concat(got, ", ") or tostring(got),
      table.concat(names, ", ")))
end

--- Ask the CA again.
---@return acme.Order self
---@return number? retry_after seconds
function Order:refresh()
  local document, retry_after = self.account.client:get("order", self.url)
  self.retry_after = retry_after
  return fill_order(self, document), retry_after
end

--- Fetch the authorizations; an order may have none.
---@return acme.Authorization[]
function Order:authorizations()
  local list = {}
  for i, url in ipairs(self.authorization_urls) do
    local authorization = setmetatable({url = url, account = self.account}, Authorization)
    list[i] = authorization:refresh()
  end
  return list
end

local function hand_in(order, payload)
  local api, url = order.account.client, order.finalize_url
  local reply = api:post(url, payload,
    {what = "finalize", once = true, accept = "application/json"})
  fill_order(order, api:document("order", reply, url))
  order.retry_after = reply:retry_after()
end

--- Hand in the CSR (RFC 8555 section 7.4). When the answer gets lost, the order itself
--- says whether it arrived; so does an `orderNotReady` for an order that is past it.
---@param csr string|x509.csr PEM text or request
---@return acme.Order self
function Order:finalize(csr)
  local payload = core.finalize(type(csr) == "string" and csr or csr:pem())
  for attempt = 1, 3 do
    local ok, result = pcall(hand_in, self, payload)
    if ok then return self end
    local err = errors.object(result)
    local lost = client.is_transient(err)
    local unclear = lost or err.kind == "protocol" or err.code == NOT_READY
    if not unclear then error(err, 0) end
    self:refresh()
    if self.status == "processing" or self.status == "valid" then return self end
    local wait = err.retry_after or attempt
    if self.status ~= "ready" or not lost or attempt == 3
      or wait > client.INLINE then
      error(err, 0)
    end
    client.pause(wait)
  end
end

--- Download the chain; unchecked but for type and size, see issue.
---@return string pem
function Order:certificate()
  if not self.certificate_url then
    errors.raise("usage", ("order %s is %s and has no certificate yet"):format(self.url,
      self.status))
  end
  return self.account.client:chain(self.certificate_url)
end

-------------------------------------------------------------------- accounts

---@class acme.Account
---@field client acme.Client
---@field roots string? PEM; issued chains must lead to one of them
local Account = {}
Account.__index = Account

-- newOrder requests overlap badly on some CAs, so they pass one by one per directory.
local gates = {}

local function identifiers(names)
  local list = {}
  for i, name in ipairs(names) do
    list[i] = {type = core.is_ip(name) and "ip" or "dns", value = name}
  end
  return list
end

--- The account's URL at the CA.
---@return string
function Account:url() return self.client.kid end

--- RFC 7638 thumbprint of the account key.
---@return string
function Account:thumbprint()
  self.print = self.print or core.thumbprint(self.client.key)
  return self.print
end

--- What the CA's directory lists.
---@return table
function Account:directory() return self.client:directory() end

local ORDER = {
  {name = "names", type = "list", required = true, choices = "string",
    doc = "DNS names and IP addresses"},
  {name = "not_after", type = "number", doc = "wished end of validity, UTC seconds"},
  {name = "profile", type = "string", nonempty = true, doc = "profile of the CA"},
}

--- Place an order (RFC 8555 section 7.4). A lost answer raises: the order may then exist
--- at the CA, unknown to us; nothing is issued from it, and many CAs hand the same one
--- out when asked again.
---@param options {names: string[], not_after: number?, profile: string?}
---@return acme.Order
function Account:order(options)
  options = args.check("acme.order", ORDER, options)
  local names = core.names(options.names)
  if #names == 0 then errors.raise("usage", "acme.order: `names` is empty") end
  local payload = json.encode{
    identifiers = identifiers(names),
    notAfter = options.not_after and require("time").rfc3339(options.not_after) or nil,
    profile = options.profile,
  }
  local api, order = self.client
  do
    local guard <close> = self.serial and gates[api.url]:enter() or nil
    local url = api:directory().new_order
    local reply = api:post(url, payload,
      {what = "newOrder", once = true, accept = "application/json"})
    local location = reply.headers["location"]
    if not location then
      errors.raise("protocol", ("newOrder %s: answered without a Location"):format(url))
    end
    location = http.join(reply.url, location)
    core.check_url(location, api.url)
    order = setmetatable({url = location, account = self}, Order)
    fill_order(order, api:document("order", reply, url))
  end
  order:check_names(names)
  return order
end

--- The order at a URL that was kept.
---@param url string
---@return acme.Order
function Account:open_order(url)
  core.check_url(url, self.client.url)
  local order = setmetatable({url = url, account = self}, Order)
  return (order:refresh())
end

--- From names to a checked chain; see acme_issue.lua.
---@param options table
---@return acme.Result
function Account:issue(options) return require("acme_issue").run(self, options) end

-------------------------------------------------------------------- registration

--- The payload of newAccount, and whether the MAC key looks encoded twice.
local function registration(self, listing, eab)
  local meta = listing.meta or {}
  if meta.terms_of_service and not self.terms_agreed then
    errors.raise("usage", ("%s: read the CA's terms at %s, then set terms_agreed = true")
      :format(self.client.url, meta.terms_of_service))
  end
  if meta.external_account_required and not eab then
    errors.raise("auth", ("%s: the CA wants an external account; give eab = {kid = …, "
      .. "hmac_key = …}"):format(self.client.url))
  end
  local payload = {termsOfServiceAgreed = self.terms_agreed or nil}
  if self.contact and #self.contact > 0 then payload.contact = self.contact end
  local twice = false
  if eab then
    local text
    text, twice = core.eab{key = self.client.key, url = listing.new_account,
      kid = eab.kid, hmac_key = eab.hmac_key, alg = eab.alg, encoding = eab.encoding}
    payload.externalAccountBinding = json.decode(text)
  end
  return json.encode(payload), twice
end

--- One newAccount request; the account's URL.
local function new_account(self, listing, payload)
  local api = self.client
  local reply = api:post(listing.new_account, payload,
    {what = "newAccount", jwk = true, accept = "application/json"})
  local location = reply.headers["location"]
  if not location then
    errors.raise("protocol", ("newAccount %s: answered without a Location"):format(
      listing.new_account))
  end
  location = http.join(reply.url, location)
  core.check_url(location, api.url)
  local document = api:document("account", reply, listing.new_account)
  if document.status ~= "valid" then
    errors.raise("denied", ("account %s is %s; use another key"):format(location,
      document.status))
  end
  return location
end

--- The account of this key if the CA has one, else nil.
local function find(self, listing)
  local url, err = try(new_account, self, listing, '{"onlyReturnExisting":true}')
  if url then return url end
  if err.code == NO_ACCOUNT or err.code == NEEDS_EAB then return nil end
  error(err, 0)
end

local function create(self, listing)
  local payload, twice = registration(self, listing, self.eab)
  local url, err = try(new_account, self, listing, payload)
  if url then return url end
  if twice and err.kind ~= "connect" then
    err.message = err.message .. "; the MAC key looks encoded twice: try "
      .. "eab.encoding = \"twice\""
  end
  error(err, 0)
end

--- Remember the account's URL beside the key, before anything else is asked: an EAB
--- credential may be good for one registration only.
local function remember(self)
  if not self.cache then return end
  fs.write(self.cache, json.encode{directory = self.client.url, url = self.client.kid,
    thumbprint = self:thumbprint(), eab_kid = self.eab and self.eab.kid}, {mode = "0600"})
end

--- The cached URL, or nil.
local function recall(self)
  local text, err = nil, nil
  if self.cache then text, err = try(fs.read, self.cache, {max = 65536}) end
  if err and err.kind ~= "not_found" then error(err, 0) end
  local cached = text and try(json.decode, text)
  if type(cached) ~= "table" or cached.directory ~= self.client.url
    or cached.thumbprint ~= self:thumbprint() then
    return nil
  end
  local kid = self.eab and self.eab.kid
  if kid and cached.eab_kid and cached.eab_kid ~= kid then
    errors.raise("conflict", ("%s: this key belongs to the external account %s; use "
      .. "another key file for %s"):format(self.cache, cached.eab_kid, kid))
  end
  if not pcall(core.check_url, cached.url, self.client.url) then return nil end
  return cached.url
end

local function register(self)
  local listing = self.client:directory()
  local url = not self.new_key and find(self, listing) or create(self, listing)
  self.client.kid = url
  remember(self)
end

--- A CA that was reset no longer knows the account: register the same key once more.
local function reregister(self)
  local known = self.client.kid
  local guard <close> = self.gate:enter()
  if self.client.kid ~= known then return true end
  if self.registered_again then return false end
  self.registered_again = true
  self.client.kid = create(self, self.client:directory())
  remember(self)
  return true
end

-------------------------------------------------------------------- account keys

local KEY_FILE = {
  {name = "file", type = "string", required = true, nonempty = true, doc = "PEM file"},
  {name = "type", type = "string", doc = "of a key that is made (p256)"},
}

--- Read the account key, or make it: 0600 from the start and on disk before it is used.
---@return x509.key key
---@return boolean made
local function file_key(options)
  options = args.check("acme.account key", KEY_FILE, options)
  local text, err = try(fs.read, options.file, {max = 65536})
  if not text and err.kind == "not_found" then
    local key = x509.key{type = options.type or "p256"}
    local done, failure = try(function()
      fs.write(options.file, key:pem(), {mode = "0600", exclusive = true})
      return true
    end)
    if done then return key, true end
    if failure.kind ~= "conflict" then error(failure, 0) end
    text, err = try(fs.read, options.file, {max = 65536}) -- another process was faster
  end
  if not text then error(err, 0) end
  local key
  key, err = try(x509.read_key, {pem = text})
  if key then return key, false end
  return errors.raise(err.kind, ("account key %s: %s"):format(options.file, err.message),
    {code = err.code})
end

local ACCOUNT = {
  {name = "directory", type = "string", required = true, nonempty = true,
    doc = "URL of the CA's directory"},
  {name = "key", type = "any", required = true, doc = "x509 key, or {file =, type =}"},
  {name = "eab", type = "table", doc = "{kid =, hmac_key =, alg =, encoding =}"},
  {name = "contact", type = "list", choices = "string", doc = "mailto: URLs"},
  {name = "terms_agreed", type = "boolean", doc = "the CA's terms were read"},
  {name = "ca", type = "string", doc = "path or PEM: trust for the directory's TLS"},
  {name = "roots", type = "string", doc = "PEM; issued chains must lead to one of these"},
  {name = "http", type = "table", doc = "further options of http.request: proxy …"},
  {name = "poll", type = "table", doc = "{max = \"10m\"}"},
  {name = "language", type = "string", doc = "Accept-Language of problems (en)"},
  {name = "serial_orders", type = "boolean", doc = "one newOrder at a time (true)"},
  {name = "nonce_tries", type = "integer", positive = true,
    doc = "refused nonces in a row before giving up (150)"},
}

--- The account of a key, found or registered (RFC 8555 section 7.3). Its URL is kept in
--- FILE.account.json beside a key file, and no request is made while that is valid.
--- Raises usage (terms not agreed, bad URL), auth (EAB), conflict (key bound to another
--- EAB), denied (deactivated) and what HTTP raises.
---@param options {directory: string, key: x509.key|{file: string, type: string?},
---  eab: table?, contact: string[]?, terms_agreed: boolean?, ca: string?, roots: string?,
---  http: table?, poll: {max: string|number}?, language: string?,
---  serial_orders: boolean?, nonce_tries: integer?}
---@return acme.Account
function acme.account(options)
  options = args.check("acme.account", ACCOUNT, options)
  core.check_directory_url(options.directory)
  local from_file = type(options.key) == "table"
  local key, made = options.key, false
  if from_file then key, made = file_key(options.key) end
  local self = setmetatable({
    contact = options.contact,
    eab = options.eab,
    terms_agreed = options.terms_agreed,
    roots = options.roots,
    new_key = made,
    cache = from_file and options.key.file .. ".account.json" or nil,
    gate = core.gate(),
    client = client.new{
      directory = options.directory, key = key, http = options.http, ca = options.ca,
      language = options.language, nonce_tries = options.nonce_tries,
      poll_max = options.poll and options.poll.max and args.duration(options.poll.max),
    },
  }, Account)
  if options.serial_orders ~= false then
    gates[options.directory] = gates[options.directory] or core.gate()
  end
  self.serial = options.serial_orders ~= false
  self.client.kid = recall(self)
  if not self.client.kid then register(self) end
  self.client.reregister = function() return reregister(self) end
  return self
end

--- What an earlier issue left in its state_dir: nil, "ordering", "installing" with the
--- chain as PEM, or "ended". Anything but nil is resumed by the next issue.
---@param state_dir string
---@return string? state
---@return string? pem
function acme.left(state_dir)
  if not fs.exists(state_dir) then return nil end
  local file <close> = require("order_file").open(state_dir)
  return file:left()
end

--- Forget what an earlier issue left, because its certificate is in service.
---@param state_dir string
function acme.forget(state_dir)
  local file <close> = require("order_file").open(state_dir)
  file:done()
end

--- A solver for http-01; see acme_http01.lua.
---@param options {webroot: string}|{listen: string}
function acme.http01(options) return require("acme_http01").new(options) end

return acme
