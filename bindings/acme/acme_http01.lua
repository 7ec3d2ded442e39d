--- Solvers for the http-01 challenge (RFC 8555 8.3): a webroot, or our own server.
--
--     local a = http01.new{webroot = "/var/www/html"}
--     local b = http01.new{listen = "0.0.0.0:80"}
--
-- The token comes from outside: its alphabet is checked before it touches a path. The
-- answer is the key authorization and nothing else, no newline.

local args = require "args"
local core = require "acme.core"
local errors = require "errors"
local fs = require "fs"
local gate = require "gate"
local http = require "http"

local FOLDER = "/.well-known/acme-challenge"

-- A CA asks with a few lines; a small bound keeps what strangers may occupy small.
local MAX_HEADERS = 8192

local PLAIN = {["Content-Type"] = "application/octet-stream"}

local http01 = {}

local function check_token(challenge)
  if challenge.token and core.token_ok(challenge.token) then return challenge.token end
  errors.raise("protocol",
    "http-01: the CA's token is not base64url of 22 to 128 characters")
end

-------------------------------------------------------------------- webroot

---@class acme.Webroot
---@field type "http-01"
---@field webroot string
local Webroot = {type = "http-01"}
Webroot.__index = Webroot

--- The folder of the answers, made when missing. Symbolic links must not lead out of the
--- webroot, or whoever may write there could place files anywhere.
---@private
function Webroot:folder()
  local root = fs.realpath(self.webroot)
  local folder = self.webroot .. FOLDER
  local real = try(fs.realpath, self.webroot .. "/.well-known")
  if not real or real == root .. "/.well-known" then
    fs.mkdir(folder, {parents = true, mode = "0755"})
    real = fs.realpath(folder)
    if real == root .. FOLDER then return folder end
  end
  errors.raise("denied", ("%s is or lies behind a symbolic link (%s); make it a real "
    .. "folder"):format(folder, real))
end

--- Put the answer in place, readable by the web server.
---@param authorization acme.Authorization
---@param challenge acme.Challenge
---@param key_authorization string
function Webroot:present(authorization, challenge, key_authorization)
  local token = check_token(challenge)
  local folder, err = try(self.folder, self)
  if not folder then
    err.message = ("http-01 for %s: %s"):format(authorization:name(), err.message)
    error(err, 0)
  end
  fs.write(folder .. "/" .. token, key_authorization, {mode = "0644", fsync = false})
end

--- Take it away; that it is gone already is fine.
function Webroot:cleanup(_, challenge)
  fs.remove(self:folder() .. "/" .. check_token(challenge), {missing_ok = true})
end

-------------------------------------------------------------------- own server

---@class acme.Listener
---@field type "http-01"
---@field listen string "address:port"
---@field port integer? while it listens
---@field pass table? of the address, which one state on the loop holds at a time
local Listener = {type = "http-01"}
Listener.__index = Listener

-- One solver per address, so that issuances that run at once share the port.
local listeners = {}

--- Start listening with the first answer, and stop with the last.
---@private
function Listener:start()
  local guard <close> = self.gate:enter()
  if self.server then return end
  local answers = self.answers
  self.pass = self.address:enter()
  local half <close> = setmetatable({}, {__close = function()
    if not self.server then self:leave() end
  end})
  self.server = http.serve{
    listen = self.listen, max_headers = MAX_HEADERS,
    routes = {["GET " .. FOLDER .. "/{token}"] = function(request)
      local text = answers[request.params.token]
      return text and {headers = PLAIN, body = text}
    end},
  }
  self.port = self.server.port
end

---@private
function Listener:leave()
  self.pass:close()
  self.pass = nil
end

---@private
function Listener:stop()
  local guard <close> = self.gate:enter()
  if not self.server or next(self.answers) then return end
  local server = self.server
  self.server, self.port = nil, nil
  local closer <close> = setmetatable({}, {__close = function() self:leave() end})
  server:close()
end

--- Answer for the token from now on.
function Listener:present(authorization, challenge, key_authorization)
  local token = check_token(challenge)
  self.answers[token] = key_authorization
  local ok, err = pcall(self.start, self)
  if ok then return end
  self.answers[token] = nil
  err = errors.object(err)
  err.message = ("http-01 for %s: %s"):format(authorization:name(), err.message)
  error(err, 0)
end

--- Stop answering for the token.
function Listener:cleanup(_, challenge)
  self.answers[check_token(challenge)] = nil
  self:stop()
end

local OPTIONS = {
  {name = "webroot", type = "string", nonempty = true, doc = "what the web server has"},
  {name = "listen", type = "string", nonempty = true, doc = "address:port"},
}

--- A solver; exactly one of the two options. The server answers only while a challenge is
--- open, so the port must be free then (80, or where port 80 is forwarded to).
---@param options {webroot: string?, listen: string?}
---@return acme.Webroot|acme.Listener
function http01.new(options)
  options = args.check("acme.http01", OPTIONS, options)
  if (options.webroot == nil) == (options.listen == nil) then
    errors.raise("usage", "acme.http01: give either webroot or listen")
  end
  if options.webroot then
    local webroot = options.webroot:gsub("(.)/+$", "%1")
    return setmetatable({webroot = webroot}, Webroot)
  end
  local listen = options.listen
  listeners[listen] = listeners[listen]
    or setmetatable({listen = listen, answers = {}, gate = gate.new(),
      address = gate.new("listen " .. listen)}, Listener)
  return listeners[listen]
end

return http01
