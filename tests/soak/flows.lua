--- COUNT flows of ten steps under workers that are killed and stopped.  flows.lua COUNT
package.path = "tests/integration/?.lua;" .. package.path

local chaos = require "flow_chaos"
local fs = require "fs"

local dir, guard <close> = fs.tmpdir()
local counts = chaos.run{dir = dir, flows = math.tointeger(arg[1]), workers = 4,
  seconds = 200}
assert(#counts.wrong == 0, table.concat(counts.wrong, "\n"))
print(("%s flows, %d kills, %d stops, %d effects tried again"):format(arg[1],
  counts.killed, counts.stopped, counts.again))
