--- A Sectigo Certificate Manager on loopback that behaves like the real one.
--
--     local scm <close> = scm_server.start{seed = 7}
--     http.get(scm.url .. "/api/organization/v1", {ca = scm.ca_file …, headers = {
--       login = "api", password = "api-password", customerUri = "sandbox"}})
--     scm:fault{path = "/api/ssl/v1/enroll", lose = true}
--     scm:advance "30d"
--
-- Two faces on two ports: `url` takes header logins (and client certificates under /private),
-- `admin_url` takes bearer tokens of `token_url`. State is in memory.

local args = require "args"
local auth = require "sandbox_auth"
local certs = require "sandbox_certs"
local control = require "sandbox_control"
local errors = require "errors"
local faults = require "sandbox_faults"
local http_server = require "http_server"
local json = require "json"
local log = require "log"
local loopback = require "loopback"
local sandbox_route = require "sandbox_route"
local sandbox_state = require "sandbox_state"
local wire = require "sandbox_wire"

local scm_server = {}

--- In this order: each begins with what those before it made.
local RESOURCES = {"sandbox_orgs", "sandbox_org_validations", "sandbox_profiles",
  "sandbox_custom_fields", "sandbox_domains", "sandbox_dcv", "sandbox_ssl",
  "sandbox_ssl_list", "sandbox_enroll", "sandbox_collect", "sandbox_acme_accounts",
  "sandbox_persons", "sandbox_notifications", "sandbox_reports", "sandbox_discovery",
  "sandbox_buckets", "sandbox_admins"}

local START = {
  {name = "listen", type = "string", doc = "host:port of the classic face, a free port"},
  {name = "admin_listen", type = "string", doc = "host:port of the other face"},
  {name = "tls", type = "boolean", doc = "https (true)"},
  {name = "seed", type = "integer", doc = "what is made is a function of it (0)"},
  {name = "certificates", type = "integer", doc = "an estate of so many (0)"},
  {name = "epoch", type = "number", doc = "the instant the estate is seen from; today"},
  {name = "settings", type = "table", doc = "see docs/sandbox.md"},
  {name = "ca_folder", type = "string", doc = "keep the CA's keys there"},
  {name = "max_body", type = "integer", positive = true},
}

-- ---------------------------------------------------------------- answering

local JSON_TYPE = "application/json;charset=UTF-8"

--- What a handler returned as a response.
local function response_of(status, body, headers)
  local all = {}
  for name, value in pairs(headers or {}) do all[name] = tostring(value) end
  if type(body) == "table" then
    all["Content-Type"] = all["Content-Type"] or JSON_TYPE
    body = json.encode(body)
  end
  return {status = status, headers = all, body = body or ""}
end

--- Bodies of errors are missing at times on the real service, so a setting leaves them out.
local function failure(server, err)
  if server.state.settings.empty_errors then
    return response_of(err.status, nil, err.headers)
  end
  return response_of(err.status, {code = err.code, description = err.description},
    err.headers)
end

--- The path without /private and without slashes at its end; whether it was private.
local function normal_path(raw)
  local rest = raw:match "^/private(/api/.*)$"
  local path = (rest or raw):gsub("(.)/+$", "%1")
  return path, rest ~= nil
end

local ACTIVITY = 10000 -- entries kept for the activity report

local function note_activity(state, call)
  local list = state.activity
  list[#list + 1] = {at = state.now(), method = call.req.method, path = call.path,
    address = call.req.peer.address, admin = call.admin}
  if #list > ACTIVITY then table.remove(list, 1) end
end

local function call_handler(server, call)
  local method, path = call.req.method, call.path
  local handler, found = server.routes:find(method, path)
  if not handler and method == "HEAD" then
    handler, found = server.routes:find("GET", path)
  end
  if not handler and found then
    return response_of(405, nil, {Allow = table.concat(found, ", ")})
  elseif not handler then
    wire.missing(-1, ("No handler found for %s %s"):format(method, path))
  end
  call.params = found
  local status, body, headers = handler(call)
  if method ~= "GET" and method ~= "HEAD" then note_activity(server.state, call) end
  return response_of(status, body, headers)
end

local function do_call(server, req, face, path, private)
  local state = server.state
  local ok, result = xpcall(function()
    local call = {state = state, req = req, query = req.query, path = path,
      admin_face = face == "admin", base = server:base(face),
      version = tonumber(path:match "^/api/%w+/v(%d+)")}
    call.admin = auth.caller(state, req, face, private)
    return call_handler(server, call)
  end, function(err)
    return getmetatable(err) == wire.Failure and err or errors.object(err)
  end)
  if ok then return result end
  if getmetatable(result) == wire.Failure then return failure(server, result) end
  if result.kind == "cancelled" then error(result, 0) end
  log.error("sandbox: %s %s: %s\n%s", req.method, path, tostring(result),
    result.trace or "")
  return response_of(500, {code = -2, description = "Internal error"})
end

--- Where the ACME directories of SCM are; this server speaks SCM only.
local function no_acme()
  return 404, {type = "urn:ietf:params:acme:error:malformed", status = 404,
    detail = "the sandbox has no ACME server"}, {["Content-Type"]
    = "application/problem+json"}
end

--- Everything that is no call of the API: control, certificates of the CA, tokens.
local function beside(server, req, path)
  if path:find "^/control/" then return response_of(control.serve(server, req, path)) end
  if path:find "^/ca/" then return response_of(control.ca_file(server.state, path)) end
  if path:find "^/v2/%u%u$" then return response_of(no_acme()) end
  if path == auth.TOKEN_PATH and req.method == "POST" then
    return response_of(auth.token(server.state, req))
  end
end

local KEPT = 1000 -- of the requests seen

local function remember(server, req, path, face)
  local seen = server.requests
  seen[#seen + 1] = {method = req.method, path = path, face = face,
    login = req.headers.login, query = req.query_string}
  if #seen > KEPT then table.remove(seen, 1) end
  server.count = server.count + 1
end

--- Setting collect_breaks: a connection on which `collect` was refused answers nonsense next.
local MALFORMED = "\0\0HTP/1.1 2OO\r\n\r\n"

local function connection_of(req)
  return ("%s %d"):format(req.peer.address, req.peer.port)
end

local function take_broken(server, req)
  local key = connection_of(req)
  local broken = server.broken[key]
  server.broken[key] = nil
  return broken
end

local function handle(server, face, req)
  local path, private = normal_path(req.raw_path)
  local function work()
    return beside(server, req, path) or do_call(server, req, face, path, private)
  end
  local control_call = path:find "^/control/"
  if not control_call then remember(server, req, path, face) end
  if take_broken(server, req) then return req:drop(MALFORMED) end
  local fault = not control_call and server.faults:take(req.method, path)
  local response, bytes
  if fault then
    response, bytes = faults.serve(fault, req, work) else response = work()
  end
  if not response then return req:drop(bytes) end
  if server.state.settings.collect_breaks and path:find "/collect/"
    and response.status >= 400 then
    server.broken[connection_of(req)] = true
  end
  return response
end

-- ---------------------------------------------------------------- the server

--- @class scm_server
--- @field url string of the classic face
--- @field admin_url string of the face for bearer tokens
--- @field token_url string
--- @field ca string? PEM of the CA that signed its TLS certificate
--- @field root string PEM of the CA that issues
--- @field state table
--- @field requests table[] the last requests: {method, path, face, login}
--- @field count integer requests so far
local Server = {}
Server.__index = Server

function Server:base(face) return face == "admin" and self.admin_url or self.url end

--- Let something go wrong; see sandbox_faults.
---@param fault table
function Server:fault(fault) self.faults:add(fault) end

--- Let time pass for the sandbox only: its states, expiry dates and the certificates it makes.
---@param duration number|string
function Server:advance(duration) self.state:advance(args.duration(duration)) end

--- What the control face does, from Lua: server:control("dcv", {domain = …, outcome = …}).
---@param name string
---@param body table?
function Server:control(name, body) return control.act(self, name, body or {}) end

--- A client certificate for the /private face of a login: PEM certificate and key.
---@param login string
---@return {cert: string, key: any}
function Server:client_certificate(login)
  local admin = auth.find(self.state, login)
    or errors.raise("usage", ("there is no login %q"):format(login))
  local made = self.tls:client(login)
  admin.certificate_serial = made.serial
  return made
end

function Server:close()
  self.classic:close{grace = 0.5}
  self.admin:close{grace = 0.5}
end

Server.__close = function(self) self:close() end

function Server:__tostring() return "scm_server " .. self.url end

local function serve(server, face, listen, max_body)
  local tls = server.tls
  return http_server.serve{listen = listen or "127.0.0.1:0", max_body = max_body,
    limit = 256, timeout = "2m",
    tls = tls and {cert = tls.cert, key = tls.key, client_ca = tls.ca} or nil,
    handler = function(req) return handle(server, face, req) end}
end

--- Start one; it serves until closed.
---@param options table? see START and docs/sandbox.md
---@return scm_server
function scm_server.start(options)
  options = args.check("scm_server.start", START, options)
  local server = setmetatable({requests = {}, count = 0, broken = {},
    faults = faults.new(),
    routes = sandbox_route.new()}, Server)
  if options.tls ~= false then
    server.tls = loopback.certificate()
    server.ca = server.tls.ca
  end
  local half <close> = setmetatable({}, {__close = function(_, err)
    if err and server.classic then server.classic:close() end
    if err and server.admin then server.admin:close() end
  end})
  server.classic = serve(server, "classic", options.listen, options.max_body)
  server.admin = serve(server, "admin", options.admin_listen, options.max_body)
  server.url, server.admin_url = server.classic.url, server.admin.url
  server.token_url = server.admin_url .. auth.TOKEN_PATH
  server.state = sandbox_state.new{seed = options.seed or 0, settings = options.settings,
    base_url = server.url, certificates = options.certificates or 0,
    epoch = options.epoch, ca_folder = options.ca_folder}
  server.state.token_url, server.state.acme_url = server.token_url, server.url .. "/v2"
  server.root = server.state.ca.root:pem()
  auth.seed(server.state)
  certs.seed(server.state)
  for _, name in ipairs(RESOURCES) do
    local resource = require(name)
    resource.routes(server.routes)
    if resource.seed then resource.seed(server.state) end
  end
  return server
end

return scm_server
