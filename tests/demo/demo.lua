--- The demo: a test CA for ACME and a sandbox of SCM on loopback, an estate whose DV, OV and
--- EV certificates expire soon, `secrun renew`, the approval that EV waits for, and a look at
--- what came out of it.

package.path = "tests/integration/?.lua;tests/demo/?.lua;" .. package.path

local deploy = require "deploy"
local fs = require "fs"
local pebble = require "pebble"
local process = require "process"
local scm = require "scm"
local scm_server = require "scm_server"
local stage = require "stage"
local time = require "time"
local x509 = require "x509"

local DAY = 86400
local PASSWORD = "api-password" -- of the sandbox
local program = require("load").paths().program

local function say(format, ...) print("\n" .. format:format(...)) end

--- An older certificate, as if issued for 90 days, `left` of them to go.
local function old_certificate(dir, name, left)
  local key = x509.key{type = "p256"}
  local not_after = time.now() + left * DAY
  local cert = x509.sign{subject = {CN = name}, key = key, names = {name},
    not_before = not_after - 90 * DAY, not_after = not_after}
  deploy.install{dir = dir, pem = cert:pem(), key = key}
end

local ESTATE = [[
-- The estate of the demo: who issues, how names are proven, what there is.
acme = {directory = %q, ca = %q, terms_agreed = true}
challenge = {listen = %q}
scm = {url = %q, ca = %q, customer_uri = "sandbox", login = "api",
  password = secret "env:SCM_PASSWORD", org = "Example Corp", lag = "1s"}
allow_internal = {"test"}   -- one of the demo's names is not public
state = %q

certificates = {
  {name = "www", product = "PositiveSSL", domains = {"www.demo.test"},
    install = {dir = %q}, reload = {"touch", %q}},
  {name = "shop", product = "InstantSSL Pro", domains = {"shop.example.com"},
    install = {dir = %q}},
  {name = "login", product = "EV SSL", domains = {"login.example.com"},
    install = {dir = %q}},
  {name = "news", product = "PositiveSSL", channel = "scm",
    domains = {"news.example.com"}, install = {dir = %q}},
  {name = "blog", product = "InstantSSL", domains = {"blog.example.com"},
    install = {dir = %q}},
}
]]

local home = stage:tmpdir()
local config = home .. "/secrun.lua"

--- Run the program with the demo's estate, and show what it prints.
local function secrun(expected, ...)
  local words = {...}
  print("  $ secrun " .. table.concat(words, " "))
  local result = process.run{argv = {program, table.unpack(words)}, check = false,
    timeout = "50s", env = {SECRUN_CONFIG = config, SCM_PASSWORD = PASSWORD}}
  for line in (result.stdout .. result.stderr):gmatch("[^\n]+") do
    if line:sub(1, 1) ~= "{" then print("  " .. line) end
  end
  if result.status ~= expected then
    error(("status %s instead of %d: %s"):format(result.status or result.signal, expected,
      result.stderr), 0)
  end
  return result.stdout
end

--- What is in service, and whether it is whole.
local function show(name)
  local now = deploy.current(home .. "/" .. name)
  print(("  %-6s %s: %s, by %s, until %s, key matches: %s"):format(name, now.generation,
    table.concat(now.leaf.names, " "), now.leaf.issuer_dn:match("CN=([^,]+)"),
    time.rfc3339(now.leaf.not_after), now.matches))
  if not now.matches then error("the key does not match", 0) end
  return now
end

local function connect(server, login)
  return scm.connect{url = server.url, ca = server.ca, customer_uri = "sandbox",
    login = login, password = login .. "-password"}
end

local function start_scm()
  local server = scm_server.start{settings = {apply_after = 0, issue_after = 0}}
  stage:defer(function() server:close() end)
  fs.write(home .. "/scm-ca.pem", server.ca)
  return server
end

local function run()
  say("1. A test CA (Pebble) and a sandbox of SCM start on loopback.")
  local ca, server = pebble.start(stage), start_scm()
  print("  ACME " .. ca.directory .. "\n  SCM  " .. server.url)
  for name, left in pairs{www = 5, shop = 12, login = 20, news = 9, blog = 80} do
    local domain = name == "www" and "www.demo.test" or name .. ".example.com"
    old_certificate(home .. "/" .. name, domain, left)
  end
  fs.write(config, ESTATE:format(ca.directory, ca.ca, ca.http01, server.url,
    home .. "/scm-ca.pem", home .. "/state", home .. "/www", home .. "/reloaded",
    home .. "/shop", home .. "/login", home .. "/news", home .. "/blog"))

  say("2. The estate: DV by ACME and by SCM, OV and EV by SCM; four expire soon.")
  for line in fs.read(config):gmatch("[^\n]+") do print("  | " .. line) end

  say("3. Renew what is due. EV waits for a person.")
  local id = secrun(4, "renew.lua", "--wait", "8s"):match("why (renew/login/%d+)")
  secrun(0, "flow", "why", id)

  say("4. Somebody approves the EV request in SCM, and the renewal goes on.")
  for one in connect(server, "api").ssl:list{status = "Requested"} do
    connect(server, "approver").ssl:approve{id = one.sslId, message = "seen"}
    print(("  certificate %d (%s) is approved"):format(one.sslId, one.commonName))
  end
  secrun(0, "renew.lua")

  say("5. What is in service now.")
  local www = show "www"
  show "shop"
  show "login"
  show "news"
  show "blog"
  local path = x509.verify{cert = www.leaf, chain = www.chain, name = "www.demo.test",
    roots = {x509.read(ca:management("/roots/0"))}}
  print(("  www is verified: %d certificates up to the CA's root; its reload ran: %s")
    :format(#path, fs.exists(home .. "/reloaded")))
  if not fs.exists(home .. "/reloaded") then error("the reload did not run", 0) end
  secrun(0, "inventory", "status=Issued")
  say("Done. The same works for your CA and your SCM: see README.md.")
end

stage.run(run)
