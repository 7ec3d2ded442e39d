--- One certificate in a cold process, http-01 by webroot, against Pebble without sleeps:
--- `secrun renew` beside uacme, in turn. Target: at most 0.4 of uacme's wall time.

package.path = "tests/integration/?.lua;tests/demo/?.lua;tests/bench/?.lua;"
  .. package.path

local fs = require "fs"
local many = require "many"
local process = require "process"
local stage = require "stage"
local time = require "time"
local uacme = require "uacme"

local rounds = tonumber(arg[1]) or 9
local program = require("load").paths().program
local NAME = "bench%d.example.net"

local ESTATE = [[
acme = {directory = %q, ca = %q, terms_agreed = true}
challenge = {webroot = %q}
state = %q
certificates = {{name = "bench", domains = {%q}, install = {dir = %q}}}
]]

local function median(list)
  local sorted = table.move(list, 1, #list, 1, {})
  table.sort(sorted)
  return sorted[(#sorted + 1) // 2]
end

local function timed(fn, ...)
  local started = time.cpu()
  fn(...)
  return time.cpu() - started
end

local function secrun_command(home, ca, webroot)
  local config = home .. "/estate.lua"
  fs.write(config, ESTATE:format(ca.directory, ca.ca, webroot, home .. "/state",
    NAME:format(0), home .. "/live"))
  return function()
    process.run{argv = {program, "renew", "--config", config, "--force"}, timeout = "60s"}
  end
end

return stage.run(function()
  local ca = many.start(stage)
  local home, webroot = stage:tmpdir(), stage:tmpdir()
  local theirs = uacme.command(ca, home, webroot, stage)
  local ours = secrun_command(home, ca, webroot)
  ours()
  theirs(NAME:format(0))
  local a, b, ratios = {}, {}, {}
  for i = 1, rounds do
    a[i], b[i] = timed(ours), timed(theirs, NAME:format(i))
    ratios[i] = a[i] / b[i]
  end
  local ratio = median(ratios)
  print(("one certificate, cold: uacme %.0f ms, secrun %.0f ms, ratio %.2f (target 0.40)")
    :format(median(b) * 1000, median(a) * 1000, ratio))
  return ratio <= 0.4 and 0 or 1
end)
