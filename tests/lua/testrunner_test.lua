--- The test runner, run on files made here.

local program = require "program"

--- Run `secrun test` on one file with this text.
local function run(t, text, ...)
  local words = {"test", ...}
  words[#words + 1] = program.file(t:tmpdir(), "some_test.lua", text)
  local result = program.run(words)
  return result.stdout, result.status, result.stderr
end

local function fails(t, text, pattern)
  local output, status = run(t, text)
  t:equal(status, 1)
  assert(output:find(pattern), output)
  assert(output:find "\n0 passed, 1 failed\n$", output)
end

test("the closing line counts, and failures are named with their place", function(t)
  local output, status = run(t, "test('good', function() end)\n" ..
    "test('bad', function(t) t:equal({a = 1}, {a = 2}) end)")
  t:equal(status, 1)
  assert(output:find("not ok .*some_test%.lua: bad\n" ..
    "  .*some_test%.lua:2: got {a = 1}\n" ..
    "  want {a = 2}\n"), output)
  assert(output:find "\n1 passed, 1 failed\n$", output)
  assert(not output:find("not ok .*good"), output)
end)

test("success is one line a file", function(t)
  local output, status = run(t,
    "test('good', function() end) test('too', function() end)")
  t:equal(status, 0)
  assert(output:find "^ok .*some_test%.lua %(2 tests, %w+%)\n2 passed, 0 failed\n$",
    output)
end)

test("no tests at all is a failure", function(t)
  t:equal(select(2, run(t, "")), 1)
end)

test("a file that cannot be loaded is a failure", function(t)
  fails(t, "test('x', function(", "the file\n  .*some_test%.lua:1:")
  fails(t, "error 'at load'", "at load")
end)

test("t:raises checks kind and text", function(t)
  fails(t, "test('x', function(t) t:raises(function() end) end)", "no error was raised")
  fails(t, "test('x', function(t) t:raises(function() error 'a' end, 'io') end)",
    "kind internal, want io")
  fails(t, "test('x', function(t) t:raises(function() error 'a' end, nil, 'b$') end)",
    "does not match")
end)

test("t:defer runs latest first, also after a failure", function(t)
  fails(t, "test('x', function(t) t:defer(function() print 'one' end) " ..
    "t:defer(function() print 'two' end) error 'x' end)", "^two\none\n")
end)

test("an error in t:defer fails the test", function(t)
  fails(t, "test('x', function(t) t:defer(function() error 'late' end) end)", "late")
end)

test("t:tmpdir is gone afterwards, with what was in it", function(t)
  local output = run(t, "test('x', function(t) local d = t:tmpdir() " ..
    "assert(io.open(d .. '/f', 'w')):close() " ..
    "os.rename(d .. '/f', d .. '/.g') print(d) end)")
  t:equal(require("cli.core").scan(output:match "^[^\n]+"), nil)
end)

test("a task left running is a failure", function(t)
  fails(t, "local task = require 'task' test('x', function() " ..
    "task.daemon(function() task.sleep '1h' end) end)", "1 tasks are left running")
end)

test("an error of task.each that nobody reads is a failure", function(t)
  fails(t,
    "test('x', function() require('task').each({1}, function() error 'e' end) end)",
    "nobody read the errors of a task.each.*some_test.lua:1: e")
end)

test("a descriptor left open is a failure that names it", function(t)
  fails(t, "kept = {} test('x', function() kept[#kept + 1] = io.open '/etc/passwd' end)",
    "1 descriptors are left open: %d+ /etc/passwd")
end)

test("a descriptor opened once for the whole process is none", function(t)
  t:equal(select(2, run(t,
    "local kept test('x', function() kept = kept or io.open '/etc/passwd' end)")), 0)
end)

test("a test may say that it leaves something open", function(t)
  t:equal(select(2, run(t, "kept = {} test('x', {leaks = true}, function() " ..
    "kept[#kept + 1] = io.open '/etc/passwd' end)")), 0)
end)

local LATE = "not finished after 200ms"

test("the time-out ends a wait, a loop, and a loop around pcall", function(t)
  fails(t, "test('x', {timeout = '200ms'}, function() require('task').sleep '1m' end)",
    LATE)
  fails(t, "test('x', {timeout = '200ms'}, function() while true do end end)", LATE)
  fails(t, "test('x', {timeout = '200ms'}, function() while true do " ..
    "pcall(function() while true do end end) end end)", LATE)
end)

test("the time-out is real under the virtual clock", function(t)
  fails(t, "test('x', {timeout = '200ms', clock = 'virtual'}, function() " ..
    "while true do require('task').sleep '1s' end end)", LATE)
end)

test("the virtual clock sleeps for free and can be moved", function(t)
  local output, status = run(t, [[
local task = require "task"
test("x", {clock = "virtual"}, function(t)
  local began, fired = t.clock:now(), false
  task.sleep "365d"
  t:equal(math.floor(t.clock:now() - began + 0.5), 365 * 86400)
  local g <close> = task.group()
  g:spawn(function() task.sleep "89d" fired = true end)
  task.sleep(0)
  t.clock:advance "89d"
  assert(fired)
end)
test("y", function() assert(math.abs(os.time() - require("time").now()) < 2) end)]])
  t:equal({status, output:match "%d+ passed.*"}, {0, "2 passed, 0 failed\n"})
end)

test("--filter, --list and --verbose", function(t)
  local text = "test('alpha', function() end) test('beta', function() error 'x' end)"
  t:equal(select(2, run(t, text, "--filter", "alp")), 0)
  local listed = run(t, text, "--list")
  assert(listed:find ": alpha\n.*: beta\n$" and not listed:find "passed", listed)
  assert(run(t, text, "--verbose"):find "ok [^\n]*: alpha %(", "verbose")
  assert(run(t, text, "--slow"):find "%d s  [^\n]*: alpha\n", "slow")
end)

test("folders are searched below, in the order of names", function(t)
  local folder = t:tmpdir()
  local process = require "process"
  process.run{argv = {"mkdir", folder .. "/b"}}
  for _, name in ipairs{"c_test.lua", "a_test.lua", "b/z_test.lua"} do
    program.file(folder, name, "test('x', function() end)")
  end
  program.file(folder, "support.lua", "error 'not a test'")
  local output = program.run{"test", folder}.stdout
  assert(output:find "a_test.*z_test.*c_test.*3 passed", output)
end)

test("support modules stand beside the tests, one of each name per folder", function(t)
  local one, two = t:tmpdir(), t:tmpdir()
  for i, folder in ipairs{one, two} do
    program.file(folder, "near.lua", "return " .. i)
    program.file(folder, "x_test.lua",
      ("test('x', function(t) t:equal((require 'near'), %d) end)"):format(i))
  end
  t:equal(program.run{"test", one, two}.status, 0)
end)

test("an undefined global is an error", function(t)
  fails(t, "test('x', function() return tset end)",
    "undefined global tset; did you mean test")
end)

test("wrong options and missing files have status 2", function(t)
  t:equal(program.run{"test", "nowhere_test.lua"}.status, 2)
  t:equal(program.run{"test", "--flter=x"}.status, 2)
end)
