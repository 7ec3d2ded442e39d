--- The REPL on a terminal: lines as tasks, Ctrl-C, completion, history, readable values.

local program = require "program"
local terminal = require "terminal"

--- A REPL with a state folder of its own, at its first prompt.
local function start(t, options)
  options = options or {}
  options.env = options.env or {}
  options.env.XDG_STATE_HOME = options.env.XDG_STATE_HOME or t:tmpdir()
  options.env.NO_COLOR = "1"
  local screen = terminal.start(t, {program.path, table.unpack(options.words or {})},
    options)
  screen:wait "secrun>$"
  return screen
end

test("results are printed, statements run, `_` holds the last result", function(t)
  local screen = start(t)
  screen:line "6 * 7"
  screen:wait "\n42\nsecrun>$"
  screen:line "x = _ + 1"
  screen:line "= x, 'text'"
  screen:wait '\n43%s+"text"\nsecrun>$'
  screen:line "nil"
  screen:wait "\nnil\nsecrun>$"
end)

test("it says what it is, and how to leave", function(t)
  local screen = start(t)
  screen:wait "^%s*secrun %d[%d.]* on Lua 5%.4%.%d: Ctrl%-D leaves, Tab completes\nsecrun"
end)

test("Tab knows the methods and fields of objects in C", function(t)
  local screen = start(t)
  screen:line "k = require('x509').key{type = 'p256'}"
  screen:wait "p256'}\nsecrun>$"
  screen:type "k:matc"
  screen:key "Tab"
  screen:wait "k:matches$"
  screen:key "C-c"
  screen:wait "\nsecrun>$"
  screen:type "k.pri"
  screen:key "Tab"
  screen:wait "k%.private$"
end)

test("the shell gets its terminal back as it was", function(t)
  local screen = terminal.start(t, {"sh", "-c",
    '"$0"; grep flags /proc/self/fdinfo/0; "$0" -i -e ""; grep flags /proc/self/fdinfo/0',
    program.path}, {env = {XDG_STATE_HOME = t:tmpdir(), NO_COLOR = "1"}})
  screen:wait "secrun>$"
  screen:key "C-d"
  screen:wait "flags:%s*%d+.*secrun>$"
  screen:line "os.exit(0)"
  local text = screen:wait "flags:.*flags:%s*%d+"
  for flags in text:gmatch "flags:%s*(%d+)" do
    t:equal(tonumber(flags, 8) & 0x800, 0, "O_NONBLOCK stays set: " .. flags)
  end
end)

test("an unfinished line goes on", function(t)
  local screen = start(t)
  screen:line "for i = 1, 2 do"
  screen:wait "\n     >>$"
  screen:line "print('n' .. i)"
  screen:line "end"
  screen:wait "\nn1\nn2\nsecrun>$"
end)

test("an error shows kind and message and does not end the REPL", function(t)
  local screen = start(t)
  screen:line "require('errors').raise('timeout', 'too slow')"
  screen:wait "\ntoo slow %[timeout%]\nsecrun>$"
  screen:line "x ="
  screen:wait "\n     >>$"
  screen:line ")"
  screen:wait "unexpected symbol near '%)'\nsecrun>$"
end)

test("Ctrl-C cancels a wait, and the line only", function(t)
  local screen = start(t)
  screen:line "task = require 'task' kept = 5"
  screen:line "print 'on' task.sleep '1h'"
  screen:wait "\non$"
  screen:key "C-c"
  screen:wait "interrupted\nsecrun>$"
  screen:line "kept"
  screen:wait "\n5\nsecrun>$"
end)

test("Ctrl-C ends loops that never wait", function(t)
  local screen = start(t)
  screen:line "print 'on' while true do end"
  screen:wait "\non$"
  screen:key "C-c"
  screen:wait "interrupted\nsecrun>$"
  screen:line "print 'two' while true do pcall(function() while true do end end) end"
  screen:wait "\ntwo$"
  screen:key "C-c"
  screen:wait "interrupted.*interrupted\nsecrun>$"
end)

test("the clean-up of a cancelled line runs", function(t)
  local screen = start(t)
  screen:line "m = setmetatable({}, {__close = function() print 'cleaned' end})"
  screen:line "do local m <close> = m print 'on' require('task').sleep '1h' end"
  screen:wait "\non$"
  screen:key "C-c"
  screen:wait "cleaned\ninterrupted\nsecrun>$"
end)

test("the second Ctrl-C in a line that goes on says how to leave", function(t)
  local screen = start(t)
  screen:line "task = require 'task'"
  screen:line "m = setmetatable({}, {__close = function() task.sleep '9s' end})"
  screen:line "do local m <close> = m print 'on' task.sleep '1h' end"
  screen:wait "\non$"
  screen:key "C-c"
  screen:wait "\n%^C$"
  screen:key "C-c"
  screen:wait "Ctrl%-C once more leaves secrun"
  screen:key "C-c"
  screen:wait "status 130"
end)

test("Ctrl-C at the prompt clears the line, also an unfinished one", function(t)
  local screen = start(t)
  screen:line "do"
  screen:type "half a line"
  screen:wait "half a line$"
  screen:key "C-c"
  screen:wait "%^C\nsecrun>$"
  screen:line "1 + 1"
  screen:wait "\n2\nsecrun>$"
end)

test("Ctrl-D leaves, os.exit too", function(t)
  local screen = start(t)
  screen:key "C-d"
  screen:wait "\nstatus 0$"
  screen = start(t)
  screen:line "os.exit(3)"
  screen:wait "\nstatus 3$"
end)

test("output of tasks behind does not garble what is being typed", function(t)
  local screen = start(t)
  screen:line "task, log = require 'task', require 'log'"
  screen:line "function work() task.sleep(1) print 'printed' log.warn 'logged' end"
  screen:line "do task.daemon(work) end"
  screen:wait "secrun>$"
  screen:type "6 *"
  screen:wait "\nprinted\nwarn: [^\n]*logged[^\n]*\nsecrun> 6 %*$"
  screen:line " 7"
  screen:wait "\nsecrun> 6 %* 7\n42\nsecrun>$"
end)

test("output without a line end keeps its place", function(t)
  local screen = start(t)
  screen:line "io.write 'partial' and nil"
  screen:wait "\npartialnil\nsecrun>$"
  screen:line "do io.write 'partial' end"
  screen:wait "\npartial\nsecrun>$"
end)

test("Tab completes globals, fields, methods and modules", function(t)
  local screen = start(t)
  screen:type "collectg"
  screen:key "Tab"
  screen:wait "secrun> collectgarbage$"
  screen:key "C-c"
  screen:type "x = 1 + string.upp"
  screen:key "Tab"
  screen:wait "secrun> x = 1 %+ string.upper$"
  screen:key "C-c"
  screen:type "io.stdout:setv"
  screen:key "Tab"
  screen:wait "secrun> io.stdout:setvbuf$"
  screen:key "C-c"
  screen:type 'require "progr'
  screen:key "Tab"
  screen:wait 'require "progress$'
end)

test("history is kept, without lines that name a secret", function(t)
  local state = t:tmpdir()
  local screen = start(t, {env = {XDG_STATE_HOME = state}})
  screen:line "kept = 1"
  screen:line "s = secret 'env:HOME'"
  screen:line "password = 'hunter22'"
  screen:wait "hunter22'\nsecrun>$"
  screen:key "C-d"
  screen:wait "status 0"
  local file <close> = assert(io.open(state .. "/secrun/history"))
  t:equal(file:read "a", "kept = 1\n")
  local mode = require("process").run{argv = {"stat", "-c", "%a", state ..
    "/secrun/history"}}
  t:equal(mode.stdout, "600\n")
  screen = start(t, {env = {XDG_STATE_HOME = state}})
  screen:key "Up"
  screen:wait "secrun> kept = 1$"
end)

test("a dumb terminal works", function(t)
  local screen = terminal.start(t, {program.path}, {env = {TERM = "dumb",
    XDG_STATE_HOME = t:tmpdir()}})
  screen:wait "secrun>$"
  screen:line "6 * 7"
  screen:wait "\n42\nsecrun>$"
  screen:key "C-c"
  screen:line "1"
  screen:wait "\n1\nsecrun>$"
end)

test("-i goes on to the REPL after the script", function(t)
  local path = program.file(t:tmpdir(), "a.lua", "from_script = 7")
  local screen = start(t, {words = {"-i", path}})
  screen:line "from_script"
  screen:wait "\n7\nsecrun>$"
end)

test("-i without a terminal reads lines", function(t)
  local result = program.run({"-i"}, {stdin =
    "x = 20\nx + 1\nfor i = 1, 1 do\nprint(i)\nend"})
  assert(result.stdout:find "secrun> 21\n" and result.stdout:find ">> 1\n", result.stdout)
  t:equal({result.status, result.stderr}, {0, ""})
end)

test("SIGTERM leaves the terminal as it was", function(t)
  local screen = start(t)
  screen:line "require('process').pid"
  local pid = screen:wait("\n%d+\nsecrun>$"):match "\n(%d+)\nsecrun>$"
  require("process").run{argv = {"kill", pid}}
  screen:wait "\nstatus 143$"
  screen:line "echoed"
  screen:wait "\nechoed$"
end)

-- ---------------------------------------------------------------- values

local show = require("inspect").show

test("values are shown readably", function(t)
  t:equal(show{1, "two", a = true, ["b c"] = {}, [10] = 1.5},
    '{1, "two", [10] = 1.5, a = true, ["b c"] = {}}')
  t:equal(show(("x"):rep(3000), {length = 10}), '"xxxxxxxxxx" … 3000 bytes in all')
  local cycle = {}
  cycle.self = cycle
  t:equal(show(cycle), "{self = <the table around it>}")
  t:equal(show({{{{}}, {{1}}}}, {depth = 3}), "{{{{}}, {{…}}}}")
  t:equal(show({1, 2, 3, 4}, {items = 2}), "{1, 2, … 2 more}")
end)

test("long tables break into lines", function(t)
  t:equal(show({a = ("x"):rep(10), b = ("y"):rep(10)}, {width = 24}),
    '{\n  a = "xxxxxxxxxx",\n  b = "yyyyyyyyyy"\n}')
end)

test("no value steers the terminal", function(t)
  t:equal(show "a\27[2J\0\194\155\255é\n", '"a\\x1b[2J\\x00\\xc2\\x9b\\xff\\xc3\\xa9\\n"')
  t:equal(show(setmetatable({}, {__tostring = function() return "x\27[2J" end})),
    "x\\x1b[2J")
end)

test("colours only when asked for", function(t)
  t:equal(show(1, {colour = true}), "\27[33m1\27[0m")
  t:equal(show(1), "1")
end)
