--- COUNT tasks alive at once, each waiting, joining its neighbour, and gone afterwards.
--- tasks.lua COUNT

local task = require "task"
local time = require "time"

local count = tonumber(arg[1])

time.virtual()
local sum = 0
do
  local group <close> = task.group()
  local before
  for i = 1, count do
    local neighbour = before
    before = group:spawn(function()
      task.sleep(i % 100)
      local value = neighbour and neighbour:join() or 0
      sum = sum + 1
      return value + 1
    end)
  end
  assert(task.count() == count + 1)
  assert(before:join() == count, "the chain of joins lost a value")
end
assert(sum == count and task.count() == 1)
print(("%d tasks"):format(sum))
