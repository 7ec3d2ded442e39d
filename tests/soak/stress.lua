--- Many more seeds of tests/lua/stress.lua, on the virtual clock.  stress.lua FIRST LAST

package.path = "tests/lua/?.lua;" .. package.path

local stress = require "stress"
local task = require "task"
local time = require "time"

time.virtual()
local bodies = 0
for seed = tonumber(arg[1]), tonumber(arg[2]) do bodies = bodies + stress.run(seed) end
assert(task.count() == 1, "a task is left")
print(("%d bodies ran"):format(bodies))
