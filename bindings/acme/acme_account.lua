--- What an account can do beside ordering (RFC 8555 7.3.2, 7.3.5, 7.3.6, 7.6).
--
--     account:update{contact = {"mailto:pki@example.com"}}
--     account:change_key{}                      -- a new key, in the account's key file
--     account:revoke{cert = cert, reason = "superseded"}
--     account:deactivate()
--
-- Changing the key: the new one is on disk as FILE.new before the CA hears of it, and the
-- old one stays until the CA has confirmed. A run that was killed in between leaves
-- FILE.new; the next acme.account asks the CA whether it knows that key. So at no point is
-- the key that the CA has on no disk.

local args = require "args"
local client = require "acme_client"
local core = require "acme.core"
local encoding = require "encoding"
local errors = require "errors"
local fs = require "fs"
local http = require "http"
local json = require "json"
local log = require "log"
local x509 = require "x509"

local acme_account = {}

local URN = "urn:ietf:params:acme:error:"
local ALREADY_REVOKED = URN .. "alreadyRevoked"

---@class acme.Account
local Account = {}
acme_account.methods = Account

--- A URL of the directory, or usage: the CA does not offer it.
local function endpoint(self, name, what)
  local url = self.client:directory()[name]
  if url then return url end
  errors.raise("usage", ("%s: the CA does not offer %s"):format(self.client.url, what))
end

-------------------------------------------------------------------- contact, end

local UPDATE = {
  {name = "contact", type = "list", required = true, choices = "string",
    doc = "mailto: URLs; empty: none any more"},
}

--- Give the CA other contacts.
---@param options {contact: string[]}
---@return table document as the CA has it now
function Account:update(options)
  options = args.check("account:update", UPDATE, options)
  local reply = self.client:post(self:url(),
    json.encode{contact = json.array(options.contact)},
    {what = "account", accept = "application/json"})
  self.contact = options.contact
  return self.client:document("account", reply, self:url())
end

--- End the account for good: the CA takes no order of it any more. What was issued stays
--- valid. The key file is left, its remembered URL is not.
function Account:deactivate()
  local reply = self.client:post(self:url(), json.encode{status = "deactivated"},
    {what = "account", accept = "application/json"})
  local document = self.client:document("account", reply, self:url())
  if document.status ~= "deactivated" then
    errors.raise("protocol", ("account %s: the CA answers that it is %s"):format(
      self:url(), document.status))
  end
  if self.cache then fs.remove(self.cache, {missing_ok = true}) end
end

-------------------------------------------------------------------- revocation

-- RFC 5280 section 5.3.1; most CAs take the first, second and fourth to sixth.
local REASONS = {unspecified = 0, keyCompromise = 1, cACompromise = 2,
  affiliationChanged = 3, superseded = 4, cessationOfOperation = 5, certificateHold = 6,
  removeFromCRL = 8, privilegeWithdrawn = 9, aACompromise = 10}

local REVOKE = {
  {name = "cert", type = "any", required = true, doc = "x509 certificate or PEM text"},
  {name = "reason", type = "string", doc = "\"superseded\", \"keyCompromise\" …"},
  {name = "key", type = "any", doc = "the certificate's key, which signs instead"},
}

local function reason_code(reason)
  if not reason then return nil end
  if REASONS[reason] then return REASONS[reason] end
  local names = {}
  for name in pairs(REASONS) do names[#names + 1] = name end
  table.sort(names)
  local close = args.suggest(reason, names)
  local mend = close and "did you mean " .. close .. "?"
    or "they are " .. table.concat(names, ", ")
  errors.raise("usage", ("account:revoke: no reason is called %q; %s"):format(reason,
    mend))
end

--- Revoke a certificate, signed by the account or, with `key`, by the certificate's own
--- key. Raises usage for a key that is another's, and what the CA says: unauthorized when
--- the account did not issue it, badRevocationReason.
---@param options {cert: x509.cert|string, reason: string?, key: x509.key?}
---@return boolean now false when it was revoked already
function Account:revoke(options)
  options = args.check("account:revoke", REVOKE, options)
  local cert = type(options.cert) == "string" and x509.read(options.cert) or options.cert
  local reason, key = reason_code(options.reason), options.key
  if key and not key:matches(cert) then
    errors.raise("usage", "account:revoke: the key is not that of the certificate")
  end
  local payload = json.encode{certificate = encoding.base64url_encode(cert:der()),
    reason = reason}
  local url = endpoint(self, "revoke_cert", "revocation")
  local _, err = try(self.client.post, self.client, url, payload,
    {what = "revokeCert", jwk = key ~= nil, key = key})
  if err and err.code ~= ALREADY_REVOKED then error(err, 0) end
  return err == nil
end

-------------------------------------------------------------------- another key

local CHANGE = {
  {name = "type", type = "string", doc = "of the new key (as the old one)"},
  {name = "key", type = "any", doc = "the new key, for an account without a key file"},
}

--- The URL of the account that the CA knows by this key (newAccount, onlyReturnExisting),
--- or nil.
local function known_by(self, key)
  local url = self.client:directory().new_account
  local reply, err = try(self.client.post, self.client, url,
    '{"onlyReturnExisting":true}',
    {what = "newAccount", jwk = true, key = key, accept = "application/json"})
  if reply then return http.join(reply.url, reply.headers["location"] or "") end
  if client.is_transient(err) then error(err, 0) end
end

--- The CA has the new key: use it, and put it in the old one's place.
local function adopt(self, key)
  self.client.key, self.print = key, nil
  if not self.key_file then return end
  fs.rename(self.key_file .. ".new", self.key_file)
  if self:url() then self:remember() end
end

local function request_change(self, key)
  local url = endpoint(self, "key_change", "changing the account's key")
  local payload = json.encode{account = self:url(),
    oldKey = json.decode(self.client.key:jwk())}
  local inner = core.sign{key = key, url = url, payload = payload}
  self.client:post(url, inner, {what = "keyChange", once = true})
end

--- keyChange failed: return if the CA took the key nevertheless, else raise. The new key
--- stays on disk while it may still arrive.
local function outcome(self, key, err)
  local lost = client.is_lost(err)
  local owner = lost and known_by(self, key)
  if owner == self:url() then return end
  if self.key_file and not lost then
    fs.remove(self.key_file .. ".new", {missing_ok = true})
  end
  if owner or err.status == 409 then
    err.kind = "conflict"
    err.message = err.message .. "; the new key belongs to another account"
  end
  error(err, 0)
end

--- Give the account another key. An account of a key file gets a new one in that file;
--- another one takes `key`. When the answer gets lost the CA is asked which key it knows.
--- Raises conflict when the new key belongs to another account.
---@param options {type: string?, key: x509.key?}?
---@return x509.key key the new one
function Account:change_key(options)
  options = args.check("account:change_key", CHANGE, options or {})
  if (self.key_file ~= nil) == (options.key ~= nil) then
    errors.raise("usage", self.key_file
      and "account:change_key: the account has a key file; leave `key` out"
      or "account:change_key: the account has no key file; give the new `key`")
  end
  self:settle_key_change()
  local key = options.key or x509.key{type = options.type or self.client.key.type}
  if self.key_file then
    fs.write(self.key_file .. ".new", key:pem(), {mode = "0600", exclusive = true})
  end
  local ok, failure = pcall(request_change, self, key)
  if not ok then outcome(self, key, errors.object(failure)) end
  adopt(self, key)
  return key
end

--- A change of key was cut short: ask the CA which one it knows. Called before the account
--- is used.
function Account:settle_key_change()
  local path = self.key_file and self.key_file .. ".new"
  if not path or not fs.exists(path) then return end
  local key = x509.read_key{pem = fs.read(path, {max = 65536})}
  if known_by(self, key) then
    log.info(("%s: the CA has the new key already; it is put in place"):format(path))
    adopt(self, key)
  else
    log.info(("%s: the CA does not have this key; it is removed"):format(path))
    fs.remove(path)
  end
end

return acme_account
