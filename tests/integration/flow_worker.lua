--- A worker of the flow tests: drives the flows of a store until it is ended.
--- flow_worker.lua DIR LEASE [LOCK]

local flow = require "flow"
local store = require "store"

local dir, lease, lock = arg[1], arg[2], arg[3] == "lock"
local db <close> = store.open(dir .. "/secrun.db")
local engine = flow.engine{store = db, folders = {dir .. "/flows"}, lease = lease,
  lock = lock}
print "ready"
io.stdout:flush()
engine:run()
