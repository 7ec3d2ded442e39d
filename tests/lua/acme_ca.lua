--- A small ACME CA on loopback for tests: obedient, unless a hook makes it lie or fail.
--
--     local ca = fake.start(t, {order = function() return fake.html(502) end})
--     local a = ca:account()
--     ca.calls.finalize    -- how often it was asked
--
-- A hook is named like the endpoint (directory, nonce, account, acct, key_change, revoke,
-- order, get_order, authz, challenge, finalize, certificate). It gets the function that does the regular work and
-- gives its reply, and the request's payload; it returns the reply to send.

local acme = require "acme"
local encoding = require "encoding"
local http = require "http"
local json = require "json"
local time = require "time"
local x509 = require "x509"

local fake = {}
local Ca = {}
Ca.__index = Ca

local URN = "urn:ietf:params:acme:error:"

--- A reply with a JSON document.
function fake.json(document, status, headers)
  headers = headers or {}
  headers["Content-Type"] = headers["Content-Type"] or "application/json"
  return {status = status or 200, headers = headers, body = json.encode(document)}
end

--- A problem document.
function fake.problem(status, kind, detail, headers)
  headers = headers or {}
  headers["Content-Type"] = "Application/Problem+JSON; charset=utf-8"
  return fake.json({type = URN .. kind, detail = detail}, status, headers)
end

--- What a proxy says.
function fake.html(status, headers)
  headers = headers or {}
  headers["Content-Type"] = "text/html"
  return {status = status, headers = headers, bare = true,
    body = "<html><title>" .. status .. " from the proxy</title></html>"}
end

--- A connection that breaks in the middle of the answer.
function fake.cut()
  return {bare = true, headers = {["Content-Type"] = "application/json"},
    body = function() error("cut", 0) end}
end

local function order_document(ca, order)
  local identifiers, urls = {}, {}
  for i, name in ipairs(order.names) do
    identifiers[i] = {type = "dns", value = name}
    urls[i] = ca.url .. "/authz/" .. order.id .. "-" .. i
  end
  return {status = order.status, identifiers = identifiers,
    authorizations = json.array(urls), finalize = ca.url .. "/finalize/" .. order.id,
    expires = time.rfc3339(time.now() + 86400),
    certificate = order.pem and ca.url .. "/certificate/" .. order.id or nil}
end

local function authz_document(ca, order, i)
  local authz = order.authz[i]
  return {status = authz.status, identifier = {type = "dns", value = order.names[i]},
    challenges = {{type = "http-01", status = authz.status, token = authz.token,
      url = ca.url .. "/challenge/" .. order.id .. "-" .. i, error = authz.error}}}
end

local work = {}
fake.work = work

function work.directory(ca)
  return fake.json{newNonce = ca.url .. "/nonce", newAccount = ca.url .. "/account",
    newOrder = ca.url .. "/order", keyChange = ca.url .. "/key_change",
    revokeCert = ca.url .. "/revoke", meta = json.null}
end

function work.nonce() return {status = 200} end

function work.account(ca, payload)
  local known = ca.registered and (not ca.key or json.encode(ca.key) == ca.asked_by)
  if payload.onlyReturnExisting and not known then
    return fake.problem(400, "accountDoesNotExist", "no such account")
  end
  ca.registered = true
  return fake.json({status = "valid"}, 201, {Location = ca.url .. "/acct/1"})
end

--- The account itself: what it is, and changes of it.
function work.acct(ca, payload)
  ca.contact = payload.contact or ca.contact
  return fake.json{status = payload.status or "valid", contact = ca.contact}
end

--- The key of the account is that of the inner JWS from now on.
function work.key_change(ca, inner)
  local head = json.decode(encoding.base64url_decode(inner.protected))
  local payload = json.decode(encoding.base64url_decode(inner.payload))
  ca.change = {head = head, payload = payload}
  ca.key = head.jwk
  return fake.json{status = "valid"}
end

function work.revoke(ca, payload)
  if ca.revoked then return fake.problem(400, "alreadyRevoked", "it was") end
  ca.revoked = payload
  return {status = 200}
end

function work.order(ca, payload)
  local order = {id = #ca.orders + 1, names = {}, authz = {}, status = "pending"}
  ca.orders[order.id] = order
  for i, identifier in ipairs(payload.identifiers) do
    order.names[i] = identifier.value
    order.authz[i] = {status = "pending",
      token = ("%s-%05d%03d"):format(("t"):rep(24), order.id, i)}
  end
  return fake.json(order_document(ca, order), 201, {Location = "/get_order/" .. order.id})
end

function work.get_order(ca, _, id)
  local order = ca.orders[tonumber(id)]
  if not order then return fake.problem(404, "malformed", "no such order") end
  return fake.json(order_document(ca, order))
end

local function authz_of(ca, id)
  local order, i = id:match("^(%d+)-(%d+)$")
  return ca.orders[tonumber(order)], tonumber(i)
end

function work.authz(ca, _, id) return fake.json(authz_document(ca, authz_of(ca, id))) end

function work.challenge(ca, _, id)
  local order, i = authz_of(ca, id)
  order.authz[i].status = "valid"
  local ready = true
  for _, authz in ipairs(order.authz) do ready = ready and authz.status == "valid" end
  if ready then order.status = "ready" end
  return fake.json(authz_document(ca, order, i).challenges[1])
end

--- A chain for a CSR; names replace those of the CSR.
function Ca:sign(csr, names)
  local leaf = x509.sign{issuer = self.root, issuer_key = self.root_key, csr = csr,
    names = names, days = 30}
  return leaf:pem() .. self.root:pem()
end

function work.finalize(ca, payload, id)
  local order = ca.orders[tonumber(id)]
  if order.status ~= "ready" then
    return fake.problem(403, "orderNotReady", "order is " .. order.status)
  end
  order.csr = x509.read_csr(encoding.base64url_decode(payload.csr))
  order.pem, order.status = ca:sign(order.csr), "valid"
  return fake.json(order_document(ca, order))
end

function work.certificate(ca, _, id)
  return {headers = {["Content-Type"] = "application/pem-certificate-chain"},
    body = ca.orders[tonumber(id)].pem}
end

--- Whether a request keeps the rules of RFC 8555 section 6: what is wrong, or nil.
local function breach(ca, name, request)
  local headers = request.headers
  if not (headers["user-agent"] or ""):find("^secrun/") then return "no User-Agent" end
  if not headers["accept-language"] then return "no Accept-Language" end
  if headers["replay-nonce"] then return "a Replay-Nonce in a request" end
  if request.method ~= "POST" then return nil end
  if headers["content-type"] ~= "application/jose+json" then return "wrong type" end
  local head = json.decode(encoding.base64url_decode(json.decode(request.body).protected))
  if not ca.fresh[head.nonce] then return "a nonce that is not fresh" end
  ca.fresh[head.nonce] = nil
  if head.url ~= ca.url .. request.raw_path then return "signed for " .. head.url end
  ca.asked_by = head.jwk and json.encode(head.jwk)
  if name == "revoke" and head.jwk then return end
  if (head.jwk ~= nil) ~= (name == "account") then return "jwk and kid mixed up" end
  if head.kid and head.kid ~= ca.url .. "/acct/1" then return "kid " .. head.kid end
end

local function give_nonce(ca, reply)
  ca.nonces = ca.nonces + 1
  ca.fresh["nonce" .. ca.nonces] = true
  reply.headers["Replay-Nonce"] = "nonce" .. ca.nonces
end

local function handle(ca, name, request)
  ca.calls[name] = (ca.calls[name] or 0) + 1
  ca.broken = ca.broken or breach(ca, name, request)
  local payload = {}
  if request.method == "POST" then
    local text = encoding.base64url_decode(json.decode(request.body).payload)
    payload = text ~= "" and json.decode(text) or {}
  end
  local function act() return work[name](ca, payload, request.params.id) end
  local hook = ca.hooks[name]
  local reply = hook and hook(act, payload, request) or act()
  reply.headers = reply.headers or {}
  if not reply.bare and name ~= "directory" then give_nonce(ca, reply) end
  reply.bare = nil
  reply.headers["Connection"] = "close" -- nothing stays open beyond the test
  return reply
end

--- Start a CA that ends with the test; hooks may be changed while it runs. The test fails
--- if a request broke the rules. `tls`: {cert =, key =}, then the CA speaks https.
function fake.start(t, hooks, tls)
  local ca = setmetatable({hooks = hooks or {}, calls = {}, orders = {}, nonces = 0,
    fresh = {}}, Ca)
  local routes = {}
  for name in pairs(work) do
    local function handler(request) return handle(ca, name, request) end
    for _, method in ipairs{"GET", "HEAD", "POST"} do
      routes[method .. " /" .. name] = handler
      routes[method .. " /" .. name .. "/{id}"] = handler
    end
  end
  ca.server = http.serve{listen = "127.0.0.1:0", routes = routes, tls = tls}
  t:defer(function()
    ca.server:close{grace = 0}
    if ca.broken then error("the client sent " .. ca.broken, 0) end
  end)
  ca.url = ca.server.url
  ca.root_key = x509.key{type = "p256"}
  ca.root = x509.sign{key = ca.root_key, subject = {CN = "Test Root"}, is_ca = true,
    days = 3650}
  return ca
end

--- An account at this CA with a fresh key.
function Ca:account(options)
  options = options or {}
  options.directory = self.url .. "/directory"
  options.key = options.key or x509.key{type = "p256"}
  return acme.account(options)
end

--- A solver that only notes what is asked of it.
function fake.solver()
  local solver = {type = "http-01", open = {}, presented = 0}
  function solver:present(authorization, _, key_authorization)
    self.open[authorization:name()] = key_authorization
    self.presented = self.presented + 1
  end
  function solver:cleanup(authorization) self.open[authorization:name()] = nil end
  return solver
end

return fake
