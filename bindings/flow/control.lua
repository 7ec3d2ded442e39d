--- The control socket: what a running `secrun serve` is asked and told.
--
--     local server <close> = control.listen{path = path, handlers = {status = fn}}
--     group:spawn(server.run, server)
--     local answer = control.call(path, "status", {})
--
-- A unix socket of mode 0600; only its owner and root are let in, by the credentials the
-- kernel gives, and those go to every handler. One JSON value a line:
--     {"v": 1, "id": 7, "call": "status", "args": {…}}
--     {"v": 1, "id": 7, "result": …}  or  {"v": 1, "id": 7, "error": {"kind": …, "message": …}}
-- Requests of a connection are answered in their order. Lines, connections, idle time and
-- the time of a handler are bounded. A dead server's socket file is replaced, a living
-- one's is not.

local args = require "args"
local errors = require "errors"
local json = require "json"
local log = require "log"
local process = require "process"
local stream = require "stream"
local task = require "task"

local control = {VERSION = 1}

local MAX_REQUEST, MAX_ANSWER = 64 * 1024, 4 * 1024 * 1024
local WORDS = {"kind", "message", "code", "status", "retryable", "retry_after", "details"}

local LISTEN = {
  {name = "path", type = "string", required = true, nonempty = true},
  {name = "handlers", type = "table", required = true,
    doc = "by name: function(args, peer) → plain value"},
  {name = "owner", type = "integer", doc = "user id let in beside root (our own)"},
  {name = "limit", type = "integer", positive = true, doc = "connections (32)"},
  {name = "idle", type = "duration", doc = "a connection that says nothing ends (30s)"},
  {name = "timeout", type = "duration", doc = "of one handler (30s)"},
}

local CALL = {
  {name = "timeout", type = "duration", doc = "for connecting and the answer (30s)"},
}

------------------------------------------------------------------ server

---@class control.server
---@field path string
local Server = {}
Server.__index = Server

--- Listen; nothing is answered before run.
---@param options {path: string, handlers: table, owner: integer?, limit: integer?,
---  idle: number|string?, timeout: number|string?}
---@return control.server
--- Raises conflict when another process listens there, or something is in the way.
function control.listen(options)
  options = args.check("control.listen", LISTEN, options)
  local names = {}
  for name in pairs(options.handlers) do names[#names + 1] = name end
  table.sort(names)
  return setmetatable({
    path = options.path, handlers = options.handlers, names = names,
    owner = options.owner or process.uid, limit = options.limit or 32, count = 0,
    idle = args.duration(options.idle or "30s"),
    timeout = args.duration(options.timeout or "30s"),
    listener = stream.listen{unix = options.path, mode = "0600"},
  }, Server)
end

local function words_of(err)
  err = errors.object(err)
  local words = {}
  for _, key in ipairs(WORDS) do words[key] = err[key] end
  return words
end

local function refuse(kind, code, format, ...)
  errors.raise(kind, format:format(...), {code = code})
end

function Server:handler(name)
  if type(name) ~= "string" then
    refuse("usage", "CONTROL", 'a request names its "call"')
  end
  local handler = self.handlers[name]
  if handler then return handler end
  local close = args.suggest(name, self.names)
  refuse("usage", "CONTROL", "there is no call %s; %s", name,
    close and "did you mean " .. close .. "?"
      or "there are: " .. table.concat(self.names, ", "))
end

local function check_version(request)
  if request.v == control.VERSION then return end
  refuse("protocol", "VERSION", "this server speaks version %d of the control protocol, "
    .. "the client version %s; use the secrun that runs the server", control.VERSION,
    tostring(request.v))
end

--- The answer to one line, as a table.
function Server:answer(line, peer)
  local request
  local ok, result = xpcall(function()
    request = json.decode(line, {max_depth = 32})
    if type(request) ~= "table" then
      refuse("protocol", "CONTROL", "a request is a JSON object, got %s", type(request))
    end
    check_version(request)
    local handler = self:handler(request.call)
    log.info("%s by uid %d (pid %d)", request.call, peer.uid, peer.pid)
    local given = type(request.args) == "table" and request.args or {}
    return task.timeout(self.timeout, function() return handler(given, peer) end)
  end, errors.object)
  local answer = {v = control.VERSION}
  if type(request) == "table" then answer.id = request.id end
  if ok then
    answer.result = result
  else
    if task.cancelled() then error(result, 0) end
    if result.kind == "internal" then log.error("%s", result) end
    answer.error = words_of(result)
  end
  return answer
end

--- One line of text; a result that is no plain value, or too long, is an error instead.
local function encode(answer)
  local text, err = try(json.encode, answer)
  if text and #text > MAX_ANSWER then
    text, err = nil, errors.new{kind = "limit", code = "CONTROL",
      message = ("the answer has %d bytes, more than %d; ask for less"):format(#text,
        MAX_ANSWER)}
  end
  return text or json.encode{v = answer.v, id = answer.id, error = words_of(err)}
end

local function tell(conn, kind, code, message)
  local text = json.encode{v = control.VERSION,
    error = {kind = kind, code = code, message = message}}
  try(conn.write, conn, text .. "\n", {timeout = "2s"}) -- who is not let in may be gone
end

function Server:talk(conn, peer)
  while true do
    local line, err = try(conn.read, conn, "line",
      {max = MAX_REQUEST, timeout = self.idle})
    if err and err.kind == "limit" then
      tell(conn, "limit", "CONTROL", "a request has at most " .. MAX_REQUEST .. " bytes")
    end
    if not line then return end
    conn:write(encode(self:answer(line, peer)) .. "\n", {timeout = self.idle})
  end
end

function Server:serve(conn)
  local peer = conn:peer_cred()
  if peer.uid ~= 0 and peer.uid ~= self.owner then
    log.warn("uid %d (pid %d) was not let in", peer.uid, peer.pid)
    tell(conn, "denied", "CONTROL", ("only root and the user with id %d may control this "
      .. "server, you are %d"):format(self.owner, peer.uid))
  elseif self.count > self.limit then
    log.warn("more than %d connections", self.limit)
    tell(conn, "limit", "CONTROL", "too many connections; try again")
  else
    self:talk(conn, peer)
  end
end

--- Answer until the server is closed; a connection that fails ends alone.
function Server:run()
  local group <close> = task.group()
  while true do
    local conn, err = try(self.listener.accept, self.listener)
    if not conn and self.listener.closed then break end
    if not conn then error(err, 0) end
    self.count = self.count + 1
    group:spawn(function()
      local connection <close> = conn
      local ok, why = xpcall(self.serve, errors.object, self, connection)
      self.count = self.count - 1
      if ok then return end
      if task.cancelled() then error(why, 0) end
      log.debug("a connection ended: %s", why.message)
    end)
  end
  group:cancel() -- who is still connected hears no more
end

--- Stop listening; run ends.
function Server:close() self.listener:close() end
Server.__close = Server.close

------------------------------------------------------------------ client

---@class control.client
local Client = {}
Client.__index = Client

local function not_running(path, err)
  if err.kind ~= "connect" and err.kind ~= "not_found" then error(err, 0) end
  errors.raise("connect", ("no secrun serve answers at %s; start it, or name the estate "
    .. "file it runs with by --config"):format(path), {code = "NOT_RUNNING", cause = err})
end

--- Connect to a running server. Raises connect (code NOT_RUNNING) when there is none, and
--- denied when who listens there is neither root nor this user.
---@param path string
---@param options {timeout: number|string?}?
---@return control.client
function control.connect(path, options)
  options = args.check("control.connect", CALL, options)
  local timeout = args.duration(options.timeout or "30s")
  local conn, err = try(stream.connect, {unix = path, timeout = timeout})
  if not conn then not_running(path, err) end
  local uid = conn:peer_cred().uid
  if uid ~= 0 and uid ~= process.uid and process.uid ~= 0 then
    conn:close()
    refuse("denied", "CONTROL", "%s is held by the user with id %d, not by you or root",
      path, uid)
  end
  return setmetatable({path = path, conn = conn, timeout = timeout, id = 0}, Client)
end

--- Ask for something; raises what the handler raised.
---@param name string
---@param given table? plain values
---@return any
function Client:call(name, given)
  self.id = self.id + 1
  local request = json.encode{v = control.VERSION, id = self.id, call = name,
    args = given or {}}
  local _, unsent = try(self.conn.write, self.conn, request .. "\n",
    {timeout = self.timeout})
  -- a server that does not let us in says so before it has read anything
  local line, unheard = try(self.conn.read, self.conn, "line",
    {max = MAX_ANSWER + 1024, timeout = self.timeout})
  if not line and (unsent or unheard) then error(unsent or unheard, 0) end
  if not line then
    refuse("io", "eof", "the server at %s ended before it answered", self.path)
  end
  local answer = json.decode(line)
  local failed = answer.error
  if type(failed) == "table" then
    errors.raise{kind = failed.kind, message = failed.message, code = failed.code,
      status = failed.status, retryable = failed.retryable == true,
      retry_after = failed.retry_after, details = failed.details}
  end
  if answer.v ~= control.VERSION or answer.id ~= self.id then
    refuse("protocol", "VERSION", "%s answers in another protocol", self.path)
  end
  return answer.result
end

function Client:close() self.conn:close() end
Client.__close = Client.close

--- Connect, ask once, close.
---@param path string
---@param name string
---@param given table?
---@param options {timeout: number|string?}?
---@return any
function control.call(path, name, given, options)
  local client <close> = control.connect(path, options)
  return client:call(name, given)
end

return control
