--- COUNT certificates in one process from Pebble, http-01 by our own server.  issue.lua COUNT

package.path = "tests/integration/?.lua;tests/demo/?.lua;" .. package.path

local many = require "many"
local stage = require "stage"

local count = tonumber(arg[1])

return stage.run(function()
  many.issue(stage, count, 32)
  print(("%d certificates"):format(count))
  return 0
end)
