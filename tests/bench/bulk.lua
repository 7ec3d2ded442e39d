--- 500 certificates in one process against Pebble without sleeps, http-01 by our own server:
--- our CPU time per certificate and certificates per second, beside uacme, two at a time.
--- Targets: at most 5 ms of our CPU each, keys and CSRs included; at least 20 × uacme's rate.
--- uacme's CPU stands beside, as machines differ (372 ms where the target was set).
--- Each uacme has a Pebble of its own, see tests/integration/many.lua.

package.path = "tests/integration/?.lua;tests/demo/?.lua;tests/bench/?.lua;"
  .. package.path

local fs = require "fs"
local many = require "many"
local stage = require "stage"
local task = require "task"
local time = require "time"
local uacme = require "uacme"

local count = tonumber(arg[1]) or 500
local limit = tonumber(arg[2]) or 32

--- Processor seconds of the children that have ended so far.
local function children()
  local fields = {}
  for word in fs.read("/proc/self/stat"):gsub("^.*%) ", ""):gmatch("%S+") do
    fields[#fields + 1] = word
  end
  return (tonumber(fields[14]) + tonumber(fields[15])) / 100
end

--- One after the other in each of two processes, which run at once: their rate, and the
--- processor seconds of each.
local function theirs(each)
  local commands = {}
  for i = 1, 2 do
    local ca = many.start(stage)
    commands[i] = uacme.command(ca, stage:tmpdir(), stage:tmpdir(), stage)
  end
  local wall, cpu = time.cpu(), children()
  task.each(commands, {stop_on_error = true}, function(command, i)
    for n = 1, each do command(("other%d-%d.example.net"):format(i, n)) end
  end)
  return 2 * each / (time.cpu() - wall), (children() - cpu) / (2 * each)
end

return stage.run(function()
  local other, their_cpu = theirs(8)
  local cpu, rate = many.issue(stage, count, limit)
  print(("%d certificates, %d at once: %.1f ms of our CPU each (target 5), uacme %.0f "
    .. "ms, 1/%.0f of it; %.0f/s, uacme two at a time %.1f/s, ratio %.0f (target 20)")
    :format(count, limit, cpu * 1000, their_cpu * 1000, their_cpu / cpu, rate, other,
      rate / other))
  return (cpu <= 0.005 and rate >= 20 * other) and 0 or 1
end)
