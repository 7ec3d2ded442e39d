--- Orders, authorizations and challenges of RFC 8555 as objects.
--
--     local order = account:order{names = {"www.example.com"}}
--     order:authorize{solver = solver}
--     order:finalize(csr):wait("valid")
--     local pem = order:certificate()
--
-- Each carries what the CA last said; `refresh` asks again.

local args = require "args"
local client = require "acme_client"
local core = require "acme.core"
local errors = require "errors"
local json = require "json"

local acme_order = {}

local NOT_READY = "urn:ietf:params:acme:error:orderNotReady"

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
  self.retry_after = reply:retry_after()
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
---@field presumed boolean? status is what must follow, the CA was not asked
---@field identifiers {type: string, value: string}[]
---@field authorization_urls string[]
---@field expires integer? UTC seconds
---@field certificate_url string?
---@field error table? problem document
---@field account acme.Account
local Order = {}
Order.__index = Order

local function fill_order(order, document)
  order.presumed = nil
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

--- Whether the order is about exactly these names; and its own.
---@param names string[] canonical, sorted
---@return boolean
---@return string[]|table got its names, or the error that they raise
function Order:has_names(names)
  local ok, got = pcall(names_of, self.identifiers)
  return ok and table.concat(got, " ") == table.concat(names, " "), got
end

--- Raise protocol unless the order is about exactly these names, in any order and case.
---@param names string[] canonical, sorted
function Order:check_names(names)
  local same, got = self:has_names(names)
  if same then return end
  errors.raise("protocol", ("order %s: the CA answered with other names (%s) than "
    .. "asked (%s)"):format(self.url,
      #got > 0 and table.concat(got, ", ") or tostring(got), table.concat(names, ", ")))
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

--- Whether a refused finalize may come of an order that was only taken to be ready.
local function too_early(order, err)
  return order.presumed and not client.is_transient(err) and (err.status or 0) // 100 == 4
end

local function hand_in(order, payload)
  local api, url = order.account.client, order.finalize_url
  local reply = api:post(url, payload,
    {what = "finalize", once = true, accept = "application/json"})
  fill_order(order, api:document("order", reply, url))
  order.retry_after = reply:retry_after()
end

--- Raise what ended the order; `final` in the error says that it can lead nowhere.
local function raise_invalid(order)
  local err = order.error and core.explain{what = "order " .. order.url,
    body = json.encode(order.error), content_type = "application/problem+json"}
    or errors.new{kind = "protocol",
      message = ("order %s: it is %s"):format(order.url, order.status)}
  err.final = true
  error(err, 0)
end

local AUTHORIZE = {
  {name = "solver", type = "any", required = true, doc = "acme.http01{…} or your own"},
  {name = "resumed", type = "boolean",
    doc = "an earlier run may have left answers behind: they are taken down"},
  {name = "on_step", type = "function", doc = "called with (step, name) after each"},
}

--- Prove control of every name; see acme_authorize.lua. Returns when the order is no
--- longer pending; raises with `final` when it can lead nowhere.
---@param options {solver: table, resumed: boolean?, on_step: function?}
---@return acme.Order self
function Order:authorize(options)
  options = args.check("order:authorize", AUTHORIZE, options)
  if self.status == "invalid" then raise_invalid(self) end
  local authorize = require("acme_authorize")
  if self.status == "pending" then
    authorize.run(self, options)
    self.status, self.presumed = "ready", true -- RFC 8555 7.1.6; finalize looks if not
  elseif options.resumed then
    authorize.sweep(self, options)
  end
  return self
end

local STAGE = {pending = 1, ready = 2, processing = 3, valid = 4}

--- Ask until the order has come so far; raises pending when the CA needs longer than a
--- minute at a time, and with `final` when the order became invalid.
---@param status "ready"|"valid"
---@return acme.Order self
function Order:wait(status)
  local goal = STAGE[status]
  self.account.client:poll(self, function() return self:refresh() end, function()
    return self.status == "invalid" or (STAGE[self.status] or 0) >= goal
  end, {what = "order " .. self.url, kind = status})
  if self.status == "invalid" then raise_invalid(self) end
  return self
end

--- Hand in the CSR (RFC 8555 section 7.4). When the answer gets lost, the order itself
--- says whether it arrived; so does an `orderNotReady` for an order that is past it.
--- Raises with `final` when the CA refuses the CSR for good.
---@param csr string|x509.csr PEM text or request
---@return acme.Order self
function Order:finalize(csr)
  local payload = core.finalize(type(csr) == "string" and csr or csr:pem())
  for attempt = 1, 3 do
    local ok, result = pcall(hand_in, self, payload)
    if ok then return self end
    local err = errors.object(result)
    local lost = client.is_transient(err)
    local early = too_early(self, err)
    local unclear = lost or early or err.kind == "protocol" or err.code == NOT_READY
    err.final = not lost and (err.status or 0) // 100 == 4 or nil
    if not unclear then error(err, 0) end
    self:refresh()
    if self.status == "processing" or self.status == "valid" then return self end
    if early then self:wait("ready") end
    local again = early or lost and self.status == "ready"
    local wait = err.retry_after or attempt
    if not again or attempt == 3 or wait > client.INLINE then error(err, 0) end
    if lost then client.pause(wait) end
  end
end

--- Download the chain; unchecked but for type and size, see issue.
---@param options {prefer: table?}? which of several chains, see acme_chain_choice.lua
---@return string pem
function Order:certificate(options)
  local choice = require "acme_chain_choice"
  local prefer = choice.check(options and options.prefer)
  if not self.certificate_url then
    errors.raise("usage", ("order %s is %s and has no certificate yet"):format(self.url,
      self.status))
  end
  local api = self.account.client
  if prefer then return choice.fetch(api, self.certificate_url, prefer) end
  return (api:chain(self.certificate_url))
end

--- The order at a URL, as a document says it is; without one it has to be refreshed.
---@param account acme.Account
---@param url string
---@param document table?
---@return acme.Order
function acme_order.new(account, url, document)
  local order = setmetatable({url = url, account = account}, Order)
  return document and fill_order(order, document) or order
end

return acme_order
