--- An HTTP server whose handlers are tasks; users reach it as http.serve.
--
--     local server <close> = http.serve{
--       listen = "127.0.0.1:8080",
--       routes = {["GET /{name}"] = function(req) return "Hi " .. req.params.name end},
--     }
--     server:wait()

local args = require "args"
local core = require "http_server.core"
local task = require "task"
local errors = require "errors"

local M = {}

---@class http.Peer
---@field address string "192.0.2.1", or "unix"
---@field port integer 0 for a unix socket
---@field pid integer? of the process at the other end of a unix socket
---@field uid integer?
---@field gid integer?

---@class http.Request
---@field method string
---@field path string decoded once and normalised: never with a ".." in it
---@field raw_path string as it was sent
---@field query_string string as it was sent, without "?"
---@field query table<string, string> decoded, the first of each name
---@field query_all table<string, string[]> decoded, all of each name
---@field headers table<string, string> looked up in any case; repeated ones are joined
---@field body string
---@field version string "HTTP/1.1"
---@field params table<string, string> what {name} in the route's pattern matched
---@field peer http.Peer
---@field tls {version: string, servername: string?}? absent on plain connections
---@field client_cert {pem: string, der: string, verified: boolean}? of a TLS client
local Request = {}

--- Unknown fields are methods, or made from the request when first asked for.
function Request.__index(req, key)
  if key == "query" or key == "query_all" then
    local first, all = core.query(req.query_string)
    rawset(req, "query", first)
    rawset(req, "query_all", all)
    return rawget(req, key)
  end
  return Request[key]
end

function Request.__tostring(req) return req.method .. " " .. req.path end

local function media_type(req)
  return (req.headers["content-type"] or ""):match("^%s*([^;%s]*)"):lower()
end

local function unexpected(what, media)
  local text = ("the body is not %s but %q"):format(what, media)
  errors.raise("protocol", text, {status = 415})
end

--- The body as JSON. Raises protocol unless it is declared so (application/json, …+json;
--- left alone that becomes 415) and valid (400).
---@return any
function Request:json()
  local media = media_type(self)
  if media ~= "application/json" and not media:find("%+json$") then
    unexpected("JSON", media)
  end
  local ok, value = pcall(require("json").decode, self.body)
  if ok then return value end
  errors.raise("protocol", "the body is not valid JSON: " .. tostring(value),
    {status = 400, cause = value})
end

--- The body as application/x-www-form-urlencoded: the first of each name, then all of
--- each. Raises protocol if it is declared to be something else; left alone that is 415.
---@return table<string, string>, table<string, string[]>
function Request:form()
  local media = media_type(self)
  if media ~= "application/x-www-form-urlencoded" then unexpected("a form", media) end
  return core.query(self.body)
end

local TYPES = {
  html = "text/html; charset=utf-8", txt = "text/plain; charset=utf-8",
  css = "text/css; charset=utf-8", js = "text/javascript; charset=utf-8",
  json = "application/json", svg = "image/svg+xml", png = "image/png",
  pem = "application/x-pem-file", crl = "application/pkix-crl",
  cer = "application/pkix-cert", crt = "application/pkix-cert",
}

local function has(headers, name)
  for key in pairs(headers) do
    if type(key) == "string" and key:lower() == name then return true end
  end
  return false
end

--- Headers with a Content-Type that fits the file's name.
local function typed(headers, path)
  if has(headers, "content-type") then return headers end
  local copy = {["Content-Type"] = TYPES[(path:match("%.(%w+)$") or ""):lower()]
    or "application/octet-stream"}
  for key, value in pairs(headers) do copy[key] = value end
  return copy
end

local NO_BODY = {[204] = true, [304] = true}

--- Send what a function produces, piece by piece, until it returns nil. An error in it
--- cuts the connection off, so that the client does not take a part for the whole.
local function stream(req, status, headers, produce)
  local handle = req._handle
  handle:respond_stream(status, headers)
  if req.method == "HEAD" or NO_BODY[status] then return end
  local guard <close> = setmetatable({}, {__close = function(_, err)
    handle:finish(err ~= nil)
  end})
  for chunk in produce do
    if type(chunk) ~= "string" then
      errors.raise("usage", "a response body's function returned a " .. type(chunk)
        .. "; strings are needed, nil at the end")
    end
    handle:write(chunk)
  end
end

---@class http.Response
---@field status integer? 200 to 599, default 200
---@field headers table<string, string|number|string[]>?
---@field body string|{file: string}|fun(): string?|nil

local RESPONSE = {status = true, headers = true, body = true}

local function check(response)
  if type(response) ~= "table" then
    errors.raise("usage", "a handler returned a " .. type(response)
      .. "; a string, nil or {status=, headers=, body=} is needed")
  end
  for key in pairs(response) do
    if not RESPONSE[key] then
      errors.raise("usage", "a response has no field \"" .. tostring(key)
        .. "\"; it has status, headers and body")
    end
  end
end

local REASONS = {
  [400] = "bad request", [404] = "not found", [405] = "method not allowed",
  [413] = "content too large", [415] = "unsupported media type",
  [500] = "internal server error", [503] = "service unavailable",
}

local function plain(status, headers)
  return {status = status, headers = headers,
    body = status .. " " .. (REASONS[status] or "error") .. "\n"}
end

--- Answer the request now instead of by the handler's return value; once. The response is
--- what a handler may return: a string (200), nil (404) or a table:
---   status   200 to 599, default 200
---   headers  {name = "value" or {"value", …}}; line breaks in them are refused
---   body     a string; {file = path}; or a function that returns the next piece, nil
---            at the end, and may wait
--- Raises usage for a response that cannot be, denied for a file that may not be read,
--- connect when the client of a function body goes away.
---@param response string|http.Response|nil
function Request:respond(response)
  if response == nil then response = plain(404) end
  if type(response) == "string" then response = {body = response} end
  check(response)
  local status, headers = response.status or 200, response.headers or {}
  local body = response.body
  self._answered = true
  if type(body) == "function" then
    stream(self, status, headers, body)
  elseif type(body) == "table" and type(body.file) == "string" then
    if not self._handle:respond_file(status, typed(headers, body.file), body.file) then
      self._handle:respond(404, {}, plain(404).body)
    end
  elseif body == nil or type(body) == "string" then
    self._handle:respond(status, headers, body or "")
  else
    errors.raise("usage", "a response's body is a " .. type(body)
      .. "; a string, {file = path} or a function is needed")
  end
end

--- Answer with nothing: the connection is closed; in a body's function, in the middle of the
--- body. For servers that act out failures; the client cannot tell whether its request was
--- acted upon. `bytes`, if given, go out raw before: an answer that is no HTTP.
---@param bytes string?
function Request:drop(bytes)
  self._answered = true
  self._handle:drop(bytes)
  self._handle:finish(true)
end

---@class http.Server
---@field address string "127.0.0.1:8080" or "unix:/run/x"
---@field port integer 0 for a unix socket
---@field url string? "http://127.0.0.1:8080"; nil for a unix socket
local Server = {}
Server.__index = Server

local function path_of(req) return req.method .. " " .. req.path end

local function report(req, err)
  local object = errors.object(err)
  local trace = object.trace and "\n" .. object.trace or ""
  core.report(path_of(req) .. ": " .. tostring(object) .. trace)
end

--- What the client learns of an error: the status, and nothing of the reason.
local function failure(req, err, late)
  if late then
    core.report(path_of(req) .. ": not handled in time")
    return plain(503, {["Retry-After"] = "1"})
  end
  local status = errors.is(err, "protocol") and err.status
  if status == 400 or status == 415 then return plain(status) end
  report(req, err)
  return plain(500)
end

local function route(server, req)
  if server._routes then
    local at, found = server._routes:match(req.method, req.path)
    if at then
      req.params = found
      return server._targets[at]
    elseif found and req.method == "OPTIONS" then
      return function() return {status = 204, headers = {Allow = found}} end
    elseif found then
      return function() return plain(405, {Allow = found}) end
    end
  end
  return server._handler or function() end
end

--- Call a handler inside its time; the third result tells whether that was over then. A
--- time-out of the handler's own has left its scope by here, so it does not count.
local function timed(handler, req)
  local ok, response = xpcall(handler, errors.object, req)
  return ok, response, task.cancelled()
end

--- The handler has its time to decide; a body that a function produces is bounded per
--- piece instead (the client must take it), since it may be long by design.
local function answer(server, req)
  local ok, response, late =
    task.timeout(server._timeout, timed, route(server, req), req)
  if not ok then
    if task.cancelled() or req._answered then error(response, 0) end
    response = failure(req, response, late and errors.is(response, "timeout"))
  end
  if ok and req._answered then return end
  req:respond(response)
end

--- One request, in a task of its own. No error leaves it: siblings go on.
local function handle(server, req, key)
  local guard <close> = setmetatable({}, {__close = function()
    server._running[key] = nil
    req._handle:done() -- unanswered becomes 500
  end})
  local ok, err = xpcall(answer, errors.object, server, req)
  if ok or task.cancelled() or req._handle:gone() then return end
  report(req, err)
end

local function accept(server)
  local listener = server._core
  local guard <close> = setmetatable({}, {__close = function() listener:stop() end})
  local group <close> = task.group{}
  while true do
    local event, subject, fields, key = listener:next()
    if event == "request" then
      local req = setmetatable(fields, Request)
      req._handle, req.params = subject, {}
      server._running[key] = group:spawn(handle, server, req, key)
    elseif event == "gone" then
      local running = server._running[subject]
      if running then running:cancel() end
    elseif not event then
      group:cancel()
      return
    end
  end
end

local function compile(routes)
  if type(routes) ~= "table" then return end
  local patterns, targets = {}, {}
  for pattern, target in pairs(routes) do
    if type(pattern) ~= "string" or type(target) ~= "function" then
      local text = "http.serve: routes: %q leads to a %s, not to a function"
      errors.raise("usage", text:format(tostring(pattern), type(target)))
    end
    patterns[#patterns + 1], targets[#targets + 1] = pattern, target
  end
  return core.routes(patterns), targets
end

--- TLS options as net/stream takes them: client_ca alone asks for a certificate, and
--- require_client_cert refuses clients without.
local function tls_options(options)
  if type(options) ~= "table" then return options end
  local tls = {alpn = {"http/1.1"}}
  for key, value in pairs(options) do tls[key] = value end
  if tls.client_ca ~= nil then tls.ca, tls.client_auth = tls.client_ca, "request" end
  if tls.require_client_cert then tls.client_auth = "require" end
  tls.client_ca, tls.require_client_cert = nil, nil
  return tls
end

--- Start a server. It serves from a task of its own until closed or the script ends.
---
---   listen = "127.0.0.1:0" (port 0: a free one) or unix = path (mode = "0600")
---   handler = function(req) → response: for whatever no route serves
---   routes = {["GET /a/{name}"] = handler, ["/b/{rest...}"] = handler}: the most
---     specific wins; a known path under another method is 405; OPTIONS is answered
---   tls = {cert = , key = (PEM or files), client_ca = , require_client_cert = boolean}
---     and whatever else stream.listen takes
---   limit = 64 handlers at once, queue = 256 requests that wait (503 beyond)
---   max_body = 1 MiB (413), max_headers = 32 KiB (431), max_connections = 1024,
---   max_per_ip = 0 (no bound; 503)
---   timeout = "30s" to receive a request (408) and again to handle it (503),
---   idle_timeout = "15s" between requests
---   server_header = false, log = false (one line a request)
---
--- Raises usage, denied (--allow-net), conflict (address in use), io (no right), tls.
---@param options table
---@return http.Server
function M.serve(options)
  local given = {}
  for key, value in pairs(options or {}) do given[key] = value end
  given.tls = tls_options(given.tls)
  local routes, targets = compile(given.routes)
  local self = setmetatable({_core = core.listen(given), _running = {}}, Server)
  self._timeout = self._core:timeout()
  self._handler, self._routes, self._targets = given.handler, routes, targets
  self.address, self.port = self._core:address()
  if self.port > 0 then
    self.url = (given.tls and "https://" or "http://") .. self.address
  end
  self._task = task.daemon(accept, self)
  return self
end

--- What it is doing now.
---@return {connections: integer, running: integer} open connections; handlers
function Server:stats()
  local running = 0
  for _ in pairs(self._running) do running = running + 1 end
  return {connections = self._core:connections(), running = running}
end

--- Use another certificate for connections from now on; options as tls of http.serve.
---@param options table
function Server:set_tls(options) self._core:set_tls(tls_options(options)) end

local CLOSE = {
  {name = "grace", type = "duration", doc = "how long requests in flight may take (5s)"},
}

--- Stop listening, let requests in flight finish for `grace`, cancel the rest, and wait
--- until every handler has ended. Closing twice is fine.
---@param options {grace: number|string?}?
function Server:close(options)
  local listener = self._core
  local grace = args.check("http.server:close", CLOSE, options).grace or 5
  listener:drain()
  try(task.timeout, grace, function()
    repeat until listener:drained(grace)
  end)
  listener:stop()
  self._task:join()
end

--- Wait until the server is closed by somebody else.
function Server:wait() self._task:join() end

Server.__close = function(self) self:close() end

function Server:__tostring() return "http.server " .. self.address end

return M
