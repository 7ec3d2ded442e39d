--- Signals and os.exit against scripts that do not want to end.

local program = require "program"
local task = require "task"

--- Run the text, send SIGINT once it says "ready"; its exit status and output.
local function interrupted(text)
  local child <close> = program.start{"-e",
    "io.stdout:setvbuf 'line' print 'ready' " .. text}
  assert(child:read_line("10s") == "ready")
  task.sleep(0.1)
  child:kill "INT"
  local result = child:wait("10s")
  return result.status, child:output()
end

test("SIGINT reaches the loop around a coroutine that it kills", function(t)
  t:equal((interrupted("while true do coroutine.resume(coroutine.create(function() "
    .. "while true do end end)) end")), 130)
end)

test("SIGINT ends a generator that swallows its cancellation", function(t)
  t:equal((interrupted("local next = coroutine.wrap(function() while true do "
    .. "pcall(require('task').sleep, 1) end end) while true do pcall(next) end")), 130)
end)

test("os.exit is not stopped by a pcall", function(t)
  t:equal(program.run({"-e", "pcall(os.exit, 7) while true do end"}).status, 7)
end)

test("clean-up on a normal way out is not cut by SIGINT", function(t)
  local status, output = interrupted [[
    do
      local _ <close> = setmetatable({}, {__close = function()
        require("task").sleep(0.5)
        for _ = 1, 1000000 do end
        print "cleaned"
      end})
    end
    require("task").sleep(60)]]
  t:equal(status, 130)
  assert(output:find("cleaned", 1, true), output)
end)

--- A script that catches signals and says which came.
local CATCHER = [[
  local caught <close> = require("signals").catch{"SIGTERM", "SIGHUP"}
  io.stdout:setvbuf "line"
  print "ready"
  for _ = 1, 3 do
    local name = caught:next()
    print(name)
    if name == "SIGTERM" then break end
  end
  print "ended by itself"]]

test("a script catches signals, goes on, and ends by itself", function(t)
  local child <close> = program.start{"-e", CATCHER}
  t:equal(child:read_line "10s", "ready")
  child:kill "HUP"
  t:equal(child:read_line "10s", "SIGHUP")
  child:kill "HUP"
  t:equal(child:read_line "10s", "SIGHUP")
  child:kill "TERM"
  t:equal(child:read_line "10s", "SIGTERM")
  t:equal(child:read_line "10s", "ended by itself")
  t:equal(child:wait("10s").status, 0)
end)

test("the second SIGTERM ends a script that catches it", function(t)
  local script = CATCHER:gsub("break", "require('task').sleep(60)")
  local child <close> = program.start{"-e", script}
  t:equal(child:read_line "10s", "ready")
  child:kill "TERM"
  t:equal(child:read_line "10s", "SIGTERM")
  child:kill "TERM"
  t:equal(child:wait("10s").status, 143)
end)

test("signals are given back, and only some can be caught, once", function(t)
  local signals = require "signals"
  local caught = signals.catch{"SIGHUP"}
  t:raises(function() signals.catch{"SIGTERM"} end, "conflict", "caught already")
  caught:close()
  caught:close()
  t:raises(function() caught:next() end, "io", "given back")
  t:raises(function() signals.catch{"SIGTREM"} end, "usage", "did you mean SIGTERM")
  t:raises(function() signals.catch{"SIGKILL"} end, "usage", "cannot be caught")
  local waiting <close> = signals.catch{"SIGHUP"}
  local group <close> = task.group()
  group:spawn(function()
    t:raises(function() waiting:next() end, "io", "given back")
  end)
  task.sleep(0)
  t:raises(function() waiting:next() end, "usage", "another task")
  waiting:close()
  local result = program.run{"-e", [[
    local caught = require("signals").catch{"SIGTERM"}
    caught:close()
    require("process").run{argv = {"kill", "-TERM", tostring(require("process").pid)}}
    require("task").sleep(60)]]}
  t:equal(result.status, 143)
end)
