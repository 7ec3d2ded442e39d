--- A small SCM on loopback for tests: answers what it is told, keeps what it was asked.
--
--     local scm = fake.start(t, {["GET /api/ssl/v1/{id}"] = function(req) … end})
--     local c = scm:connect()
--     scm.asked[1].path, .query, .headers, .json
--
-- A handler gets the request (with params, and json when the body is JSON) and how often
-- it was called; it returns a reply: a table as http.serve takes it, made by fake.json,
-- fake.fail or fake.html, or a plain table that is sent as JSON.

local http = require "http"
local json = require "json"
local scm = require "scm"

local fake = {}
local Server = {}
Server.__index = Server

function fake.json(document, status, headers)
  headers = headers or {}
  headers["Content-Type"] = headers["Content-Type"] or "application/json;charset=UTF-8"
  return {status = status or 200, headers = headers, body = json.encode(document)}
end

--- A list with its X-Total-Count.
function fake.list(entries, total)
  return fake.json(json.array(entries), 200, {["X-Total-Count"] = tostring(total)})
end

--- An error body of SCM's.
function fake.fail(code, description, status)
  return fake.json({code = code, description = description}, status or 400)
end

function fake.html(status, headers)
  headers = headers or {}
  headers["Content-Type"] = "text/html"
  return {status = status, headers = headers,
    body = "<html><head><title>" .. status .. " of the proxy</title></head></html>"}
end

--- A connection that breaks in the middle of the answer.
function fake.cut()
  return {headers = {["Content-Type"] = "application/json"},
    body = function() error("cut", 0) end}
end

local function reply_of(answer)
  if type(answer) ~= "table" then return answer end
  if math.type(answer.status) == "integer" or answer.headers then return answer end
  return fake.json(answer)
end

local function handle(self, name, request)
  local media = request.headers["content-type"] or ""
  if media:find "json" and request.body ~= "" then
    request.json = json.decode(request.body)
  end
  self.asked[#self.asked + 1] = request
  self.calls[name] = (self.calls[name] or 0) + 1
  local reply = reply_of(self.handlers[name](request, self.calls[name]))
  reply.headers = reply.headers or {}
  reply.headers["Connection"] = "close" -- nothing stays open beyond the test
  return reply
end

--- Start one that ends with the test. Handlers may be replaced while it runs.
---@param handlers table<string, fun(request: table, n: integer): any>
---@param tls table? {cert =, key =, client_ca = …}
function fake.start(t, handlers, tls)
  local self = setmetatable({handlers = handlers, asked = {}, calls = {}}, Server)
  local routes = {}
  for name in pairs(handlers) do
    routes[name] = function(request) return handle(self, name, request) end
  end
  self.server = http.serve{listen = "127.0.0.1:0", routes = routes, tls = tls,
    max_body = 8 << 20}
  t:defer(function() self.server:close{grace = 0} end)
  self.url = self.server.url
  return self
end

--- A connection to it: classic, unless options say otherwise.
function Server:connect(options)
  options = options or {}
  options.url = options.url or self.url
  if not options.oauth then
    options.customer_uri = options.customer_uri or "example"
    options.login = options.login or "api"
    if not options.cert then options.password = options.password or "canary-password" end
  end
  return scm.connect(options)
end

return fake
