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
