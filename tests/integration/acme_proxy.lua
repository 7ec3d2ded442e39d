--- A proxy of ours between a client and Pebble: it counts, and loses answers on request.
--
--     local proxy = acme_proxy.start(t, ca)       -- directory, ca: as those of Pebble
--     proxy.lose = 7                              -- the seventh answer is lost
--     proxy.before = {[3] = fn}                   -- called before the third is given
--     proxy:ordered("www.a.test"), proxy:finalized("www.a.test")
--
-- Pebble makes its URLs from the Host header, so every one of them leads through here. A
-- lost answer is one whose request was carried out: the connection ends without it. Requests
-- pass one by one, as Pebble's newOrder must not overlap.

local encoding = require "encoding"
local fs = require "fs"
local gate = require "gate"
local http = require "http"
local json = require "json"
local stream = require "stream"
local time = require "time"
local x509 = require "x509"

local acme_proxy = {}

local Proxy = {}
Proxy.__index = Proxy

local PASSED = {"replay-nonce", "location", "content-type", "link", "retry-after"}

--- Names of what a newOrder asks for, as one text.
local function asked(request)
  local payload = encoding.base64url_decode(json.decode(request.body).payload)
  local names = {}
  for i, identifier in ipairs(json.decode(payload).identifiers) do
    names[i] = identifier.value
  end
  table.sort(names)
  return table.concat(names, " ")
end

local function add(list, name) list[name] = (list[name] or 0) + 1 end

--- Note what the CA did for whom.
function Proxy:note(request, reply)
  if reply.status >= 300 or request.method ~= "POST" then return end
  if request.path == self.paths.newOrder then
    local names = asked(request)
    add(self.orders, names)
    self.names[reply.headers["location"]:match("[^/]+$")] = names
  elseif request.path:find("/finalize-order/", 1, true) then
    add(self.finals, self.names[request.path:match("[^/]+$")] or "unknown")
  end
end

--- One exchange with Pebble in HTTP/1.0, which ends with the connection, under our own
--- Host (an HTTP client sets that field itself).
function Proxy:ask(request)
  local conn <close> = stream.connect{host = "127.0.0.1", port = self.port,
    tls = {ca = self.ca}}
  local head = {("%s %s HTTP/1.0"):format(request.method, request.raw_path),
    "Host: " .. self.host, "User-Agent: " .. (request.headers["user-agent"] or "none")}
  if request.method == "POST" then
    head[#head + 1] = "Content-Type: " .. (request.headers["content-type"] or "none")
    head[#head + 1] = "Content-Length: " .. #request.body
  end
  conn:write(table.concat(head, "\r\n") .. "\r\n\r\n" .. (request.body or ""))
  local fields, body = (conn:read("all") or ""):match("^(.-)\r\n\r\n(.*)$")
  local reply = {status = tonumber(fields:match("^HTTP/%S+ (%d+)")), headers = {},
    body = body}
  for name, value in fields:gmatch("\r\n([^:]+):%s*([^\r]*)") do
    local known = reply.headers[name:lower()]
    reply.headers[name:lower()] = known and known .. ", " .. value or value
  end
  return reply
end

--- Carry one request to Pebble and back.
function Proxy:forward(request)
  local guard <close> = self.gate:enter()
  local reply = self:ask(request)
  self:note(request, reply)
  self.replies = self.replies + 1
  local before = self.before[self.replies]
  if before then before() end
  if self.lose == self.replies then return self:cut(request) end
  local headers = {}
  for _, name in ipairs(PASSED) do headers[name] = reply.headers[name] end
  return {status = reply.status, headers = headers, body = reply.body}
end

--- Nothing of the answer but its beginning.
function Proxy:cut(request)
  self.lost[#self.lost + 1] = request.method .. " " .. request.path
  local begun = false
  return {headers = {["Content-Type"] = "application/json"}, body = function()
    if begun then error("lost on purpose", 0) end
    begun = true
    return " "
  end}
end

--- How many orders the CA took for these names.
function Proxy:ordered(names) return self.orders[names] or 0 end

--- How many of them it let be finalized.
function Proxy:finalized(names) return self.finals[names] or 0 end

local function paths_of(proxy)
  local listing = http.get(proxy.home .. "/dir", {ca = proxy.ca}):json()
  local paths = {}
  for name, url in pairs(listing) do
    if type(url) == "string" then paths[name] = url:match("^https://[^/]+(.*)$") end
  end
  return paths
end

--- Start one in front of a Pebble; it ends with the test.
function acme_proxy.start(t, ca)
  local key = x509.key{}
  local cert = x509.sign{subject = {CN = "proxy"}, key = key, names = {"127.0.0.1"},
    ext_key_usage = {"serverAuth"}, not_before = time.now() - 86400,
    not_after = time.now() + 86400}
  local proxy = setmetatable({replies = 0, before = {}, orders = {}, finals = {},
    names = {},
    lost = {}, home = ca.directory:match("^https://[^/]+"), ca = ca.ca,
    port = tonumber(ca.directory:match(":(%d+)/")),
    gate = gate.new()}, Proxy)
  proxy.paths = paths_of(proxy)
  local server = http.serve{listen = "127.0.0.1:0", tls = {cert = cert:pem(), key = key},
    handler = function(request) return proxy:forward(request) end}
  t:defer(function() server:close{grace = 0} end)
  proxy.host = "127.0.0.1:" .. server.port
  local trust = t:tmpdir() .. "/proxy.pem"
  fs.write(trust, cert:pem())
  return proxy, {directory = "https://" .. proxy.host .. "/dir", ca = trust,
    http01 = ca.http01}
end

return acme_proxy
