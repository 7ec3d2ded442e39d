-- `secrun renew` as a person runs it, against Pebble: what it prints, installs, survives.
local acme = require "acme"
local deploy = require "deploy"
local estate_home = require "estate_home"
local fs = require "fs"
local http = require "http"
local json = require "json"
local pebble = require "pebble"
local process = require "process"
local task = require "task"
local time = require "time"
local x509 = require "x509"

local program = require("load").paths().program
local DAY = 86400
local LONG = {timeout = "100s"}

local estate, run = estate_home.new, estate_home.renew
local expect, in_service = estate_home.expect, estate_home.in_service

local ONE = '{name = "www", domains = {"www.a.test"}, install = {dir = "HOME/www"}}'

test("what is due is renewed, the rest is left, and the table says why", LONG, function(t)
  local ca = pebble.start(t)
  local home = estate(t, ca, [[
    {name = "old", domains = {"old.a.test"}, install = {dir = "HOME/old"}},
    {name = "new", domains = {"new.a.test", "www.new.a.test"}, key_type = "rsa2048"},
    {name = "fine", domains = {"fine.a.test"}, install = {dir = "HOME/fine"}},
    {name = "more", domains = {"more.a.test", "added.a.test"},
      install = {dir = "HOME/more"}}]])
  in_service(home .. "/old", "old.a.test", 5)
  in_service(home .. "/more", "more.a.test", 80)
  local fine = in_service(home .. "/fine", "fine.a.test", 80)
  expect(run(home, "--dry-run"), 0, "old +would renew +%S+ +it expires in 4d 23h",
    "new +would renew +there is none yet", "fine +fine",
    "more +would renew +%S+ +added.a.test is not in it")
  t:equal(ca:issued(), 0)
  expect(run(home), 0, "old +renewed", "new +renewed", "fine +fine", "more +renewed")
  t:equal(ca:issued(), 3)
  t:equal(deploy.current(home .. "/fine").leaf.serial, fine)
  local new = deploy.current(home .. "/state/live/new")
  t:equal({new.matches, new.key.type, #new.chain >= 2}, {true, "rsa2048", true})
  expect(run(home), 0, "old +fine", "new +fine")
  t:equal(ca:issued(), 3)
end)

test("names on the command line choose, --force renews", LONG, function(t)
  local ca = pebble.start(t)
  local home = estate(t, ca, ONE .. ', {name = "b", domains = {"b.a.test"}}')
  expect(run(home, "www"), 0, "www +renewed")
  expect(run(home, "--force", "www"), 0, "www +renewed +%S+ +forced")
  t:equal(ca:issued(), 2)
  expect(run(home, "wwww"), 2, "did you mean www")
  expect(run(home, "--fore"), 2, "did you mean %-%-force")
end)

test("twenty renewals in a row, with 90 % of the nonces rejected", {timeout = "180s"},
  function(t)
    local ca = pebble.start(t, {nonce_reject = 90})
    local home = estate(t, ca, ONE)
    for _ = 1, 20 do expect(run(home, "--force"), 0, "www +renewed") end
    t:equal(ca:issued(), 20)
  end)

test("twenty renewals in a row, with Pebble's own chaos", {timeout = "280s"}, function(t)
  local ca = pebble.start(t, {sleep_time = 1})
  local home = estate(t, ca, ONE)
  for _ = 1, 20 do expect(run(home, "--force"), 0, "www +renewed") end
  t:equal(ca:issued(), 20)
end)

test("killed at any moment, it ends with one certificate", {timeout = "180s"},
  function(t)
    local ca = pebble.start(t)
    local whole = time.cpu()
    expect(run(estate(t, ca, ONE)), 0)
    whole = time.cpu() - whole
    local before = ca:issued()
    local rounds = 12
    for round = 1, rounds do
      local home = estate(t, ca, ONE)
      for kill = 1, 3 do
        local child = process.spawn{argv = {program, "renew", "--config",
          home .. "/estate.lua"}}
        task.sleep(whole * (round * 3 + kill) / (rounds * 3 + 3))
        child:kill("KILL")
        child:close()
      end
      expect(run(home), 0)
      local now = deploy.current(home .. "/www")
      t:equal(now.matches, true)
      t:equal(fs.list(home .. "/state/keys"), {})
    end
    local issued = ca:issued() - before
    assert(issued == rounds, ("%d certificates for %d renewals"):format(issued, rounds))
  end)

test("an order that a version without a store left behind is taken over", LONG,
  function(t)
    local ca = pebble.start(t)
    local home = estate(t, ca, ONE)
    local host = ca.directory:match("^https://([^/]+)"):gsub("[^%w.-]", "_")
    fs.mkdir(home .. "/state/accounts", {parents = true, mode = "0700"})
    local account = acme.account{directory = ca.directory, ca = ca.ca,
      terms_agreed = true, key = {file = home .. "/state/accounts/" .. host .. ".key"}}
    local left = home .. "/state/orders/www"
    t:raises(function()
      account:issue{names = {"www.a.test"}, state_dir = left,
        solver = acme.http01{listen = ca.http01}, on_step = function(step)
          if step == "placed" then error("stopped", 0) end
        end}
    end, nil, "stopped")
    local key = x509.read_key{pem = fs.read(left .. "/key.pem")}
    expect(run(home), 0, "www +renewed")
    t:equal(deploy.current(home .. "/www").key.spki_sha256, key.spki_sha256)
    t:equal({ca:issued(), fs.exists(left)}, {1, false})
    local orders = 0
    for _ in account:orders() do orders = orders + 1 end
    t:equal(orders, 1)
  end)

test("EAB keys come from where the estate says and appear nowhere", LONG, function(t)
  local canary = "c2VjcnVuLWNhbmFyeS1oZXJlLXRoZXJlLWV2ZXJ5d2hlcmU"
  local ca = pebble.start(t, {eab = {["kid-1"] = canary}})
  local home = estate(t, ca, ONE)
  local text = fs.read(home .. "/estate.lua"):gsub("terms_agreed = true",
    'terms_agreed = true, eab = {kid = "kid-1", hmac_key = secret "env:CANARY"}')
  fs.write(home .. "/estate.lua", text)
  local result = process.run{argv = {program, "--log-level=debug", "renew", "--config",
    home .. "/estate.lua"}, env = {CANARY = canary}, check = false, timeout = "60s"}
  expect(result, 0, "www +renewed")
  t:equal((result.stdout .. result.stderr):find(canary, 1, true), nil)
  fs.remove_tree(home .. "/state/accounts")
  local wrong = process.run{
    argv = {program, "renew", "--force", "--config", home .. "/estate.lua"},
    env = {CANARY = "d3Jvbmcta2V5LXdyb25nLWtleS13cm9uZy1rZXktMTIzNA"}, check = false}
  expect(wrong, 1, "www +FAILED")
  t:equal((wrong.stdout .. wrong.stderr):find("d3Jvbmct", 1, true), nil)
end)

test("a policy that says no exits 3, names the line, asks no CA", LONG, function(t)
  local ca = pebble.start(t)
  local home = estate(t, ca, ONE, 'policies = {"keys", "./ours.lua"}')
  fs.write(home .. "/ours.lua",
    'applies = {"renew"}\nfunction check(r)\n  return deny("not %s", r.names[1])\nend\n')
  expect(run(home), 3, "www +denied", "not www.a.test", "ours.lua:3")
  t:equal(ca:issued(), 0)
end)

test("a reload that fails leaves the old certificate, and nothing is ordered twice",
  LONG, function(t)
    local ca = pebble.start(t)
    local home = estate(t, ca, '{name = "www", domains = {"www.a.test"}, '
      .. 'install = {dir = "HOME/www"}, reload = {"sh", "-c", "test -e HOME/ok"}}')
    local old = in_service(home .. "/www", "www.a.test", 5)
    expect(run(home), 1, "www +FAILED", "reload after installing", "is back")
    t:equal(deploy.current(home .. "/www").leaf.serial, old)
    fs.write(home .. "/ok", "")
    expect(run(home), 0, "www +renewed")
    t:equal(ca:issued(), 1)
  end)

------------------------------------------------------------------ a CA that misbehaves

--- An https server with our own certificate in place of a CA.
local function fake_ca(t, handler, days)
  local dir, key = t:tmpdir(), x509.key{}
  local cert = x509.sign{subject = {CN = "fake"}, key = key, names = {"127.0.0.1"},
    ext_key_usage = {"serverAuth"}, not_before = time.now() - 90 * DAY,
    not_after = time.now() + days * DAY}
  fs.write(dir .. "/ca.pem", cert:pem())
  local server = http.serve{listen = "127.0.0.1:0", tls = {cert = cert:pem(), key = key},
    handler = handler}
  t:defer(function() server:close{grace = 0} end)
  local directory = ("https://127.0.0.1:%d/dir"):format(server.port)
  return {directory = directory, ca = dir .. "/ca.pem"}
end

local function refuses(t, ca, ...)
  local home = estate(t, ca, ONE)
  local old = in_service(home .. "/www", "www.a.test", 5)
  local result = expect(run(home), 1, "www +FAILED", ...)
  t:equal(deploy.current(home .. "/www").leaf.serial, old)
  return result
end

local function answers(status, content_type, body)
  return function() return {status = status, headers = {["content-type"] = content_type},
    body = body} end
end

test("a CA that cannot be reached is named with its port", LONG, function(t)
  refuses(t, {directory = "https://127.0.0.1:1/dir"}, "127.0.0.1:1", "connect")
end)

test("a CA whose certificate expired is told apart", LONG, function(t)
  refuses(t, fake_ca(t, answers(200, "application/json", "{}"), -1), "expired")
end)

test("a CA whose certificate is not trusted is told apart", LONG, function(t)
  local ca = fake_ca(t, answers(200, "application/json", "{}"), 30)
  local other = fake_ca(t, answers(200, "application/json", "{}"), 30)
  refuses(t, {directory = ca.directory, ca = other.ca}, "tls")
end)

test("HTML, half JSON, a wrong type, too much, a loop: explained", LONG, function(t)
  local JSON = "application/json"
  local function loop() return {status = 302, headers = {location = "/dir"}} end
  for _, case in ipairs{
    {answers(200, "text/html", "<html>maintenance</html>"), "HTML page"},
    {answers(200, JSON, '{"newNonce": "htt'), "JSON"},
    {answers(502, "text/html", "<h1>Bad gateway</h1>"), "502"},
    {answers(200, JSON, ("x"):rep(10 * 1024 * 1024)), "limit"},
    {loop, "redirect"},
    {answers(200, JSON, json.encode{newNonce = 5}), "newNonce"},
  } do
    refuses(t, fake_ca(t, case[1], 30), case[2])
  end
end)

test("port 80 without the right to it says how to get it", LONG, function(t)
  local ca = pebble.start(t)
  local served = {directory = ca.directory, ca = ca.ca, http01 = "192.0.2.1:80"}
  local home = estate(t, served, ONE)
  expect(run(home), 1, "www +FAILED", "192.0.2.1:80")
end)

test("a full disk is named, and what is in service stays", LONG, function(t)
  local ca = pebble.start(t)
  local home = estate(t, ca, '{name = "www", domains = {"www.a.test"}, '
    .. 'install = {dir = "/dev/full/www"}}')
  expect(run(home), 1, "www +FAILED", "/dev/full")
end)

test("SIGINT cancels, cleans up, and exits 130", LONG, function(t)
  local ca = pebble.start(t, {sleep_time = 10})
  local home = estate(t, ca, ONE)
  local argv = {program, "renew", "--config", home .. "/estate.lua"}
  local child = process.spawn{argv = argv}
  t:defer(function() child:close() end)
  task.sleep(1)
  child:kill("INT")
  local result = child:wait("20s")
  t:equal(result.status, 130)
end)
