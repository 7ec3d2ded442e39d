-- `secrun serve` as it runs: schedules, take-over, signals, its manager, its control socket.
local alert = require "alert"
local fs = require "fs"
local home_of = require "serve_home"
local json = require "json"
local process = require "process"
local store = require "store"

local eventually = home_of.eventually

local LONG = {timeout = "90s"}
local ENTRY = [[{name = "%s", at = "%s", flow = "%s", input = {file = "HOME/marks"}}]]
local TICK = ENTRY:format("tick", "every 1s", "mark")

local function by_hand(flow) return ENTRY:format("hand", "@yearly", flow) end

local function unique(lines)
  local seen, twice = {}, {}
  for _, line in ipairs(lines) do
    if seen[line] then twice[#twice + 1] = line end
    seen[line] = true
  end
  return twice
end

--- Give a server a signal and wait for its end.
local function ended(child, signal)
  if signal then child:kill(signal) end
  return child:wait "30s"
end

test("a schedule fires each time once, and SIGTERM ends the server", LONG, function(t)
  local home = home_of.new(t, {schedules = TICK})
  local first = home:serve()
  home:marks(2)
  local result = ended(first, "TERM")
  t:equal({result.status, result.signal}, {0})
  local second = home:serve()
  home:marks(4)
  ended(second, "TERM")
  local lines = home:marks(4)
  t:equal(unique(lines), {})
  for _, line in ipairs(lines) do
    assert(line:find "^cron/tick/%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%dZ$", line)
  end
end)

test("a second server is told who works, and writes nothing", LONG, function(t)
  local home = home_of.new(t)
  local first = home:serve()
  local text = home:expect(1, "serve")
  assert(text:find(("pid %d"):format(first.pid), 1, true), text)
  assert(text:find "since %d%d%d%d%-", text)
  assert(text:find("--standby", 1, true), text)
  assert(first.running)
end)

test("a standby takes over what a killed server was doing", LONG, function(t)
  local home = home_of.new(t, {schedules = by_hand "slow"})
  local first = home:serve()
  home:expect(0, "serve", "fire", "hand")
  home:marks(1)
  local standby = home:start{"--standby"}
  home:line(standby, "standing by for .*pid " .. first.pid)
  ended(first, "KILL")
  fs.write(home.file .. ".go", "")
  home:line(standby, "^ready: ")
  t:equal(home:marks(2), {"begun", "done"}) -- the first step was not done again
  ended(standby, "TERM")
end)

test("a standby does what a server that hangs leaves lying", LONG, function(t)
  local home = home_of.new(t, {schedules = by_hand "gate"})
  local first = home:serve{"--lease", "1s"}
  home:expect(0, "serve", "fire", "hand")
  local id = eventually(function()
    local one = home:json("flow", "list", "--state", "waiting", "--json")[1]
    return one and one.id
  end)
  local standby = home:start{"--standby", "--lease", "1s"}
  home:line(standby, "standing by")
  first:kill "STOP"
  home:expect(0, "flow", "signal", id, "open", '"sesame"')
  t:equal(home:marks(1), {"sesame"})
  first:kill "CONT"
  t:equal(home:json("flow", "show", id, "--json").state, "ok")
  t:equal({ended(first, "TERM").status, #home:marks(1)}, {0, 1})
  home:line(standby, "^ready: ")
  ended(standby, "TERM")
end)

test("a standby that is stopped ends, and the server goes on", LONG, function(t)
  local home = home_of.new(t)
  local first = home:serve()
  local standby = home:start{"--standby"}
  home:line(standby, "standing by")
  t:equal(ended(standby, "TERM").status, 0)
  t:equal(home:json("serve", "status", "--json").pid, first.pid)
end)

test("SIGTERM hands back a step that takes longer than the grace", LONG, function(t)
  local home = home_of.new(t, {schedules = by_hand "slow"})
  local first = home:serve{"--grace", "100ms"}
  home:expect(0, "serve", "fire", "hand")
  home:marks(1)
  t:equal(ended(first, "TERM").status, 0)
  local list = home:json("flow", "list", "--json")
  t:equal({#list, list[1].state, list[1].owner}, {1, "ready"})
  fs.write(home.file .. ".go", "")
  local second = home:serve()
  t:equal(home:marks(2), {"begun", "done"})
  ended(second, "TERM")
end)

test("SIGHUP reads the estate again; a broken one changes nothing", LONG, function(t)
  local home = home_of.new(t)
  local server = home:serve()
  fs.write(home.config, "certificates = {")
  server:kill "HUP"
  home:line(server, "the settings read before stay in use")
  local wrong = home:run("serve", "status")
  t:equal(wrong.status, 2) -- the file that names the socket is the broken one
  home:estate([[{name = "tick", at = "every 1x", flow = "mark"}]])
  server:kill "HUP"
  home:line(server, 'schedules%[3%] %(tick%)')
  home:estate(TICK)
  server:kill "HUP"
  home:line(server, "was read again")
  home:marks(1)
  local status = home:json("serve", "status", "--json")
  t:equal({status.pid, status.schedules[1].name}, {server.pid, "tick"})
  home:estate((TICK:gsub("tick", "tock")))
  home:expect(0, "serve", "reload")
  t:equal(home:json("serve", "status", "--json").schedules[1].name, "tock")
  home:estate([[{name = "tick", at = "0 0 31 2 *", flow = "mark"}]])
  fs.rename(home.config, home.config .. ".broken")
  home:estate()
  local good = home.config
  fs.rename(home.config .. ".broken", good)
  t:equal(home:run("serve", "reload").status, 2)
  ended(server, "TERM")
end)

test("the control socket answers, and says when nobody does", LONG, function(t)
  local home = home_of.new(t, {schedules = by_hand "mark"})
  local text = home:expect(1, "serve", "status")
  assert(text:find("no secrun serve answers", 1, true), text)
  local server = home:serve()
  text = home:expect(0, "serve", "status")
  assert(text:find("pid " .. server.pid, 1, true), text)
  assert(text:find("@yearly", 1, true), text)
  text = home:expect(0, "serve", "fire", "hand")
  assert(text:find "flow cron/hand/%S+ is started", text)
  home:marks(1)
  text = home:expect(1, "serve", "fire", "hnad")
  assert(text:find("did you mean hand?", 1, true), text)
  assert(home:expect(2, "serve", "stauts"):find("did you mean status?", 1, true))
  assert(home:expect(2, "serve", "stop", "now"):find("one word too many", 1, true))
  home:expect(0, "serve", "stop")
  t:equal(server:wait("30s").status, 0)
  assert(not fs.exists(home.dir .. "/state/control"), "the socket is gone")
end)

--- A manager: prints each datagram as a line.
local MANAGER = [[
use Socket;
socket(my $s, AF_UNIX, SOCK_DGRAM, 0) or die $!;
bind($s, pack_sockaddr_un($ARGV[0])) or die $!;
$| = 1;
print "bound\n";
while (defined recv($s, my $text, 4096, 0)) { $text =~ s/\n/ | /g; print "$text\n"; }]]

test("the service manager hears ready, signs of life, and stopping", LONG, function(t)
  local home = home_of.new(t)
  local path = home.dir .. "/notify"
  local manager = process.spawn{argv = {"perl", "-e", MANAGER, path}}
  t:defer(function() manager:close() end)
  home:line(manager, "^bound")
  local server = home:serve({}, {NOTIFY_SOCKET = path, WATCHDOG_USEC = "300000"})
  local order = {}
  for _, pattern in ipairs{"^READY=1", "^WATCHDOG=1", "^WATCHDOG=1"} do
    order[#order + 1] = home:line(manager, pattern)
  end
  assert(order[1]:find("MAINPID=" .. server.pid, 1, true), order[1])
  server:kill "HUP"
  home:line(manager, "^RELOADING=1 | MONOTONIC_USEC=%d+")
  home:line(manager, "^READY=1")
  server:kill "TERM"
  home:line(manager, "^STOPPING=1")
  t:equal(server:wait("30s").status, 0)
end)

test("a script fires as a schedule, with what it says kept", LONG, function(t)
  local home = home_of.new(t, {schedules = [[
    {name = "help", at = "@yearly", run = {"help", "serve"}},
    {name = "wrong", at = "@yearly", run = {"chekc"}}]]})
  local server = home:start()
  local mend = "schedule wrong: there is no script chekc; did you mean check?"
  home:line(server, "there is no script chekc")
  home:line(server, "^ready: ")
  local text = home:expect(1, "check")
  assert(text:find("missing here: " .. mend, 1, true), text)
  assert(text:find "\nhelp +@yearly +help serve +%d%d%d%d%-01%-01T00:00:00Z", text)
  home:expect(0, "serve", "fire", "help")
  home:expect(0, "serve", "fire", "wrong")
  local by_name = eventually(function()
    local found = {}
    for _, one in ipairs(home:json("flow", "list", "--json")) do
      if one.finished then found[one.id:match "^cron/(%a+)/"] = one end
    end
    return found.help and found.wrong and found
  end)
  t:equal({by_name.help.state, by_name.wrong.state}, {"ok", "failed"})
  assert(by_name.wrong.error.message:find("chekc", 1, true), json.encode(by_name.wrong))
  local shown = home:json("flow", "show", by_name.help.id, "--json")
  assert(shown.output.output:find("usage: secrun serve", 1, true), json.encode(shown))
  ended(server, "TERM")
end)

test("a flow that fails is an alert until the next one of its schedule is well", LONG,
  function(t)
    local home = home_of.new(t, {schedules = by_hand "fragile"})
    local server = home:start()
    home:line(server, "^ready: ")
    home:line(server, "alerts are only logged") -- it would tell them
    local db <close> = store.open("sqlite:" .. home.dir .. "/state/secrun.db")
    local function state()
      local row = alert.get("flow-failed", "cron/hand", db)
      return row and row.state
    end
    home:expect(0, "serve", "fire", "hand")
    t:equal(eventually(state), "firing")
    fs.write(home.file, "")
    eventually(function()
      home:expect(0, "serve", "fire", "hand")
      return state() ~= "firing"
    end)
    t:equal(state(), "resolved")
    ended(server, "TERM")
  end)
