--- Many certificates in one process from Pebble, http-01 by our own server.
--
--     local cpu, rate = many.issue(stage, 500, 32)   -- seconds of CPU each, certificates/s
--
-- Pebble 2.4.0 deadlocks when newOrder overlaps another newOrder or, rarely, the end of a
-- finalize (its FindValidAuthorization takes a read lock twice). An account keeps one
-- newOrder in flight by itself; a run that stands still nevertheless is started again with
-- a fresh Pebble.

local acme = require "acme"
local pebble = require "pebble"
local task = require "task"
local time = require "time"
local x509 = require "x509"

local many = {}

local TRIES, PATIENCE = 5, "45s"

--- A Pebble without sleeps and rejected nonces.
function many.start(stage)
  return pebble.start(stage, {nonce_reject = 0, authz_reuse = 0})
end

local function issue(stage, count, limit)
  local ca = many.start(stage)
  local account = acme.account{directory = ca.directory, ca = ca.ca, terms_agreed = true,
    key = x509.key{}}
  local folder, names = stage:tmpdir(), {}
  for i = 1, count do names[i] = ("many%d.example.net"):format(i) end
  local cpu, wall = os.clock(), time.cpu()
  local results, errors = task.each(names, {limit = limit}, function(name)
    local issued = account:issue{names = {name}, solver = acme.http01{listen = ca.http01},
      state_dir = folder .. "/" .. name, timeout = "120s"}
    issued:done()
    return issued.chain[1].names[1]
  end)
  cpu, wall = os.clock() - cpu, time.cpu() - wall
  for i, name in ipairs(names) do
    if results[i] ~= name then error(errors[i] or name, 0) end
  end
  return cpu / count, count / wall
end

--- Issue `count` certificates, `limit` at once; our CPU seconds for each, and their rate.
function many.issue(stage, count, limit)
  for _ = 1, TRIES do
    local cpu, rate = try(task.timeout, PATIENCE, issue, stage, count, limit)
    if cpu then return cpu, rate end
    if rate.kind ~= "timeout" then error(rate, 0) end
    print("Pebble stands still; again with a fresh one")
  end
  error(("Pebble stood still %d times"):format(TRIES), 0)
end

return many
