--- Wait for what comes true by itself, however slow the machine.
--
--     local eventually = require "eventually"
--     eventually(function() return server:stats().connections == 0 end)

local task = require "task"

--- Look again until look() gives a true value, and return it; after 30 s (of a clock that
--- tests can move: many looks) the last one, so that the test's own check says what was seen.
---@param look fun(): any
return function(look)
  for _ = 1, 6000 do
    local seen = look()
    if seen then return seen end
    task.sleep(0.005)
  end
  return look()
end
