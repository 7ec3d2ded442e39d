--- Signed requests to one ACME server: directory, nonces, re-signing (RFC 8555 6).
--
--     local c = client.new{directory = url, key = key}
--     local reply = c:post(c:directory().new_order, payload, {what = "newOrder"})
--     local order = c:document("order", reply, url)
--
-- A body is signed for one attempt and never sent twice: after badNonce or a lost answer
-- the request is signed anew. Only requests whose repetition has no other effect are
-- repeated after a lost answer.

local core = require "acme.core"
local errors = require "errors"
local http = require "http"
local json = require "json"
local log = require "log"
local task = require "task"
local time = require "time"

local NONCES = 64          -- kept at most
local NONCE_TRIES = 150    -- a CA that rejects nine nonces in ten still gets its request
local TRIES = 4            -- of a repeatable request when answers get lost
local INLINE = 60          -- seconds: longer waits are the caller's to schedule
local DOCUMENT_BYTES = 1024 * 1024
local CHAIN_BYTES = 256 * 1024
local FIRST_LOOK, LAST_FIRST_LOOK = 0.02, 5 -- seconds until a first poll
local BAD_NONCE = "urn:ietf:params:acme:error:badNonce"
local NO_ACCOUNT = "urn:ietf:params:acme:error:accountDoesNotExist"

-- How a connection that broke in the middle of an answer is told.
local LOST = {CURLE_PARTIAL_FILE = true, CURLE_GOT_NOTHING = true, CURLE_HTTP2 = true,
  CURLE_HTTP2_STREAM = true, CURLE_RECV_ERROR = true, CURLE_SEND_ERROR = true,
  CURLE_SEND_FAIL_REWIND = true}
-- Statuses that say so whatever was asked: come again later.
local BUSY = {[429] = true, [503] = true}

---@class acme.Client
---@field url string directory URL
---@field key x509.key account key
---@field kid string? account URL, nil before registration
---@field poll_max number seconds that one poll may take
local Client = {}
Client.__index = Client

local client = {INLINE = INLINE}

--- A client for one directory. Makes no request yet.
---@param options {directory: string, key: x509.key, http: table?, ca: string?,
---  language: string?, poll_max: number?, nonce_tries: integer?}
---@return acme.Client
function client.new(options)
  core.check_directory_url(options.directory)
  return setmetatable({
    url = options.directory,
    key = options.key,
    http = options.http or {},
    ca = options.ca,
    language = options.language or "en",
    public = false, -- until the directory's address is known
    poll_max = options.poll_max or 600,
    nonce_tries = options.nonce_tries or NONCE_TRIES,
    nonces = {},
    usual = {},
  }, Client)
end

-------------------------------------------------------------------- one exchange

--- "application/json" of "Application/JSON; charset=utf-8", or nil.
local function media_type(reply) return (reply:content_type()) end

local function is_json(media)
  return media ~= nil and (media == "application/json" or media:find("%+json$") ~= nil)
end

--- One exchange as it is, whatever its status. Raises when there was no answer.
---@private
function Client:exchange(method, url, body, options)
  local request = {}
  for name, value in pairs(self.http) do request[name] = value end
  request.method, request.url, request.body = method, url, body
  request.headers = {
    ["User-Agent"] = "secrun/" .. core.version,
    ["Accept-Language"] = self.language,
    ["Content-Type"] = body and "application/jose+json" or nil,
    ["Accept"] = options.accept,
  }
  request.ca = self.ca
  request.raise = false
  request.no_private_addresses = self.public
  request.redirects = options.redirects or 0
  request.max_body = options.max_body or DOCUMENT_BYTES
  request.timeout = request.timeout or "2m"
  local reply = http.request(request)
  log.debug("%s %s: status %d", method, url, reply.status)
  self:keep_nonce(reply)
  return reply
end

--- The error that a reply stands for, not raised.
---@private
function Client:failure(reply, what, url)
  return (core.explain{
    what = what .. " " .. url,
    status = reply.status,
    content_type = reply.headers["content-type"],
    body = reply.body or "",
    retry_after = reply:retry_after(),
  })
end

-------------------------------------------------------------------- nonces

--- Put the nonce of a reply into the pool; anything that is none is ignored.
---@private
function Client:keep_nonce(reply)
  local nonce = reply.headers["replay-nonce"]
  if not nonce or not core.nonce_ok(nonce) then return end
  local pool = self.nonces
  if #pool >= NONCES then table.remove(pool, 1) end
  pool[#pool + 1] = nonce
end

--- The freshest nonce; asks newNonce when there is none (RFC 8555 section 7.2).
---@private
function Client:take_nonce()
  local nonce = table.remove(self.nonces)
  if nonce then return nonce end
  local url = self:directory().new_nonce
  self:repeatable(function()
    local reply = self:exchange("HEAD", url, nil, {})
    if reply.status >= 300 then error(self:failure(reply, "newNonce", url), 0) end
  end)
  nonce = table.remove(self.nonces)
  if nonce then return nonce end
  return errors.raise("protocol", ("newNonce %s: answered without a Replay-Nonce; is a "
    .. "proxy dropping headers?"):format(url))
end

-------------------------------------------------------------------- repeating

--- Sleep `seconds`, spread by a fifth either way.
local function pause(seconds)
  task.sleep(seconds * (0.8 + 0.4 * core.random()))
end

--- Whether an error may pass by itself: a lost answer, or a status that says so.
---@param err table
---@return boolean
function client.is_transient(err)
  local kind = err.kind
  if kind == "connect" or kind == "timeout" or kind == "dns" then return true end
  if LOST[err.code] then return true end
  return (kind == "http" or kind == "rate_limited") and err.retryable == true
end

--- Whether a request may have arrived although its answer did not: everything transient
--- but a status that says it was not looked at, a name and a port that did not answer.
---@param err table
---@return boolean
function client.is_lost(err)
  local reached = err.kind ~= "dns" and (err.kind ~= "connect" or LOST[err.code])
  if not reached then return false end
  return client.is_transient(err) and not BUSY[err.status]
end

--- Call fn again after an error that may pass; the CA's Retry-After counts, to a minute.
--- `once`: only after an answer that says the request was not even looked at.
---@private
function Client:repeatable(fn, once)
  local wait = 1
  for attempt = 1, TRIES do
    local ok, result = pcall(fn)
    if ok then return result end
    local err = errors.object(result)
    local again = attempt < TRIES and client.is_transient(err)
      and (err.retry_after or 0) <= INLINE and (not once or BUSY[err.status])
    if not again then error(err, 0) end
    pause(math.max(err.retry_after or wait, 0.2))
    wait = math.min(wait * 2, 15)
  end
end

--- Raise what a reply stands for that is no directory.
---@private
function Client:no_directory(reply)
  local err = self:failure(reply, "directory", self.url)
  if err.kind == "not_found" then
    err.message = err.message .. "; there is no ACME directory, check the URL"
  end
  error(err, 0)
end

--- The directory, fetched once (RFC 8555 section 7.1.1). The only request that follows
--- redirects.
---@return table directory new_nonce, new_account, new_order …, meta
function Client:directory()
  if self.listing then return self.listing end
  local listing = self:repeatable(function()
    local reply = self:exchange("GET", self.url, nil,
      {redirects = 5, accept = "application/json"})
    if reply.status ~= 200 then self:no_directory(reply) end
    core.check_url(reply.url, self.url)
    local peer = reply.peer
    self.public = peer ~= nil and not core.is_private(peer.address)
    return self:document("directory", reply, self.url)
  end)
  self.listing = self.listing or listing
  return self.listing
end

-------------------------------------------------------------------- signed requests

--- Told by the problem's type, never by its English.
local function is_bad_nonce(reply)
  if reply.status ~= 400 or not reply.body:find(BAD_NONCE, 1, true) then return false end
  local problem = try(json.decode, reply.body)
  return type(problem) == "table" and problem.type == BAD_NONCE
end

--- Sign and send until the CA takes the nonce (RFC 8555 section 6.5).
---@private
function Client:send(url, payload, options)
  for attempt = 1, self.nonce_tries do
    local body = core.sign{key = options.key or self.key, url = url,
      nonce = self:take_nonce(), kid = not options.jwk and self.kid or nil,
      payload = payload or ""}
    local reply = self:exchange("POST", url, body, options)
    if reply.status < 300 then return reply end
    if not is_bad_nonce(reply) then error(self:failure(reply, options.what, url), 0) end
    local fresh = reply.headers["replay-nonce"]
    self.nonces = {fresh and core.nonce_ok(fresh) and fresh or nil}
    if attempt >= self.nonce_tries then
      local err = self:failure(reply, options.what, url)
      err.message = err.message .. ("; %d nonces in a row were refused"):format(attempt)
      error(err, 0)
    end
    if attempt >= 10 then pause(math.min(0.01 * (attempt - 9), 0.1)) end
  end
end

--- One signed request; payload nil is POST-as-GET. Raises the CA's problem with its URN
--- as code and the document as `problem`. `once`: not
--- repeated when the answer may be lost.
---@param url string
---@param payload string? JSON
---@param options {what: string, jwk: boolean?, key: x509.key?, once: boolean?,
---  accept: string?, max_body: integer?} key: another than the account's
---@return table reply status, headers, body
function Client:post(url, payload, options)
  local function attempt() return self:send(url, payload, options) end
  local ok, result = pcall(self.repeatable, self, attempt, options.once)
  if ok then return result end
  local lost = not options.jwk and errors.object(result).code == NO_ACCOUNT
  if not (lost and self.reregister and self:reregister()) then error(result, 0) end
  return self:repeatable(attempt, options.once)
end

-------------------------------------------------------------------- replies

--- Parse the document of a reply. HTML, a wrong content type or cut JSON raise protocol.
---@param kind "directory"|"account"|"order"|"authorization"|"challenge"
---@param reply table
---@param url string
---@return table
function Client:document(kind, reply, url)
  if not is_json(media_type(reply)) then error(self:failure(reply, kind, url), 0) end
  return core.parse(kind, reply.body or "", url, self.url)
end

--- POST-as-GET a document.
---@return table document
---@return number? retry_after seconds
function Client:get(kind, url, what)
  local reply = self:post(url, nil, {what = what or kind, accept = "application/json"})
  return self:document(kind, reply, url), reply:retry_after()
end

--- Download a chain as PEM text, unchecked but for type and size.
---@return string pem
---@return {url: string}[] alternates other chains of the same certificate
function Client:chain(url)
  local reply = self:post(url, nil, {what = "certificate", max_body = CHAIN_BYTES,
    accept = "application/pem-certificate-chain"})
  if media_type(reply) ~= "application/pem-certificate-chain" then
    error(self:failure(reply, "certificate", url), 0)
  end
  return reply.body, reply:links("alternate")
end

--- How long the CA takes for one kind of work, learnt from the last times, so that it is
--- asked once when it is ready instead of in vain before: sooner after each first look that
--- found it done, else as late as it was.
---@private
function Client:learn(kind, first, took)
  local usual = first and self.usual[kind] * 0.9 or took * 0.9
  self.usual[kind] = math.min(math.max(usual, FIRST_LOOK), LAST_FIRST_LOOK)
end

--- Raise pending when the next look would come too late for this run.
local function check_patience(self, waited, document, retry_after, what)
  if waited <= self.poll_max and (retry_after or 0) <= INLINE then return end
  errors.raise("pending", ("%s: the CA is still working on it (%s); run again %s")
    :format(what, document.status, retry_after and
      ("in %d s"):format(math.ceil(retry_after)) or "later"),
    {retryable = true, retry_after = retry_after or INLINE})
end

--- Ask until `finished(document)`, beginning with a document that is already there. Waits
--- what the CA says, at least 0.2 s, else a growing time of its own with jitter, at first
--- what this kind of work usually takes. Raises
--- pending, with retry_after, when the CA says more than a minute or poll_max is over.
---@param document table
---@param fetch fun(): table, number?
---@param finished fun(document: table): boolean
---@param options {what: string, kind: string, since: number?} since: the monotonic time
---  when the CA began, now by default
---@return table document
function Client:poll(document, fetch, finished, options)
  if finished(document) then return document end
  local started, kind = time.mono(), options.kind
  local since = options.since or started
  self.usual[kind] = self.usual[kind] or FIRST_LOOK
  local wait = math.max(self.usual[kind] - (started - since), 0)
  local retry_after, first = document.retry_after, true
  while true do
    check_patience(self, time.mono() - started + (retry_after or wait), document,
      retry_after, options.what)
    if retry_after then
      task.sleep(math.max(retry_after, 0.2))
    elseif wait > 0 then
      pause(wait)
    end
    wait = math.min(math.max(wait * 1.6, 0.05), 15)
    document, retry_after = fetch()
    if finished(document) then break end
    first = false
  end
  self:learn(kind, first, time.mono() - since)
  return document
end

client.pause = pause

return client
