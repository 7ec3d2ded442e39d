-- Random trees of tasks: see stress.lua. A failure names its seed.
local stress = require "stress"

test("random trees of tasks end whole, for thousands of seeds",
  {clock = "virtual", timeout = "60s"}, function()
    local bodies = 0
    for seed = 1, 2000 do bodies = bodies + stress.run(seed) end
    assert(bodies > 10000, "the trees are too small to find anything")
  end)
