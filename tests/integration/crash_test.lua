-- Every place where a renewal can die, one by one: the next run ends it, with one order,
-- one certificate, the key that belongs to it, and nothing left over on disk.
local acme_proxy = require "acme_proxy"
local deploy = require "deploy"
local estate_home = require "estate_home"
local fs = require "fs"
local http = require "http"
local pebble = require "pebble"
local process = require "process"
local store = require "store"
local task = require "task"

local CRASH = estate_home.program:gsub("[^/]+$", "secrun_crash")

--- Pebble behind the proxy; answers to http-01 come from a folder, so that several
--- programs can renew at once.
local function start(t)
  local ca, root = pebble.start(t, {nonce_reject = 0, authz_reuse = 0}), t:tmpdir()
  local proxy, front = acme_proxy.start(t, ca)
  local server = http.serve{listen = ca.http01, routes = {
    ["GET /{path...}"] = function(request)
      return {body = {file = root .. "/" .. request.params.path}}
    end}}
  t:defer(function() server:close{grace = 0} end)
  front.webroot = root
  return proxy, front
end

local function home_of(t, front, name)
  local home = estate_home.new(t, front, ('{name = "www", domains = {%q}, '
    .. 'install = {dir = "HOME/www"}, reload = {"sh", "-c", "echo x >>HOME/reloads"}}')
    :format(name))
  estate_home.in_service(home .. "/www", name, 5)
  return home
end

--- Files below a folder that a whole renewal leaves none of.
local function leftovers(folder, list)
  list = list or {}
  for _, name in ipairs(fs.list(folder)) do
    local path = folder .. "/" .. name
    if name:find("^%.secrun%-") then list[#list + 1] = path end
    if fs.stat(path, {follow = false}).type == "directory" then leftovers(path, list) end
  end
  return list
end

--- What must be true in the end, wherever it died.
local function check(t, home, proxy, name, what)
  local now = deploy.current(home .. "/www")
  t:equal({now.matches, now.reload_pending, now.leaf.names[1]}, {true, false, name}, what)
  t:equal(proxy:finalized(name), 1, what)
  t:equal(proxy:ordered(name), 1, what)
  t:equal(leftovers(home), {}, what)
  t:equal(fs.list(home .. "/state/keys"), {}, what)
  assert(#fs.read(home .. "/reloads") >= 2, what)
  local db <close> = store.open(home .. "/state/secrun.db")
  t:equal(db:rows("SELECT state FROM flow"), {{state = "ok"}}, what)
  t:equal(db:rows("SELECT status FROM step WHERE status <> 'ok'"), {}, what)
end

--- Renew with death at the n-th point, then again; whether there was an n-th point.
local function die_at(t, proxy, front, n)
  local name = ("crash%d.a.test"):format(n)
  local home = home_of(t, front, name)
  local first = process.run{check = false, timeout = "60s",
    argv = {CRASH, "renew", "--config", home .. "/estate.lua"},
    env = {SECRUN_CRASH_AT = tostring(n)}}
  if first.signal ~= "SIGKILL" then
    estate_home.expect(first, 0, "renewed")
    return false
  end
  local what = first.stderr:match("crash point [^\n]+") or "killed"
  local again = estate_home.renew(home)
  if again.status ~= 0 then
    error(("%s: %s\n%s"):format(what, again.stdout, again.stderr), 0)
  end
  check(t, home, proxy, name, what)
  return true
end

test("killed at any point, the next run ends it: one order, one certificate",
  {timeout = "240s", leaks = true}, function(t)
    local proxy, front = start(t)
    local n, over = 0, false
    local function lane()
      while not over do
        n = n + 1
        if not die_at(t, proxy, front, n) then over = true end
      end
    end
    local group <close> = task.group()
    for _ = 1, 3 do group:spawn(lane) end
    group:close()
    assert(n > 40, n .. " points only")
    print(("crash points tried %d, violations 0"):format(n - 3))
  end)

-- The first process is stopped while it waits for an answer of the CA (so it holds no lock
-- of the database), for longer than its lease; a second one takes over; the first wakes up.
test("a process that slept while another took over writes nothing when it wakes",
  {timeout = "120s", leaks = true}, function(t)
    local proxy, front = start(t)
    for _, answer in ipairs{2, 5, 8} do
      local name, sleeper = ("zombie%d.a.test"):format(answer), nil
      local home = home_of(t, front, name)
      local argv = {estate_home.program, "renew", "--lease", "1s", "--config",
        home .. "/estate.lua"}
      proxy.before[proxy.replies + answer] = function() sleeper:kill("STOP") end
      sleeper = process.spawn{argv = argv}
      t:defer(function() sleeper:close() end)
      local slept = proxy.replies + answer
      while proxy.replies < slept do task.sleep(0.005) end
      local second = process.run{argv = argv, check = false, timeout = "60s"}
      sleeper:kill("CONT")
      estate_home.expect(second, 0, "www +renewed")
      sleeper:wait("30s")
      check(t, home, proxy, name, "stopped at answer " .. answer)
    end
  end)

test("killed ten times at random, the eleventh run finishes", {timeout = "120s",
  leaks = true}, function(t)
    local proxy, front = start(t)
    local home, name, killed = home_of(t, front, "often.a.test"), "often.a.test", 0
    for _ = 1, 10 do
      local result = process.run{check = false, timeout = "60s",
        argv = {CRASH, "renew", "--config", home .. "/estate.lua"},
        env = {SECRUN_CRASH_AT = tostring(math.random(4, 24))}}
      if result.signal == "SIGKILL" then killed = killed + 1 end
    end
    estate_home.expect(estate_home.renew(home), 0)
    check(t, home, proxy, name, "the eleventh")
    print(("killed %d times, finished by the eleventh run"):format(killed))
  end)
