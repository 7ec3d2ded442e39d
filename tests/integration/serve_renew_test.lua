-- `secrun serve` renews by itself, against Pebble, and is killed in the middle of it.
local deploy = require "deploy"
local estate_home = require "estate_home"
local json = require "json"
local pebble = require "pebble"
local process = require "process"
local serve_home = require "serve_home"

local eventually = serve_home.eventually

local LONG = {timeout = "150s"}
local ONE = '{name = "www", domains = {"www.a.test"}, install = {dir = "HOME/www"}}'

local function serve(t, home, ...)
  local child = process.spawn{argv = {estate_home.program, "serve", "--config",
    home .. "/estate.lua", ...}, env = {NOTIFY_SOCKET = false}}
  t:defer(function() child:close() end)
  return child
end

local function flows(home, ...)
  local result = process.run{argv = {estate_home.program, "flow", "list", "--json",
    "--config", home .. "/estate.lua", ...}, check = false, timeout = "30s"}
  return result.status == 0 and json.decode(result.stdout) or {}
end

local function in_service(home)
  local current = deploy.current(home .. "/www")
  return current and current.matches and current.leaf
end

test("a new server looks at once what is due, and renews it", LONG, function(t)
  local ca = pebble.start(t)
  local home = estate_home.new(t, ca, ONE)
  local server = serve(t, home)
  assert(eventually(function() return in_service(home) end), server:output())
  eventually(function() return flows(home, "--unfinished")[1] == nil end)
  local by_name = {}
  for _, one in ipairs(flows(home)) do by_name[one.name] = one.state end
  t:equal(by_name, {renew = "ok", script = "ok"})
  t:equal(ca:issued(), 1)
  server:kill "TERM"
  t:equal(server:wait("30s").status, 0)
end)

test("a server that is killed while it renews: the standby ends it, with one order", LONG,
  function(t)
    local ca = pebble.start(t)
    local home = estate_home.new(t, ca, ONE)
    local first = serve(t, home)
    assert(eventually(function() return flows(home, "--name", "renew")[1] end),
      first:output())
    local standby = serve(t, home, "--standby")
    first:kill "KILL"
    first:wait "30s"
    assert(eventually(function() return in_service(home) end), standby:output())
    t:equal(eventually(function()
      local one = flows(home, "--name", "renew")[1]
      return one.state == "ok" and one.state
    end), "ok")
    t:equal(ca:issued(), 1)
    standby:kill "TERM"
    t:equal(standby:wait("30s").status, 0)
  end)
