--- ACME v2 (RFC 8555): accounts, orders, challenges, certificates.
--
--     local a = acme.account{directory = url, terms_agreed = true,
--       key = {file = "account.pem"}}
--     local result = a:issue{names = {"www.example.com"}, state_dir = "state/www",
--       solver = acme.http01{webroot = "/var/www"}}
--     install(result.pem, result.key)
--     result:done()

local acme_account = require "acme_account"
local acme_order = require "acme_order"
local args = require "args"
local client = require "acme_client"
local core = require "acme.core"
local errors = require "errors"
local fs = require "fs"
local gate = require "gate"
local http = require "http"
local json = require "json"
local x509 = require "x509"

local acme = {}

local URN = "urn:ietf:params:acme:error:"
local ORDER_PAGES = 100 -- of an account's list of orders, at most
local FIND_AMONG = 200  -- of the latest orders, when one is looked for
local NO_ACCOUNT = URN .. "accountDoesNotExist"
local NEEDS_EAB = URN .. "externalAccountRequired"

-------------------------------------------------------------------- accounts

---@class acme.Account
---@field client acme.Client
---@field roots string? PEM; issued chains must lead to one of them
local Account = acme_account.methods
Account.__index = Account

-- newOrder requests overlap badly on some CAs, so they pass one by one per directory, from
-- whatever state on this loop they come.
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

--- Send newOrder once.
local function place(self, names, options)
  local payload = json.encode{
    identifiers = identifiers(names),
    notAfter = options.not_after and require("time").rfc3339(options.not_after) or nil,
    profile = options.profile,
  }
  local api = self.client
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
  return acme_order.new(self, location, api:document("order", reply, url))
end

--- Place an order (RFC 8555 section 7.4). When the answer gets lost, the account's list of
--- orders says whether it arrived, where the CA keeps such a list; elsewhere the error is
--- raised. The order may then exist at the CA, unknown to us; nothing is issued from it, and
--- many CAs hand the same one out when asked again.
---@param options {names: string[], not_after: number?, profile: string?}
---@return acme.Order
function Account:order(options)
  options = args.check("acme.order", ORDER, options)
  local names = core.names(options.names)
  if #names == 0 then errors.raise("usage", "acme.order: `names` is empty") end
  local order, err = try(place, self, names, options)
  if not order and client.is_lost(err) then
    local found, listed = self:find_order{names = names, profile = options.profile}
    if not found and not listed then error(err, 0) end
    order, err = found or place(self, names, options), nil
  end
  if err then error(err, 0) end
  order:check_names(names)
  return order
end

--- What the CA has on the account (RFC 8555 section 7.1.2).
---@return {status: string, contact: string[]?, terms_agreed: boolean?, orders: string?}
function Account:document() return (self.client:get("account", self:url())) end

--- The URLs of the account's orders, page by page (RFC 8555 section 7.1.2.1); nil when the
--- CA keeps no such list. Most do not.
---@return (fun(): string?)?
function Account:orders()
  local url = self:document().orders
  if not url then return nil end
  return coroutine.wrap(function()
    for _ = 1, ORDER_PAGES do
      local reply = self.client:post(url, nil,
        {what = "orders", accept = "application/json"})
      local page = self.client:document("orders", reply, url)
      for _, order in ipairs(page.orders) do coroutine.yield(order) end
      local after = reply:links("next")[1]
      if not after then return end
      core.check_url(after.url, self.client.url)
      url = after.url
    end
    errors.raise("limit", ("orders of %s: more than %d pages"):format(self:url(),
      ORDER_PAGES))
  end)
end

local FIND_ORDER = {
  {name = "names", type = "list", required = true, choices = "string"},
  {name = "profile", type = "string", nonempty = true},
}

--- An order of this account for exactly these names that was placed and not yet finalized,
--- the latest in the list; nil when there is none. The second result tells whether the CA
--- keeps a list at all.
---@param options {names: string[], profile: string?}
---@return acme.Order? order
---@return boolean listed
function Account:find_order(options)
  options = args.check("account:find_order", FIND_ORDER, options)
  local names, urls = core.names(options.names), {}
  local listing = self:orders()
  if not listing then return nil, false end
  for url in listing do urls[#urls + 1] = url end
  for i = #urls, math.max(1, #urls - FIND_AMONG), -1 do
    local order = self:open_order(urls[i])
    local open = (order.status == "pending" or order.status == "ready")
      and (order.expires or math.huge) > require("time").now()
    if open and order.profile == options.profile and order:has_names(names) then
      return order, true
    end
  end
  return nil, true
end

--- Check a downloaded chain: leaf of this key with exactly these names, in its time, and
--- leading to the account's roots if it has some. Raises protocol or tls; with `final` when it
--- has expired, as the chain of an order from long ago has.
---@param options {pem: string, key: x509.key, names: string[]}
---@return string[] blocks PEM of each certificate, leaf first
---@return x509.cert[] chain the certificates
function Account:check_chain(options)
  local ok, blocks, chain = pcall(core.check_chain, {pem = options.pem, key = options.key,
    names = options.names, roots = self.roots})
  if ok then return blocks, chain end
  local err = errors.object(blocks)
  err.message = ("certificate for %s from %s: %s"):format(options.names[1],
    self.client.url, err.message)
  err.final = err.code == "CHAIN_EXPIRED" or nil
  error(err, 0)
end

--- The order at a URL that was kept.
---@param url string
---@return acme.Order
function Account:open_order(url)
  core.check_url(url, self.client.url)
  return (acme_order.new(self, url):refresh())
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
function Account:remember()
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
  self:remember()
end

--- A CA that was reset no longer knows the account: register the same key once more.
local function reregister(self)
  local known = self.client.kid
  local guard <close> = self.gate:enter()
  if self.client.kid ~= known then return true end
  if self.registered_again then return false end
  self.registered_again = true
  self.client.kid = create(self, self.client:directory())
  self:remember()
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
    key_file = from_file and options.key.file or nil,
    cache = from_file and options.key.file .. ".account.json" or nil,
    gate = gate.new(),
    client = client.new{
      directory = options.directory, key = key, http = options.http, ca = options.ca,
      language = options.language, nonce_tries = options.nonce_tries,
      poll_max = options.poll and options.poll.max and args.duration(options.poll.max),
    },
  }, Account)
  if options.serial_orders ~= false then
    gates[options.directory] = gates[options.directory]
      or gate.new("newOrder " .. options.directory)
  end
  self.serial = options.serial_orders ~= false
  self:settle_key_change()
  self.client.kid = recall(self)
  if not self.client.kid then register(self) end
  self.client.reregister = function() return reregister(self) end
  return self
end

--- A solver for http-01; see acme_http01.lua.
---@param options {webroot: string}|{listen: string}
function acme.http01(options) return require("acme_http01").new(options) end

return acme
