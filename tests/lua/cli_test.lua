--- The command line: options, names of scripts, exit status, signals.

local program = require "program"
local task = require "task"

local function run(...) return program.run({...}) end

local function expect(t, result, stdout, status)
  t:equal(result.stderr, "")
  t:equal(result.stdout, stdout)
  t:equal(result.status, status or 0)
end

-- ---------------------------------------------------------------- options

test("-e runs texts in order, also glued to the option", function(t)
  expect(t, run("-e", "x = 1", "-eprint(x + 1)"), "2\n")
end)

test("-l requires into a global, -l g=m into another", function(t)
  expect(t, run("-l", "time", "-l", "clock=time", "-e", "print(time == clock)"), "true\n")
end)

test("-l and -e run in the order they are given", function(t)
  expect(t, run("-e", "print(json)", "-l", "json", "-e", "print(type(json))"),
    "nil\ntable\n")
end)

test("arg has the words around the script, varargs those after it", function(t)
  local path = program.file(t:tmpdir(), "a.lua",
    "print(arg[0] == ..., select('#', ...))\n" ..
    "print(arg[1], arg[2], arg[-1], arg[-2] ~= nil)")
  expect(t, run("-W", path, path, "b"), "true\t2\n" .. path .. "\tb\t-W\ttrue\n")
end)

test("a script on standard input, without and with a dash", function(t)
  expect(t, program.run({}, {stdin = "print('in', ...)"}), "in\n")
  expect(t, program.run({"-", "a"}, {stdin = "print('in', ...)"}), "in\ta\n")
end)

test("the first line of a script may name the interpreter", function(t)
  local path = program.file(t:tmpdir(), "a.lua", "#!/usr/bin/env secrun\nprint(1)")
  expect(t, run(path), "1\n")
end)

test("-v and --version print the version and stop", function(t)
  for _, option in ipairs{"-v", "--version"} do
    t:equal(run(option).stdout:match("^secrun %d+%.%d+%.%d+ on Lua 5%.4%.%d+\n$") ~= nil,
      true)
  end
end)

test("-W turns warnings on", function(t)
  local result = run("-W", "-e", "warn('careful')")
  assert(result.stderr:find("careful", 1, true))
  t:equal(run("-e", "warn('careful')").stderr, "")
end)

test("SECRUN_INIT comes before LUA_INIT, -E ignores both", function(t)
  local env = {SECRUN_INIT = "print 'ours'", LUA_INIT = "print 'lua'"}
  expect(t, program.run({"-e", "print(1)"}, {env = env}), "ours\n1\n")
  expect(t, program.run({"-E", "-e", "print(1)"}, {env = env}), "1\n")
  env.SECRUN_INIT = false
  expect(t, program.run({"-e", "print(1)"}, {env = env}), "lua\n1\n")
end)

test("LUA_INIT may name a file", function(t)
  local path = program.file(t:tmpdir(), "init.lua", "print 'file'")
  expect(t, program.run({"-e", "print(1)"}, {env = {LUA_INIT = "@" .. path}}),
    "file\n1\n")
end)

test("LUA_PATH is obeyed, and ignored with -E", function(t)
  local folder = t:tmpdir()
  program.file(folder, "mine.lua", "return 'mine'")
  local env = {LUA_PATH = folder .. "/?.lua;;"}
  expect(t, program.run({"-e", "print((require 'mine'))"}, {env = env}), "mine\n")
  t:equal(program.run({"-E", "-e", "require 'mine'"}, {env = env}).status, 1)
end)

test("modules come from the script's folder, not from the working directory", function(t)
  local folder, elsewhere = t:tmpdir(), t:tmpdir()
  program.file(folder, "near.lua", "return 'near'")
  program.file(elsewhere, "here.lua", "return 'here'")
  local path = program.file(folder, "a.lua",
    "print((require 'near'), (pcall(require, 'here')))")
  expect(t, program.run({path}, {cwd = elsewhere}), "near\tfalse\n")
end)

test("a wrong option is one line with a suggestion, status 2", function(t)
  local result = run("--log-levle=info", "-e", "print(1)")
  t:equal(result.status, 2)
  t:equal(result.stdout, "")
  t:equal(result.stderr,
    "secrun: unknown option --log-levle=info; did you mean --log-level?" ..
    " secrun --help lists all\n")
end)

test("options with wrong or missing values have status 2", function(t)
  for _, words in ipairs{{"-e"}, {"-l"}, {"--log-level=loud"}, {"--log-level"},
    {"--allow-net"}, {"--read-only=x"}, {"-q"}, {"-ix"}} do
    local result = program.run(words)
    t:equal({words[1], result.status}, {words[1], 2})
    t:equal(select(2, result.stderr:gsub("\n", "")), 1)
  end
end)

test("-- ends the options", function(t)
  expect(t, program.run({"--", program.file(t:tmpdir(), "a.lua", "print(...)"), "-e"}),
    "-e\n")
end)

-- ---------------------------------------------------------------- names of scripts

test("--help lists the scripts with their descriptions", function(t)
  local result = run("--help")
  t:equal(result.status, 0)
  assert(result.stdout:find("\n  test +Run the tests in"), result.stdout)
  t:equal(run("help").stdout, result.stdout)
end)

test("--help on a script prints its head and runs nothing", function(t)
  local path = program.file(t:tmpdir(), "a.lua", [[
description = "Greets."
usage = "secrun a.lua [NAME]"
print "ran"
function main(args) print("hello", args[1]) end]])
  expect(t, run(path, "--help"), "usage: secrun a.lua [NAME]\n\nGreets.\n")
  expect(t, run(path, "--", "--help"), "ran\nhello\t--\n")
end)

test("a name is a shipped script, never a file of the working directory", function(t)
  local folder = t:tmpdir()
  program.file(folder, "help.lua", "print 'mine'")
  program.file(folder, "help", "print 'mine'")
  assert(program.run({"help"}, {cwd = folder}).stdout:find "^usage: secrun")
  expect(t, program.run({"help.lua"}, {cwd = folder}), "mine\n")
end)

test("NAME.lua is the shipped script where there is no such file", function(t)
  assert(program.run({"help.lua"}, {cwd = t:tmpdir()}).stdout:find "^usage: secrun")
end)

test("an unknown name lists close and all names, status 2", function(t)
  local folder = t:tmpdir()
  program.file(folder, "tset", "")
  local result = program.run({"tset"}, {cwd = folder})
  t:equal(result.status, 2)
  assert(result.stderr:find("did you mean test?", 1, true), result.stderr)
  assert(result.stderr:find("run by secrun ./tset", 1, true), result.stderr)
  assert(result.stderr:find("scripts: .*help.*test"), result.stderr)
end)

test("a file that is not there has status 2", function(t)
  local result = run("nowhere/none.lua")
  t:equal({result.status, result.stderr},
    {2, "secrun: cannot open nowhere/none.lua: no such file, or it cannot be read\n"})
end)

test("folders in SECRUN_SCRIPTS add names, and cannot hide shipped ones", function(t)
  local folder = t:tmpdir()
  program.file(folder, "mine.lua",
    'description = "Mine."\nfunction main() print "mine" end')
  program.file(folder, "help.lua",
    'description = "Fake."\nfunction main() print "fake" end')
  local env = {SECRUN_SCRIPTS = "relative:" .. folder}
  expect(t, program.run({"mine"}, {env = env}), "mine\n")
  local help = program.run({"help"}, {env = env}).stdout
  assert(help:find("mine +Mine%.") and not help:find "Fake", help)
end)

-- ---------------------------------------------------------------- scripts

local function script_status(t, body)
  local path = program.file(t:tmpdir(), "a.lua", 'description = "x"\n' .. body)
  return program.run({path}).status
end

test("main's integer is the exit status, false is 1", function(t)
  t:equal(script_status(t, "function main() return 7 end"), 7)
  t:equal(script_status(t, "function main() return false end"), 1)
  t:equal(script_status(t, "function main() return true end"), 0)
  t:equal(script_status(t, "function main() return 256 end"), 1)
end)

test("a plain Lua file keeps stock globals, and its main is not called", function(t)
  local path = program.file(t:tmpdir(), "a.lua",
    "function main() print 'no' end print(nope)")
  expect(t, run(path), "nil\n")
end)

test("shipped scripts have strict globals", function(t)
  local folder = t:tmpdir()
  program.file(folder, "mine.lua",
    'description = "x"\nfunction main() local verbose = 1 print(pritn) end')
  local result = program.run({"mine"}, {env = {SECRUN_SCRIPTS = folder}})
  t:equal(result.status, 1)
  assert(result.stderr:find("undefined global pritn; did you mean print?", 1, true),
    result.stderr)
end)

test("a head is read as literals only", function(t)
  local head = require "head"
  local found =
    head.parse('description = "a" ..\n  "b"\nneeds = {net = {"x:1"}, -- (why)\n' ..
    "  write = false}\nusage = (function() while true do end end)()\n" ..
    "function main(a) end")
  t:equal(found, {description = "ab", needs = {net = {"x:1"}, write = false},
    main = true})
end)

test("a script's needs narrow what it may do", function(t)
  local path = program.file(t:tmpdir(), "a.lua",
    'description = "x"\nneeds = {write = {}}\n' ..
    "function main() io.open('/tmp/never', 'w') end")
  local result = program.run({path})
  t:equal(result.status, 1)
  assert(result.stderr:find("denied", 1, true), result.stderr)
end)

-- ---------------------------------------------------------------- exit status

local STATUS = {
  {"error 'x'", 1}, {"syntax error here", 1}, {"os.exit(9)", 9}, {"os.exit(false)", 1},
  {"require('errors').raise('usage', 'x')", 1},
  {"require('errors').raise('usage', 'x', {code = 'COMMAND_LINE'})", 2},
  {"require('errors').raise('usage', 'x', {code = 'ESTATE'})", 2},
  {"require('errors').raise('denied', 'x', {code = 'POLICY'})", 3},
  {"require('errors').raise('denied', 'x', {code = 'PERMISSION'})", 1},
  {"require('errors').raise('pending', 'x')", 4},
  {"require('task').daemon(function() error 'x' end) require('task').sleep(0.01)", 1},
  {"require('task').each({1}, function() error 'x' end)", 1},
  {"local _, e = require('task').each({1}, function() error 'x' end) print(e[1])", 0},
}

for _, case in ipairs(STATUS) do
  test(("status %d: %s"):format(case[2], case[1]), function(t)
    t:equal(run("-e", case[1]).status, case[2])
  end)
end

test("an uncaught error shows message, the user's trace and causes", function(t)
  local result = run("-e", [[
local errors = require "errors"
local ok, cause = pcall(errors.raise, "connect", "no way", {code = "ECONNREFUSED"})
local function inner()
  errors.raise("http", "asked in vain", {cause = cause, status = 503})
end
inner()]])
  t:equal(result.status, 1)
  assert(result.stderr:find("^secrun: asked in vain %[http, 503%]; cause: no way"),
    result.stderr)
  assert(result.stderr:find("(command line):4: in", 1, true), result.stderr)
  assert(result.stderr:find("\ncaused by: no way [connect, ECONNREFUSED]", 1, true))
  assert(not result.stderr:find("runtime/lua/cli", 1, true), result.stderr)
end)

test("a wrong command line shows no trace", function(t)
  local result = run("test", "--no-such")
  t:equal(result.status, 2)
  t:equal(select(2, result.stderr:gsub("\n", "")), 1)
end)

test("an error nobody read is logged", function()
  local result = run("-e", "require('task').each({1}, function() error 'lost' end)")
  assert(result.stderr:find("nobody read the error of an item: (command line):1: lost", 1,
    true), result.stderr)
end)

test("os.exit in another task ends the program without noise", function(t)
  local result = run("-e",
    "local t = require 'task' t.daemon(function() os.exit(5) end)" ..
    " t.sleep '1m'")
  t:equal({result.status, result.stderr}, {5, ""})
end)

test("control characters of an error do not reach the terminal", function()
  local result = run("-e", "error('a\\27[2Jb\\194\\155c', 0)")
  assert(result.stderr:find("a\\x1b[2Jb\\xc2\\x9bc", 1, true), result.stderr)
end)

-- ---------------------------------------------------------------- output and signals

test("a closed pipe ends the program quietly", function(t)
  local result = program.shell([[{ "$0" -e 'while true do print "x" end'; echo $? >&2; } |
    head -n 1]])
  t:equal({result.stdout, result.stderr}, {"x\n", "141\n"})
end)

test("output that cannot be written is an error", function(t)
  local result = program.shell([["$0" -e 'print "x"' >/dev/full]])
  t:equal(result.status, 1)
  assert(result.stderr:find("standard output could not be written: No space left", 1,
    true))
end)

test("io.write, print and the log keep their order on one descriptor", function(t)
  local result = program.shell(
    [["$0" --log-text -e 'io.write "a\n" require("log").info "b" print "c"' 2>&1]])
  t:equal(result.stdout, "a\ninfo: (command line): b\nc\n")
end)

--- Start a script that says "ready", send the signals, and wait for its end.
local function signalled(text, ...)
  local child <close> = program.start{"-e", "io.stdout:setvbuf 'line' " .. text}
  repeat until child:read_line("10s") == "ready"
  for _, signal in ipairs{...} do
    task.sleep(0.05)
    child:kill(signal)
  end
  local result = child:wait("10s")
  return result.status, child:output()
end

local CLEANING = [[
local task = require "task"
local function clean() task.sleep(0.02) print "cleaned" end
local mark <close> = setmetatable({}, {__close = clean})
print "ready" ]]

test("SIGINT cancels, cleans up and exits with 130", function(t)
  local status, output = signalled(CLEANING .. "task.sleep '1m'", "INT")
  t:equal(status, 130)
  assert(output:find "cleaned" and output:find "secrun: interrupted\n", output)
end)

test("SIGTERM cancels, cleans up and exits with 143", function(t)
  local status, output = signalled(CLEANING .. "task.sleep '1m'", "TERM")
  t:equal(status, 143)
  assert(output:find "cleaned" and output:find "secrun: terminated\n", output)
end)

test("SIGINT ends a loop that never waits, also one around pcall", function(t)
  t:equal((signalled(CLEANING .. "while true do end", "INT")), 130)
  t:equal((signalled("print 'ready' local function spin() while true do end end " ..
    "while true do pcall(spin) end", "INT")), 130)
end)

test("a second SIGINT exits at once", function(t)
  local status = signalled([[
local function clean() require("task").sleep "1m" end
local mark <close> = setmetatable({}, {__close = clean})
print "ready" require("task").sleep "1m"]], "INT", "INT")
  t:equal(status, 130)
end)

test("SIGUSR1 says who waits where", function()
  local _, output = signalled("print 'ready' require('task').sleep(44)", "USR1", "TERM")
  assert(output:find("waiting for task.sleep(44)", 1, true), output)
end)

test("SIGUSR1 tells tasks at the same place together", function()
  local _, output = signalled([[
local task = require "task"
local g <close> = task.group{}
local function one() task.sleep(44) end
local function two() task.sleep(55) end
for i = 1, 10000 do g:spawn(i % 2 == 0 and one or two) end
local text = "require('task').sleep(%d)"
for i = 1, 300 do g:spawn(load(text:format(i + 60), "=part" .. i)) end
task.sleep(0) print "ready"]], "USR1", "TERM")
  local lines = select(2, output:gsub("\n", ""))
  assert(lines < 1500, lines)
  assert(output:find("--- 10301 tasks", 1, true), output)
  for _, seconds in ipairs{44, 55} do
    assert(output:find("5000 tasks: task %d+, %d+, %d+, %d+, %d+, … waiting for "
      .. "task.sleep%(" .. seconds .. "%)\n"), output)
  end
  assert(output:find "… and 203 tasks at 203 other places\n", output)
end)

-- ---------------------------------------------------------------- secrets

local CANARY = "canary-7f3a9b-nightingale"

--- Everything a careless script could do with a secret it holds in `s`.
local CARELESS = [[
local log = require "log"
log.info("secret %s", s) log.with{token = s}:warn("with it") log.context{who = s}
print(s, tostring(s), #arg) print(require("inspect").show{s = s})
local p <close> = require("progress").start{label = "x"} p:step(1, tostring(s))
local ok = pcall(function() return "a" .. s end) print(ok)
error("failed with " .. tostring(s))]]

local function no_canary(result)
  assert(not result.stdout:find(CANARY, 1, true), result.stdout)
  assert(not result.stderr:find(CANARY, 1, true), result.stderr)
end

test("a secret from the environment shows up nowhere", function()
  no_canary(program.run({"--log-level=debug", "-e", "s = secret 'env:CANARY' " ..
    CARELESS},
    {env = {CANARY = CANARY}}))
end)

test("a secret from a file shows up nowhere", function(t)
  local path = program.file(t:tmpdir(), "secret", CANARY .. "\n")
  no_canary(program.run{"--log-level=debug", "-e",
    ("s = secret 'file:%s' "):format(path) ..
    CARELESS})
end)

test("a value in the text of -e is in no trace and in no dump of tasks", function()
  local text = ("local s = '%s' local task = require 'task' " ..
    "local function f(x, ...) task.dump() " ..
    "error(setmetatable({}, {__tostring = function() return 'no' end})) end " ..
    "task.race(function() f(s, s) end)"):format(CANARY)
  no_canary(program.run{"--log-level=debug", "-e", text})
end)

test("text that repeats a secret is redacted in logs, errors and traces", function(t)
  local text = [[
local s = secret "env:HELD"
require("log").error("it is CANARY") require("log").with{note = "CANARY"}:info "x"
require("progress").start{label = "CANARY"}:close()
error("it is CANARY")]]
  local path = program.file(t:tmpdir(), "a.lua", (text:gsub("CANARY", CANARY)))
  local result = program.run({"--log-level=debug", path}, {env = {HELD = CANARY}})
  t:equal(result.status, 1)
  no_canary(result)
  assert(result.stderr:find("it is [secret]", 1, true), result.stderr)
end)

-- ---------------------------------------------------------------- limits

test("the command line's own modules ask for permission once a script runs", function(t)
  local path = program.file(t:tmpdir(), "a.lua", [[
local core, head, tests = require "cli.core", require "head", require "test.core"
for _, fn in ipairs{
  function() core.read("/etc/passwd", 100) end, function() core.scan "/etc" end,
  function() head.read "/etc/passwd" end, function() tests.remove_folder "/nowhere" end,
  function() tests.make_folder() end,
} do
  local value, err = try(fn)
  print(err and err.kind)
end
print(pcall(core.getenv, "PATH") == false)]])
  expect(t, run("--allow-read=/nowhere", "--allow-write=/nowhere/else", path),
    ("denied\n"):rep(5) .. "true\n")
end)

test("a script runs though its folder is not on the list of what it may read", function(t)
  local folder = t:tmpdir()
  local path = program.file(folder, "a.lua", 'description = "x"\nusage = "u"\n' ..
    "function main() print(pcall(io.open, arg[0])) end")
  local result = run("--allow-read=/nowhere", path)
  assert(result.stdout:find "^false", result.stdout)
  expect(t, run("--allow-read=/nowhere", path, "--help"), "usage: u\n\nx\n")
end)

test("the limit of open files is raised to the hard one at the start", function(t)
  local result = require("process").run{argv = {"sh", "-c",
    'ulimit -Sn 64 && exec "$0" -e \'for l in io.lines("/proc/self/limits") do '
      .. 'local soft, hard = l:match("Max open files%s+(%w+)%s+(%w+)") '
      .. 'if soft then print(soft == hard) end end\'', program.path}}
  t:equal(result.stdout, "true\n")
end)
