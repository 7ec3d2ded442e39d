-- Children: results, failures, time-outs, cancellation, what they inherit.
local process = require "process"
local task = require "task"
local fs = require "fs"

local function sh(script, options)
  options = options or {}
  options.argv = {"sh", "-c", script}
  return process.run(options)
end

-- Whether a process still runs; a zombie does not.
local function alive(pid)
  local ok, text = pcall(fs.read, ("/proc/%d/stat"):format(pid))
  return ok and not text:find("^%d+ %(.*%) [ZX]")
end

test("output, status and duration of a command", function(t)
  local r = sh "echo out; echo err >&2"
  t:equal({r.status, r.stdout, r.stderr, r.truncated}, {0, "out\n", "err\n", false})
  t:equal(r.signal, nil)
  t:equal(r.duration > 0, true)
end)

test("arguments reach the program as they are", function(t)
  local r = process.run{argv = {"printf", "%s|", "a b", "$HOME", "*", "", "ü'\"", 7}}
  t:equal(r.stdout, "a b|$HOME|*||ü'\"|7|")
end)

test("a failure raises with status and the last words", function(t)
  local err = t:raises(function() sh "echo one >&2; echo reason >&2; exit 3" end, "io",
    "sh ended with status 3: one | reason")
  t:equal(err.status, 3)
  t:equal(err.code, "EXIT")
  t:raises(function() sh "echo only stdout; exit 1" end, "io", "only stdout")
  t:raises(function() sh "kill -SEGV $$" end, "io", "SIGSEGV")
end)

test("check = false returns the failure", function(t)
  t:equal(sh("exit 3", {check = false}).status, 3)
  local r = sh("kill -KILL $$", {check = false})
  t:equal({r.status, r.signal}, {nil, "SIGKILL"})
end)

test("a program that is not there is not_found, with the mend", function(t)
  t:raises(function() process.run{argv = {"no-such-program"}} end, "not_found",
    "install it")
  t:raises(function() process.run{argv = {"/no/such/program"}} end, "not_found",
    "check the path")
  t:raises(function() process.run{argv = {"/etc/passwd"}} end, "io", "chmod %+x")
  t:raises(function() process.run{argv = {"true"}, cwd = "/no/such"} end, "not_found",
    "/no/such")
end)

test("a command line in one string shows the list", function(t)
  t:raises(function() process.run{argv = "nginx -s reload"} end, "usage",
    '{"nginx", "%-s", "reload"}')
  t:raises(function() process.run{argv = {"nginx -t"}} end, "usage", '{"nginx", "%-t"}')
  t:raises(function() process.run "nginx -t" end, "usage", '{"nginx", "%-t"}')
  t:raises(function() process.run{argv = {}} end, "usage", "empty")
  t:raises(function() process.run{} end, "usage", "argv")
  t:raises(function() process.run{argv = {"echo", {}}} end, "usage", "argv%[2%]")
  t:raises(function() process.run{argv = {"echo", "a\0b"}} end, "usage", "NUL")
  t:raises(function() process.run{argv = {"echo"}, shell = true} end, "usage", "shell")
end)

test("input is fed and closed, none is /dev/null", function(t)
  t:equal(process.run{argv = {"cat"}, stdin = "some\0thing"}.stdout, "some\0thing")
  t:equal(process.run{argv = {"cat"}, stdin = ""}.stdout, "")
  t:equal(process.run{argv = {"cat"}}.stdout, "")
  local big = ("0123456789abcdef"):rep(20000)
  t:equal(#process.run{argv = {"cat"}, stdin = big}.stdout, #big)
  t:equal(process.run{argv = {"true"}, stdin = big}.status, 0)
end)

test("output is bounded, the child is not blocked", function(t)
  local r = process.run{argv = {"head", "-c", "300000", "/dev/zero"},
    max_output = 1000}
  t:equal({#r.stdout, r.truncated, r.status}, {1000, true, 0})
  r = sh("for i in 1 2 3 4 5 6 7 8 9; do echo line$i >&2; done", {max_output = 12})
  t:equal(r.stderr, "line8\nline9\n")
end)

test("a time-out ends the whole group", function(t)
  local path, span, err = t:tmpdir() .. "/pid", 0.3
  repeat -- a machine under load may not even have started the shell in time
    err = t:raises(function()
      sh("sleep 60 & echo $! >" .. path .. "; echo waiting >&2; wait", {timeout = span})
    end, "timeout", "did not end within %d+%.?%d* s")
    span = span * 3
  until tostring(err):find "waiting" or span > 60
  assert(tostring(err):find "waiting", tostring(err))
  t:equal(alive(tonumber(fs.read(path))), false)
end)

test("who ignores TERM gets KILL after the grace", function(t)
  local span, err = 0.2
  repeat -- a machine under load may not even have started the shell in time
    err = t:raises(function()
      process.run{timeout = span,
        argv = {"sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 1; done"}}
    end, "timeout")
    span = span * 3
  until tostring(err):find "deaf" or span > 60
  assert(tostring(err):find "deaf", tostring(err))
end)

test("cancelling ends and reaps the child before it goes on", function(t)
  local path = t:tmpdir() .. "/pid"
  local group = task.group()
  local script = "echo $$ >%s.new; mv %s.new %s; exec sleep 600"
  group:spawn(sh, script:format(path, path, path))
  while not fs.exists(path) do task.sleep "5ms" end
  group:cancel()
  pcall(group.close, group)
  t:equal(alive(tonumber(fs.read(path))), false)
end)

test("a grandchild that keeps the pipe does not hold the result", function(t)
  local r = sh "setsid sleep 3 & echo started"
  t:equal(r.stdout, "started\n")
  t:equal(r.duration < 2, true)
end)

test("a variable that holds a secret is not inherited, but passed on purpose", function(t)
  local script = [[
local process = require "process"
local function seen(env)
  local argv = {"sh", "-c", "echo ${PASS-none} ${OTHER-none}"}
  return process.run{argv = argv, env = env}.stdout
end
io.write(seen())
local s = secret "env:PASS"
io.write(seen(), seen{PASS = s}, seen{PASS = "x"})
process.withhold "OTHER"
io.write(seen())
process.withhold "PATH"
io.write(process.env "PASS", " ", process.run{argv = {"sh", "-c", "echo $PATH"}}.stdout)]]
  local r = process.run{argv = {"/proc/self/exe", "-e", script},
    env = {PASS = "canary-5", OTHER = "other", PATH = "/usr/bin:/bin"}}
  t:equal(r.stdout, "canary-5 other\nnone other\ncanary-5 other\nx other\nnone none\n"
    .. "canary-5 /usr/bin:/bin\n")
end)

test("environment: inherited, changed, taken away, cleared", function(t)
  t:equal(sh("echo $HOME").stdout, (process.env "HOME" or "") .. "\n")
  t:equal(sh("echo $A-$HOME", {env = {A = "1", HOME = false}}).stdout, "1-\n")
  local env = {A = "x y", B = 2}
  local two = process.run{argv = {"env"}, clear_env = true, env = env}.stdout
  t:equal(two == "A=x y\nB=2\n" or two == "B=2\nA=x y\n", true)
  t:equal(process.run{argv = {"env"}, clear_env = true}.stdout, "")
  t:raises(function() sh("true", {env = {["A=B"] = "x"}}) end, "usage", "env")
  t:raises(function() sh("true", {env = {A = "x\0y"}}) end, "usage", "NUL")
  t:equal(process.env "SURELY_NOT_SET_ANYWHERE", nil)
end)

test("secrets pass by environment and input, never as an argument", function(t)
  local path = t:tmpdir() .. "/s"
  fs.write(path, "secret-canary-2")
  local s = secret("file:" .. path)
  t:raises(function() process.run{argv = {"echo", s}} end, "usage", "process list")
  t:equal(process.run{argv = {"cat"}, stdin = s}.stdout, "secret-canary-2")
  t:equal(sh("echo $S", {env = {S = s}}).stdout, "secret-canary-2\n")
  local err = t:raises(function() sh("cat >&2; exit 1", {stdin = s}) end, "io")
  t:equal(tostring(err):find "canary", nil)
end)

test("the working folder", function(t)
  local dir = fs.realpath(t:tmpdir())
  t:equal(process.run{argv = {"pwd"}, cwd = dir}.stdout, dir .. "\n")
end)

test("another user's rights, without our groups", function(t)
  if process.run{argv = {"id", "-u"}}.stdout ~= "0\n" then return end
  t:equal(process.run{argv = {"id", "-u"}, user = "nobody"}.stdout ~= "0\n", true)
  local groups = process.run{argv = {"id", "-G"}, user = "nobody"}.stdout
  t:equal((" " .. groups):find "%s0%s", nil)
  t:raises(function() process.run{argv = {"id"}, user = "no-such-user"} end, "not_found")
end)

test("a child has the descriptors 0, 1 and 2 only", function(t)
  local guard <close> = fs.lock(t:tmpdir() .. "/lock")
  local leaky = io.open("/etc/passwd")
  local r = process.run{argv = {"ls", "/proc/self/fd"}}
  leaky:close()
  t:equal(r.stdout, "0\n1\n2\n3\n") -- 3 is ls reading the folder
end)

test("a child leads a group of its own", function(t)
  local r = sh "ps -o pid=,pgid= -p $$ 2>/dev/null || awk '{print $1, $5}' /proc/$$/stat"
  local pid, group = r.stdout:match "(%d+)%s+(%d+)"
  t:equal(pid, group)
end)

test("a server is started, read line by line and ended", function(t)
  local pid
  do
    local server <close> = process.spawn{argv = {"sh", "-c",
      "echo ready >&2; echo second; printf rest; exec sleep 60"}}
    pid = server.pid
    t:equal(server:read_line(), "ready")
    t:equal(server:read_line "5s", "second")
    t:raises(function() server:read_line "50ms" end, "timeout")
    t:equal(server.running, true)
    t:equal(server:output(), "ready\nsecond\nrest")
  end
  t:equal(alive(pid), false)
end)

test("the last line without an end is a line, then nil", function(t)
  local child <close> = process.spawn{argv = {"printf", "a\n\nb"}}
  t:equal({child:read_line(), child:read_line(), child:read_line()}, {"a", "", "b"})
  t:equal(child:read_line(), nil)
  t:equal(child:wait().status, 0)
  t:equal(child:wait().status, 0)
  t:equal(child.running, false)
end)

test("a signal by name", function(t)
  local child <close> = process.spawn{argv = {"sh", "-c",
    "exec 2>/dev/null; trap 'echo hup; exit 7' HUP; echo ready; " ..
    "while :; do sleep 0.05; done"}}
  t:equal(child:read_line(), "ready")
  child:kill "HUP"
  t:equal(child:read_line(), "hup")
  t:equal(child:wait().status, 7)
  child:kill "TERM" -- nothing to hit any more
  t:raises(function() child:kill "NOPE" end, "usage", "NOPE")
end)

test("a chatty server keeps its last output only", function(t)
  local child <close> = process.spawn{argv = {"seq", "1", "20000"}, max_output = 1000}
  child:wait()
  t:equal(#child:output() <= 1000, true)
  t:equal(child:output():sub(-6), "20000\n")
end)

test("closing twice and closing the dead is harmless", function(t)
  local child = process.spawn{argv = {"true"}}
  child:wait()
  child:close()
  child:close()
  t:equal(child.running, false)
end)

test("a hundred children at once", function(t)
  local list = {}
  for i = 1, 100 do list[i] = i end
  local results, errors = task.each(list, {limit = 20}, function(i)
    return process.run{argv = {"echo", i}}.stdout
  end)
  t:equal(#errors, 0)
  t:equal(results[77], "77\n")
end)

test("the virtual clock waits for a child", {clock = "virtual"}, function(t)
  local time = require "time"
  local start = time.now()
  local group <close> = task.group()
  group:spawn(function() task.sleep "1h" end)
  t:equal(sh("sleep 0.1; echo done").stdout, "done\n")
  t:equal(time.now() - start < 1, true)
end)

test("commands are checked without running them", function(t)
  process.check_argv({"nginx", "-t"}, "reload")
  t:raises(function() process.check_argv("nginx -t", "reload") end, "usage",
    "reload must be a list")
end)

local function secrun(...)
  return process.run{argv = {"/proc/self/exe", ...}, check = false}
end

test("no child outlives the program", function(t)
  local r = secrun("-e", [[
    local child = require("process").spawn{argv = {"sh", "-c", "trap '' TERM; sleep 60"}}
    print(child.pid)]])
  t:equal(r.status, 0)
  t:equal(alive(tonumber(r.stdout)), false)
  r = secrun("-e", [[
    local child = require("process").spawn{argv = {"sleep", "60"}}
    print(child.pid)
    error "oops"]])
  t:equal(r.status, 1)
  t:equal(alive(tonumber(r.stdout)), false)
end)

test("running asks for permission", function(t)
  local r = secrun("--allow-run=true", "-e", 'require("process").run{argv = {"id"}}')
  t:equal(r.status, 1)
  t:equal(r.stderr:find "denied" ~= nil, true)
  t:equal(secrun("--allow-run=true", "-e",
    'require("process").run{argv = {"true"}}').stderr, "")
end)

test("the environment of a child has no more than the script may see", function(t)
  local r = process.run{
    argv = {"/proc/self/exe", "--allow-run=env", "--allow-env=SEEN", "-e",
      'io.write(require("process").run{argv = {"env"}}.stdout)'},
    env = {SEEN = "1", UNSEEN = "2"}}
  t:equal(r.stdout:find "SEEN=1" ~= nil, true)
  t:equal(r.stdout:find "UNSEEN", nil)
  t:equal(secrun("--allow-env=SEEN", "-e", 'require("process").env "HOME"').status, 1)
end)
