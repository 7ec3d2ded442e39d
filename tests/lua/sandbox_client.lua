--- A plain client of the sandbox's SCM for tests.
--
--     local scm = require "sandbox_client".start(t, {certificates = 10})
--     local body, res = scm:get("/api/ssl/v1", 200)          -- the status is expected
--     scm:post("/api/ssl/v1/enroll", {…}, 200)
--     scm.as.approver:post("/api/ssl/v1/approve/" .. id, {message = "yes"}, 204)
--     scm:fits("ssl.details", body)                           -- see sandbox_shapes

local http = require "http"
local json = require "json"
local scm_server = require "scm_server"
local shapes = require "sandbox_shapes"
local x509 = require "x509"

local M = {}

local Client = {}
Client.__index = Client

local function headers_for(login)
  return {login = login, password = login .. "-password", customerUri = "sandbox"}
end

--- Send a request and expect a status; the body (decoded when it is JSON) and the response.
function Client:send(method, path, body, status, more)
  local options = {method = method, url = self.base .. path, headers = self.headers,
    raise = false}
  for key, value in pairs(more or {}) do options[key] = value end
  if body ~= nil then options.json = body end
  local res = http.request(options)
  if status and res.status ~= status then
    error(("%s %s: %d instead of %d: %s"):format(method, path, res.status, status,
      res.body:sub(1, 300)), 2)
  end
  local is_json = (res:content_type() or ""):find("json", 1, true) and res.body ~= ""
  return is_json and res:json() or res.body, res
end

function Client:get(path, status, more)
  return self:send("GET", path, nil, status, more)
end
function Client:delete(path, status, body)
  return self:send("DELETE", path, body, status)
end

for name, method in pairs{post = "POST", put = "PUT"} do
  Client[name] = function(self, path, body, status)
    return self:send(method, path, body or {}, status)
  end
end

--- Send and expect an error body with this code.
function Client:refused(method, path, body, code, status)
  local answer = self:send(method, path, body, status or 400)
  if type(answer) ~= "table" or answer.code ~= code then
    error(("%s %s: %s instead of code %d"):format(method, path, json.encode(answer),
      code), 2)
  end
  return answer.description
end

--- Raise unless a document is what the reference documents.
function Client:fits(name, document)
  local problems = assert(shapes[name], name):problems(document, {strict = true})
  if #problems == 0 then return document end
  error(("%s: %s\n%s"):format(name, problems[1].text, json.encode(document)), 2)
end

--- A request for names, with a key of its own: PEM and key.
function M.csr(names, kind)
  local key = x509.key{type = kind or "p256"}
  local list = type(names) == "table" and names or {names}
  return x509.csr{key = key, names = list, subject = {CN = list[1]}}:pem(), key
end

--- Enrol; the sslId.
function Client:enroll(names, fields)
  local list = type(names) == "table" and names or {names}
  local body = {orgId = 101, certType = 511, term = 199, csr = M.csr(list),
    subjAltNames = table.concat(list, ",")}
  for key, value in pairs(fields or {}) do body[key] = value end
  return self:post("/api/ssl/v1/enroll", body, 200).sslId
end

function Client:status(id) return self:get("/api/ssl/v1/" .. id, 200).status end

--- Start a server without TLS, unless told otherwise; it ends with the test.
function M.start(t, options)
  local given = {tls = false, seed = 7}
  for key, value in pairs(options or {}) do given[key] = value end
  local server = scm_server.start(given)
  t:defer(function() server:close() end)
  local function client(login)
    return setmetatable({base = server.url, headers = headers_for(login),
      server = server},
      Client)
  end
  local scm = client "api"
  scm.as = {approver = client "approver", viewer = client "viewer"}
  return scm
end

M.Client = Client

return M
