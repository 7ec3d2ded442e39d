--- The demo: a test CA on loopback, an estate with one certificate that expires in days and
--- one that is fine, `secrun renew`, and a look at what came out of it.

package.path = "tests/integration/?.lua;tests/demo/?.lua;" .. package.path

local deploy = require "deploy"
local fs = require "fs"
local pebble = require "pebble"
local process = require "process"
local stage = require "stage"
local time = require "time"
local x509 = require "x509"

local DAY = 86400
local program = require("load").paths().program

local function say(format, ...) print("\n" .. format:format(...)) end

--- An older certificate, as if issued `age` days ago for 90 days.
local function old_certificate(dir, names, age)
  local key = x509.key{type = "p256"}
  local not_before = time.now() - age * DAY
  local cert = x509.sign{subject = {CN = names[1]}, key = key, names = names,
    not_before = not_before, not_after = not_before + 90 * DAY}
  deploy.install{dir = dir, pem = cert:pem(), key = key}
end

local ESTATE = [[
-- The estate of the demo: who issues, how names are proven, what there is.
acme = {directory = %q, ca = %q, terms_agreed = true}
challenge = {listen = %q}
allow_internal = {"test"}   -- the demo's names are not public
state = %q

certificates = {
  {name = "shop", domains = {"shop.demo.test", "www.shop.demo.test"},
    install = {dir = %q}, reload = {"touch", %q}},
  {name = "blog", domains = {"blog.demo.test"}, install = {dir = %q}},
}
]]

local function show(dir)
  local now = deploy.current(dir)
  print("  in service:  " .. dir .. "/current -> " .. now.generation)
  for i, cert in ipairs(now.chain) do
    local who = #cert.names > 0 and table.concat(cert.names, " ") or cert.subject_dn
    print(("  chain %d:     %s, issued by %s, until %s"):format(i, who, cert.issuer_dn,
      time.rfc3339(cert.not_after)))
  end
  print("  key matches: " .. tostring(now.matches))
  return now
end

local function run()
  say("1. A test CA (Pebble) starts on loopback.")
  local ca = pebble.start(stage)
  print("  " .. ca.directory)

  local home = stage:tmpdir()
  local shop, blog, reloaded = home .. "/shop", home .. "/blog", home .. "/reloaded"
  old_certificate(shop, {"shop.demo.test", "www.shop.demo.test"}, 85)
  old_certificate(blog, {"blog.demo.test"}, 10)
  local config = home .. "/secrun.lua"
  fs.write(config, ESTATE:format(ca.directory, ca.ca, ca.http01, home .. "/state", shop,
    reloaded, blog))

  say("2. The estate: one certificate expires in 5 days, one in 80.")
  for line in fs.read(config):gmatch("[^\n]+") do print("  | " .. line) end

  say("3. secrun renew.lua")
  local result = process.run{argv = {program, "renew.lua", "--config", config},
    check = false, timeout = "40s"}
  io.write(result.stdout, result.stderr)
  if result.status ~= 0 then
    error("secrun renew ended with status " .. result.status, 0)
  end

  say("4. What is in service now.")
  local now = show(shop)
  local path = x509.verify{cert = now.leaf, chain = now.chain, name = "shop.demo.test",
    roots = {x509.read(ca:management("/roots/0"))}}
  print(("  verified:    %d certificates up to the CA's root"):format(#path))
  print("  reload ran:  " .. tostring(fs.exists(reloaded)))
  if not now.matches or not fs.exists(reloaded) then error("the demo failed", 0) end
  say("Done. The same works for your CA: see README.md.")
end

stage.run(run)
