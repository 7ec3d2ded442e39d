-- The parts of ACME that need no server: names, solvers, keys, gates, arguments.
local acme = require "acme"
local core = require "acme.core"
local gates = require "gate"
local fs = require "fs"
local http = require "http"
local task = require "task"
local x509 = require "x509"

local TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
local AUTHORIZATION = {name = function() return "a.test" end}
local CHALLENGE = {type = "http-01", token = TOKEN}
local FOLDER = "/.well-known/acme-challenge"

test("names become a sorted set of canonical names", function(t)
  t:equal(core.names{"b.Example", "A.example.", "B.EXAMPLE", "*.a.example", "::0001"},
    {"*.a.example", "::1", "a.example", "b.example"})
  t:raises(function() core.names{"a_b.example"} end, "usage")
  t:raises(function() core.names{"müller.example"} end, "usage", "xn%-%-")
end)

test("the webroot solver writes exactly the key authorization", function(t)
  local root = t:tmpdir()
  local solver = acme.http01{webroot = root .. "/"}
  solver:present(AUTHORIZATION, CHALLENGE, TOKEN .. ".thumb")
  t:equal(fs.read(root .. FOLDER .. "/" .. TOKEN), TOKEN .. ".thumb")
  t:equal(fs.stat(root .. FOLDER .. "/" .. TOKEN).mode, "0644")
  solver:cleanup(AUTHORIZATION, CHALLENGE)
  solver:cleanup(AUTHORIZATION, CHALLENGE)
  t:equal(fs.list(root .. FOLDER), {})
end)

test("a webroot behind which a symbolic link leads away is refused", function(t)
  for _, place in ipairs{"/.well-known", FOLDER} do
    local root, away = t:tmpdir(), t:tmpdir()
    if place == FOLDER then fs.mkdir(root .. "/.well-known") end
    fs.symlink(away, root .. place)
    t:raises(function()
      acme.http01{webroot = root}:present(AUTHORIZATION, CHALLENGE, "x")
    end, "denied", "symbolic link")
    t:equal(fs.list(away), {})
  end
end)

test("a webroot that does not exist is named", function(t)
  local solver = acme.http01{webroot = t:tmpdir() .. "/missing"}
  t:raises(function() solver:present(AUTHORIZATION, CHALLENGE, "x") end, "not_found",
    "missing")
end)

test("a solver takes no token that is a path", function(t)
  local root = t:tmpdir()
  t:raises(function()
    acme.http01{webroot = root}:present(AUTHORIZATION,
      {type = "http-01", token = "../../../../../../tmp/evil"}, "x")
  end, "protocol", "token")
  t:equal(fs.list(root), {})
end)

test("the built-in server listens only when needed", {leaks = true}, function(t)
  local solver = acme.http01{listen = "127.0.0.1:0"}
  solver:present(AUTHORIZATION, CHALLENGE, TOKEN .. ".thumb")
  local url = ("http://127.0.0.1:%d"):format(solver.port) .. FOLDER .. "/"
  t:equal(http.get(url .. TOKEN).body, TOKEN .. ".thumb")
  t:equal(http.get(url .. "other", {raise = false}).status, 404)
  t:equal(http.get(url, {raise = false}).status, 404)
  solver:cleanup(AUTHORIZATION, CHALLENGE)
  t:equal(solver.server, nil)
  t:raises(function() http.get(url .. TOKEN, {timeout = "2s"}) end, "connect")
end)

test("a taken port is named with the mend", function(t)
  local server <close> = http.serve{listen = "127.0.0.1:0", handler = function() end}
  local solver = acme.http01{listen = "127.0.0.1:" .. server.port}
  t:raises(function() solver:present(AUTHORIZATION, CHALLENGE, "x") end, "conflict",
    "cannot listen")
  t:equal(next(solver.answers), nil)
end)

test("solvers of one address share their server", function(t)
  local one = acme.http01{listen = "127.0.0.1:7"}
  local two = acme.http01{listen = "127.0.0.1:7"}
  t:equal(rawequal(one, two), true)
  t:raises(function() acme.http01{} end, "usage", "webroot or listen")
  t:raises(function() acme.http01{webrot = "/x"} end, "usage", "webroot")
end)

test("a directory is https, or http on loopback", function(t)
  local key = x509.key{type = "p256"}
  for _, url in ipairs{"http://ca.example/dir", "ftp://ca.example", "ca.example",
    "https://user@ca.example/"} do
    t:raises(function() acme.account{directory = url, key = key} end, "usage", "URL")
  end
end)

test("an account key file that is none is refused", function(t)
  local file = t:tmpdir() .. "/account.pem"
  fs.write(file, "nothing")
  local err = t:raises(function()
    acme.account{directory = "http://127.0.0.1:1/", key = {file = file}}
  end, "usage", "no key found")
  assert(err.message:find("account key " .. file, 1, true), err.message)
end)

test("a gate lets one through at a time, in order", function(t)
  local gate, seen = gates.new(), {}
  do
    local group <close> = task.group{}
    for i = 1, 4 do
      group:spawn(function()
        local guard <close> = gate:enter()
        seen[#seen + 1] = i
        task.sleep(0.001)
        seen[#seen + 1] = -i
      end)
    end
  end
  t:equal(seen, {1, -1, 2, -2, 3, -3, 4, -4})
end)

test("a waiter that is cancelled leaves the gate's queue", function(t)
  local gate, seen = gates.new(), {}
  local group <close> = task.group{}
  group:spawn(function()
    local guard <close> = gate:enter()
    task.sleep(0.02)
  end)
  local second = group:spawn(function()
    pcall(function()
      local guard <close> = gate:enter()
      seen[#seen + 1] = "second"
    end)
  end)
  group:spawn(function()
    local guard <close> = gate:enter()
    seen[#seen + 1] = "third"
  end)
  task.sleep(0.005)
  second:cancel()
  group:join()
  t:equal(seen, {"third"})
end)

test("a time-out at the gate does not keep it shut", function(t)
  local gate = gates.new()
  local pass = gate:enter()
  for _ = 1, 3 do
    t:raises(function() task.timeout(0.005, gate.enter, gate) end, "timeout")
  end
  getmetatable(pass).__close(pass)
  local guard <close> = gate:enter()
end)

test("a MAC key that looks encoded twice is told apart", function(t)
  local key = x509.key{type = "p256"}
  local inner = ("zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W")
  local outer = require("encoding").base64_encode(inner)
  local options = {key = key, url = "https://ca.example/a", kid = "k", hmac_key = outer}
  local once, twice = core.eab(options)
  t:equal(twice, true)
  options.encoding = "twice"
  local again, still = core.eab(options)
  t:equal(still, false)
  assert(once ~= again)
end)
