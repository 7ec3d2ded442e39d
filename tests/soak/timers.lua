--- COUNT timers, half of them stopped before their time, in batches so that memory is
--- bounded; then as many deadlines that never pass.  timers.lua COUNT

local task = require "task"
local time = require "time"

local count, batch = tonumber(arg[1]), 10000

time.virtual()
local fired, stopped = 0, 0
for _ = 1, count / batch do
  local group <close> = task.group()
  local sleepers = {}
  for i = 1, batch do
    sleepers[i] = group:spawn(function()
      local woke = pcall(task.sleep, 1 + i * 7919 % 1000)
      if woke then fired = fired + 1 else stopped = stopped + 1 end
    end)
  end
  task.sleep(0.5)
  for i = 2, batch, 2 do sleepers[i]:cancel() end
  group:close()
end
assert(fired + stopped == count and fired == stopped, "a timer was lost or fired twice")
for _ = 1, count do task.timeout(60, function() end) end
assert(task.deadline() == nil and task.count() == 1)
collectgarbage()
collectgarbage()
local kb = collectgarbage("count") // 1
assert(kb < 20000, ("%.0f KB are left"):format(kb))
print(("%d fired, %d stopped"):format(fired, stopped))
