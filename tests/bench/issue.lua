--- One certificate in a cold process, http-01 by webroot, against Pebble without sleeps:
--- `secrun renew` beside uacme, in turn. Target: at most 0.4 of uacme's wall time.
---
--- uacme trusts only the system's CA bundle, so it runs in a mount namespace of its own in
--- which the bundle has the test CA's certificate too (needs root).

package.path = "tests/integration/?.lua;tests/demo/?.lua;" .. package.path

local fs = require "fs"
local http = require "http"
local pebble = require "pebble"
local process = require "process"
local stage = require "stage"
local time = require "time"

local rounds = tonumber(arg[1]) or 7
local program = require("load").paths().program
local NAME = "bench.example.net"
local BUNDLE = "/etc/ssl/certs/ca-certificates.crt"

local HOOK = [[
#!/bin/sh
[ "$2" = http-01 ] || exit 1
case $1 in
  begin) printf %%s "$5" >"%s/.well-known/acme-challenge/$4" ;;
  *) rm -f "%s/.well-known/acme-challenge/$4" ;;
esac
]]

local ESTATE = [[
acme = {directory = %q, ca = %q, terms_agreed = true}
challenge = {webroot = %q}
allow_internal = {"test"}
state = %q
certificates = {{name = "bench", domains = {%q}, install = {dir = %q}}}
]]

local function median(list)
  local sorted = table.move(list, 1, #list, 1, {})
  table.sort(sorted)
  return sorted[(#sorted + 1) // 2]
end

local function timed(argv)
  local started = time.cpu()
  process.run{argv = argv, timeout = "60s"}
  return time.cpu() - started
end

--- The web server of the names: serves the challenge folder where Pebble looks.
local function serve(ca, webroot)
  return http.serve{listen = ca.http01, handler = function(req)
    local token = req.path:match("^/%.well%-known/acme%-challenge/([%w_-]+)$")
    if not token then return nil end
    return fs.read(webroot .. "/.well-known/acme-challenge/" .. token)
  end}
end

local function uacme_command(home, ca, webroot)
  local hook, conf, bundle = home .. "/hook", home .. "/uacme", home .. "/bundle.pem"
  fs.write(hook, HOOK:format(webroot, webroot), {mode = "0700"})
  fs.write(bundle, fs.read(BUNDLE) .. fs.read(ca.ca), {mode = "0644"})
  local function wrapped(...)
    return {"unshare", "-m", "sh", "-c",
      ('mount --bind %s %s && exec "$@"'):format(bundle, BUNDLE), "sh",
      "uacme", "-a", ca.directory, "-c", conf, "-t", "EC", "-b", "256", ...}
  end
  process.run{argv = wrapped("-y", "new")}
  return wrapped("-f", "-h", hook, "issue", NAME)
end

local function secrun_command(home, ca, webroot)
  local config = home .. "/estate.lua"
  fs.write(config, ESTATE:format(ca.directory, ca.ca, webroot, home .. "/state", NAME,
    home .. "/live"))
  return {program, "renew", "--config", config, "--force"}
end

local status = stage.run(function()
  local ca = pebble.start(stage, {nonce_reject = 0, authz_reuse = 0})
  local home, webroot = stage:tmpdir(), stage:tmpdir()
  fs.mkdir(webroot .. "/.well-known/acme-challenge", {parents = true, mode = "0755"})
  local server <close> = serve(ca, webroot)
  local ours, theirs = secrun_command(home, ca, webroot), uacme_command(home, ca, webroot)
  timed(ours)
  timed(theirs)
  local a, b, ratios = {}, {}, {}
  for i = 1, rounds do
    a[i], b[i] = timed(ours), timed(theirs)
    ratios[i] = a[i] / b[i]
  end
  local ratio = median(ratios)
  print(("one certificate, cold: uacme %.0f ms, secrun %.0f ms, ratio %.2f (target 0.40)")
    :format(median(b) * 1000, median(a) * 1000, ratio))
  return ratio <= 0.4 and 0 or 1
end)

return status
