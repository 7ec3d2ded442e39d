--- uacme as a peer: it trusts only the system's CA bundle, so it runs in a mount namespace of
--- its own in which the bundle has the test CA's certificate too (needs root).

local fs = require "fs"
local http = require "http"
local process = require "process"

local uacme = {}

local BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
local FOLDER = "/.well-known/acme-challenge/"

local HOOK = [[
#!/bin/sh
[ "$2" = http-01 ] || exit 1
case $1 in
  begin) printf %%s "$5" >"%s$4" ;;
  *) rm -f "%s$4" ;;
esac
]]

--- The web server of the names: serves the challenge folder where Pebble looks.
function uacme.serve(ca, webroot)
  fs.mkdir(webroot .. FOLDER, {parents = true, mode = "0755"})
  return http.serve{listen = ca.http01, handler = function(req)
    local token = req.path:match("^/%.well%-known/acme%-challenge/([%w_-]+)$")
    if not token then return nil end
    return fs.read(webroot .. FOLDER .. token)
  end}
end

--- Register an account; gives a function that issues one certificate for a name.
function uacme.command(ca, home, webroot, stage)
  local hook, conf, bundle = home .. "/hook", home .. "/uacme", home .. "/bundle.pem"
  fs.write(hook, HOOK:format(webroot .. FOLDER, webroot .. FOLDER), {mode = "0700"})
  fs.write(bundle, fs.read(BUNDLE) .. fs.read(ca.ca), {mode = "0644"})
  local function run(...)
    process.run{timeout = "60s", argv = {"unshare", "-m", "sh", "-c",
      ('mount --bind %s %s && exec "$@"'):format(bundle, BUNDLE), "sh",
      "uacme", "-a", ca.directory, "-c", conf, "-t", "EC", "-b", "256", ...}}
  end
  run("-y", "new")
  if stage then
    local server = uacme.serve(ca, webroot)
    stage:defer(function() server:close() end)
  end
  return function(name) run("-f", "-h", hook, "issue", name) end
end

return uacme
