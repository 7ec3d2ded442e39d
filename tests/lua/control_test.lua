-- The control socket: who is let in, what it answers, what it bears.
local control = require "control"
local errors = require "errors"
local fs = require "fs"
local json = require "json"
local process = require "process"
local stream = require "stream"
local task = require "task"

local eventually = require "eventually"

--- A server in a folder of its own, which runs until the test ends.
local function served(t, handlers, options)
  local path = t:tmpdir() .. "/control"
  local how = {path = path, handlers = handlers}
  for key, value in pairs(options or {}) do how[key] = value end
  local server = control.listen(how)
  local group = task.group()
  group:spawn(server.run, server)
  t:defer(function()
    server:close()
    group:close()
  end)
  return path, server
end

local function raw(path)
  return stream.connect{unix = path}
end

test("calls are answered, with who called", function(t)
  local path = served(t, {
    add = function(given) return given.a + given.b end,
    who = function(_, peer) return peer end,
    nothing = function() end,
  })
  t:equal(fs.stat(path).mode, "0600")
  local client <close> = control.connect(path)
  t:equal(client:call("add", {a = 1, b = 2}), 3)
  local peer = client:call "who"
  t:equal({peer.pid, peer.uid}, {process.pid, process.uid})
  t:equal(client:call "nothing", nil)
  t:equal(control.call(path, "add", {a = 2, b = 2}), 4)
end)

test("what a handler raises is raised at the caller", function(t)
  local path = served(t, {
    gone = function()
      errors.raise("not_found", "no flow x", {code = "FLOW", details = {"a"}})
    end,
    broken = function() local a = nil; return a.b end,
    strange = function() return {fn = print} end,
  })
  local client <close> = control.connect(path)
  local err = t:raises(function() client:call "gone" end, "not_found", "no flow x")
  t:equal({err.code, err.details}, {"FLOW", {"a"}})
  t:raises(function() client:call "broken" end, "internal", "index")
  t:raises(function() client:call "strange" end, "usage")
  t:raises(function() client:call "gnoe" end, "usage", "did you mean gone%?")
  t:raises(function() client:call "gone" end, "not_found")
end)

test("lines that are no request get an answer and end nothing", function(t)
  local path = served(t, {ping = function() return "pong" end})
  local conn <close> = raw(path)
  local function ask(line)
    conn:write(line .. "\n")
    return json.decode(conn:read())
  end
  t:equal(ask("nonsense").error.kind, "protocol")
  t:equal(ask("[1]").error.kind, "protocol")
  t:equal(ask('"x"').error.code, "CONTROL")
  t:equal(ask('{"v": 2, "id": 1, "call": "ping"}').error.code, "VERSION")
  t:equal(ask('{"v": 1, "id": 1}').error.code, "CONTROL")
  t:equal(ask('{"v": 1, "id": 9, "call": "ping", "args": 7}'),
    {v = 1, id = 9, result = "pong"})
end)

test("lines, answers and slow handlers are bounded", function(t)
  local path = served(t, {
    slow = function() task.sleep "1h" end,
    much = function() return ("x"):rep(5 * 1024 * 1024) end,
  }, {timeout = "50ms"})
  t:raises(function() control.call(path, "slow") end, "timeout")
  t:raises(function() control.call(path, "much") end, "limit", "ask for less")
  local long <close> = raw(path)
  long:write(("x"):rep(70 * 1024))
  t:equal(json.decode(long:read()).error.kind, "limit")
  t:equal(long:read(), nil)
end)

test("connections are bounded, and a silent one ends", function(t)
  local ping = {ping = function() return "pong" end}
  local path, server = served(t, ping, {limit = 2})
  do
    local a <close> = raw(path)
    local b <close> = raw(path)
    eventually(function() return server.count == 2 end)
    t:raises(function() control.call(path, "ping") end, "limit", "too many")
    t:equal({a.closed, b.closed}, {false, false})
  end
  eventually(function() return server.count == 0 end)
  t:equal(control.call(path, "ping"), "pong")
  local hasty = served(t, ping, {idle = "50ms"})
  local silent <close> = raw(hasty)
  t:equal(silent:read(), nil)
end)

test("only the owner and root are let in", function(t)
  local path = served(t, {ping = function() return "pong" end},
    {owner = process.uid == 0 and 0 or 65534})
  if process.uid ~= 0 then
    t:raises(function() control.call(path, "ping") end, "denied", "only root")
    return
  end
  t:equal(control.call(path, "ping"), "pong")
  local program = require("load").paths().program
  local folder = path:match "^(.*)/[^/]*$"
  fs.chmod(folder, "0755")
  fs.chmod(path, "0666")
  local script = ("print(pcall(require('control').call, %q, 'ping'))"):format(path)
  local result = process.run{argv = {"setpriv", "--reuid=65534", "--regid=65534",
    "--clear-groups", program, "-e", script}, check = false, timeout = "20s",
    env = {HOME = "/"}}
  assert(result.stdout:find("only root and the user with id 0 may control", 1, true),
    result.stdout .. result.stderr)
end)

test("a server that does not run is named, a dead one's socket is replaced", function(t)
  local path = t:tmpdir() .. "/control"
  local err = t:raises(function() control.call(path, "ping") end, "connect",
    "no secrun serve answers")
  t:equal(err.code, "NOT_RUNNING")
  local program = require("load").paths().program
  local script = ("require('stream').listen{unix = %q} io.write('up\\n') io.flush() "
    .. "require('task').sleep(60)"):format(path)
  local child = process.spawn{argv = {program, "-e", script}}
  t:equal(child:read_line "10s", "up")
  t:raises(function() control.listen{path = path, handlers = {}} end, "conflict",
    "another process")
  child:kill "SIGKILL"
  child:wait "10s"
  t:equal(fs.stat(path).type, "socket")
  t:raises(function() control.call(path, "ping") end, "connect", "no secrun serve")
  control.listen{path = path, handlers = {}}:close()
  assert(not fs.exists(path))
end)

test("who waits for an answer hears it when the server stops", function(t)
  local started
  local path, server = served(t, {hang = function() started = true task.sleep "1h" end})
  local group <close> = task.group()
  local waiting = group:spawn(function()
    return t:raises(function() control.call(path, "hang") end, "io")
  end)
  eventually(function() return started end)
  server:close()
  waiting:join()
end)
