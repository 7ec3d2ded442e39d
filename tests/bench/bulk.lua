--- 500 certificates in one process against Pebble without sleeps, http-01 by our own server:
--- our CPU time per certificate and certificates per second, beside uacme, two at a time.
--- Targets: at most 5 ms of our CPU each, keys and CSRs included; at least 20 × uacme's rate.
---
--- Pebble 2.4.0 deadlocks when newOrder overlaps another newOrder or, rarely, the end of a
--- finalize (its FindValidAuthorization takes a read lock twice). Ours keeps one newOrder in
--- flight by itself, each uacme has a Pebble of its own, and a run that stands still is
--- started again with a fresh Pebble.

package.path = "tests/integration/?.lua;tests/demo/?.lua;tests/bench/?.lua;"
  .. package.path

local acme = require "acme"
local pebble = require "pebble"
local stage = require "stage"
local task = require "task"
local time = require "time"
local uacme = require "uacme"
local x509 = require "x509"

local count = tonumber(arg[1]) or 500
local limit = tonumber(arg[2]) or 32

local function start() return pebble.start(stage, {nonce_reject = 0, authz_reuse = 0}) end

local function ours(ca)
  local account = acme.account{directory = ca.directory, ca = ca.ca, terms_agreed = true,
    key = x509.key{}}
  local folder, items = stage:tmpdir(), {}
  for i = 1, count do items[i] = ("bulk%d.example.net"):format(i) end
  local cpu, wall = os.clock(), time.cpu()
  local results, errors = task.each(items, {limit = limit}, function(name)
    local issued = account:issue{names = {name}, solver = acme.http01{listen = ca.http01},
      state_dir = folder .. "/" .. name, timeout = "120s"}
    issued:done()
    return issued.chain[1].names[1]
  end)
  cpu, wall = os.clock() - cpu, time.cpu() - wall
  for i, name in ipairs(items) do
    if results[i] ~= name then error(errors[i] or name, 0) end
  end
  return cpu / count, count / wall
end

--- One after the other in each of two processes, which run at once.
local function theirs(each)
  local commands = {}
  for i = 1, 2 do
    commands[i] = uacme.command(start(), stage:tmpdir(), stage:tmpdir(), stage)
  end
  local wall = time.cpu()
  task.each(commands, {stop_on_error = true}, function(command, i)
    for n = 1, each do command(("other%d-%d.example.net"):format(i, n)) end
  end)
  return 2 * each / (time.cpu() - wall)
end

local function ours_in_time()
  for _ = 1, 5 do
    local cpu, rate = try(task.timeout, "45s", ours, start())
    if cpu then return cpu, rate end
    if rate.kind ~= "timeout" then error(rate, 0) end
    print("Pebble stands still; again with a fresh one")
  end
  error("Pebble stood still five times", 0)
end

return stage.run(function()
  local other = theirs(8)
  local cpu, rate = ours_in_time()
  print(("%d certificates, %d at once: %.1f ms of our CPU each (target 5); %.0f/s, "
    .. "uacme two at a time %.1f/s, ratio %.0f (target 20)"):format(
    count, limit, cpu * 1000, rate, other, rate / other))
  return (cpu <= 0.005 and rate >= 20 * other) and 0 or 1
end)
