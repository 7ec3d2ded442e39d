--- DNS against Knot DNS: signed updates, and what it refuses; the dns-01 solver.

local acme = require "acme"
local dcv = require "dcv"
local dns = require "dns"
local dns01 = require "dns01"
local dns_server = require "dns_server"
local deploy = require "deploy"
local estate_home = require "estate_home"
local fs = require "fs"
local peers = require "dns_peers"
local pebble = require "pebble"
local process = require "process"
local stream = require "stream"
local task = require "task"
local time = require "time"

local ZONE = "example.test"

local function change(peer, action, name, text, key)
  return dns.update{server = peer.address, zone = ZONE, key = key or peer.key,
    changes = {{action = action, name = name, type = "TXT", text = text,
      ttl = action == "add" and 60 or nil}}}
end

local function texts(peer, name)
  local list = dns.query{name = name, type = "TXT", servers = peer.address}:values()
  table.sort(list)
  return list
end

local function authorization(name, wildcard)
  return {identifier = {type = "dns", value = name}, wildcard = wildcard,
    name = function() return (wildcard and "*." or "") .. name end}
end

local function challenge(text) return {type = "dns-01", key_authorization = text} end

test("a signed update is done and undone by value, with every algorithm",
  {timeout = "60s"}, function(t)
    for _, algorithm in ipairs{"hmac-sha256", "hmac-sha384", "hmac-sha512"} do
      local knot = peers.knot(t, {zones = {ZONE}, algorithm = algorithm})
      change(knot, "add", "a.example.test", "one")
      change(knot, "add", "a.example.test", "two")
      t:equal(texts(knot, "a.example.test"), {"one", "two"})
      change(knot, "remove", "a.example.test", "one")
      t:equal(texts(knot, "a.example.test"), {"two"})
      change(knot, "remove", "a.example.test", "never was")
      t:equal(texts(knot, "a.example.test"), {"two"})
    end
  end)

test("refusals are explained: key, secret, signature, zone", function(t)
  local knot = peers.knot(t, {zones = {ZONE}})
  local function refused(kind, code, pattern, key)
    local err = t:raises(function()
      change(knot, "add", "a.example.test", "x", key)
    end, kind, pattern)
    t:equal(err.code, code)
  end
  refused("auth", "BADKEY", "does not know a TSIG key stranger.test",
    dns.key{name = "stranger.test", secret = knot.secret})
  refused("auth", "BADSIG", "the secret differs",
    dns.key{name = knot.key_name, secret = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"})
  t:raises(function()
    dns.update{server = knot.address, zone = ZONE, changes = {{action = "add",
      name = "a.example.test", type = "TXT", text = "x"}}}
  end, "denied", "NOTAUTH")
  t:raises(function()
    dns.update{server = knot.address, zone = "other.test", key = knot.key, changes = {
      {action = "add", name = "a.other.test", type = "TXT", text = "x"}}}
  end, "denied", "not the primary")
  t:equal(texts(knot, "a.example.test"), {})
end)

test("a wrong clock is told apart, and in which direction", {clock = "virtual"},
  function(t)
    local knot = peers.knot(t, {zones = {ZONE}})
    time.advance "1h"
    local err = t:raises(function()
      change(knot, "add", "a.example.test", "x")
    end, "auth", "clock is 3%d%d%d s behind ours")
    t:equal(err.code, "BADTIME")
  end)

test("a big answer is truncated, and fetched over TCP", function(t)
  local knot = peers.knot(t, {zones = {ZONE}})
  for i = 1, 20 do change(knot, "add", "big.example.test", i .. ("x"):rep(200)) end
  local answer = dns.query{name = "big.example.test", type = "TXT",
    servers = knot.address}
  t:equal({#answer.records, answer.transport, answer.truncated}, {20, "tcp", true})
  t:equal(#texts(knot, "no.example.test"), 0)
end)

--- ns1 on this server, ns2 on the other, ns3 where nothing answers.
local LINES = [[
@ NS ns1
@ NS ns2
@ NS ns3
ns1 A 127.0.0.1
ns2 A 127.0.0.2
ns3 A 127.0.0.3
_acme-challenge.www CNAME www.delegated.test.
]]

test("dns-01: one server lags, one is dead, the challenge of www is delegated",
  {timeout = "60s"}, function(t)
    local lines = {[ZONE] = LINES, ["delegated.test"] = LINES}
    local zones = {ZONE, "delegated.test"}
    local bind = peers.bind(t, {zones = zones, lines = lines})
    local knot = peers.knot(t, {zones = zones, lines = lines, host = "127.0.0.2",
      port = bind.port})
    local silent <close> = stream.udp{host = "127.0.0.3", port = bind.port}
    local solver = dcv.solver{servers = bind.address, port = bind.port, families = {4},
      attempt = "300ms", poll = "100ms", wait = "30s",
      dns = {driver = "rfc2136", server = bind.address, key = bind.key}}
    local apex, www = authorization(ZONE), authorization "www.example.test"
    solver:present(apex, challenge "a", "a")
    solver:present(www, challenge "b", "b")
    t:equal(texts(bind, "www.delegated.test"), {dns01.value "b"})
    solver.options.wait = 0.5
    local err = t:raises(function() solver:wait() end, "dns",
      "ns2.example.test still says .*ns3.example.test does not answer")
    t:equal(err.code, "PROPAGATION")
    solver.options.wait = 30
    local group <close> = task.group()
    group:spawn(function()
      task.sleep(0.5)
      for zone, name in pairs{[ZONE] = "_acme-challenge.example.test",
        ["delegated.test"] = "www.delegated.test"} do
        dns.update{server = knot.address, zone = zone, key = knot.key, changes = {
          {action = "add", name = name, type = "TXT", ttl = 60,
            text = dns01.value(zone == ZONE and "a" or "b")}}}
      end
    end)
    for _, states in ipairs(solver:wait()) do
      t:equal({states[1].state, states[2].state, states[3].state}, {"has", "has", "dead"})
    end
    solver:cleanup(www, challenge "b")
    t:equal(texts(bind, "www.delegated.test"), {})
    t:equal(silent.closed, false)
  end)

test("Pebble issues for apex and wildcard, proven on Knot",
  {timeout = "90s", leaks = true}, function(t)
    local knot = peers.knot(t, {zones = {ZONE}})
    local ca = pebble.start(t, {dns = knot.address})
    local account = acme.account{directory = ca.directory, ca = ca.ca,
      terms_agreed = true, key = {file = t:tmpdir() .. "/account.pem"}}
    local result = account:issue{names = {ZONE, "*." .. ZONE}, state_dir = t:tmpdir(),
      timeout = "60s", solver = dcv.solver{servers = knot.address, port = knot.port,
        poll = "50ms", dns = {driver = "rfc2136", server = knot.address, key = knot.key}}}
    local names = {}
    for i, name in ipairs(result.chain[1].names) do names[i] = name end
    table.sort(names)
    t:equal(names, {"*.example.test", "example.test"})
    t:equal(texts(knot, "_acme-challenge.example.test"), {})
  end)

test("secrun renew gets a wildcard by dns-01, with a key from a secret file",
  {timeout = "90s"}, function(t)
    local knot = peers.knot(t, {zones = {ZONE}})
    local ca = pebble.start(t, {dns = knot.address, authz_reuse = 0})
    fs.write(knot.dir .. "/tsig", knot.secret, {mode = "0600"})
    local home = estate_home.new(t, ca, ([[
      {name = "wild", domains = {"*.example.test", "example.test"},
        install = {dir = "HOME/wild"}, challenge = {servers = %q, port = %d,
        poll = "50ms", dns = {driver = "rfc2136", server = %q, key_name = %q,
          key_secret = secret "file:%s/tsig"}}}]]):format(knot.address, knot.port,
      knot.address, knot.key_name, knot.dir))
    estate_home.expect(estate_home.renew(home), 0, "wild +renewed")
    local names = deploy.current(home .. "/wild").leaf.names
    table.sort(names)
    t:equal({names[1], names[2]}, {"*.example.test", "example.test"})
    t:equal(texts(knot, "_acme-challenge.example.test"), {})
    fs.write(knot.dir .. "/tsig", "b3RoZXIgc2VjcmV0", {mode = "0600"})
    estate_home.expect(estate_home.renew(home, "--force"), 1, "wild +FAILED",
      "dns%-01 for .*example.test: .*the secret differs")
  end)

test("Knot's own tools use the sandbox's server: questions, TCP, signed updates",
  function(t)
    local key = dns.key{name = "update.test", secret = "c2VjcnVuIGtub3QgdGVzdA=="}
    local server = dns_server.start{zones = {[ZONE] = {keys = {key}}}}
    t:defer(function() server:close() end)
    server:set("www.example.test", "CNAME", "web.example.test")
    server:set("web.example.test", "A", "192.0.2.80")
    server:set("big.example.test", "TXT", ("x"):rep(2000))
    local function kdig(...)
      return process.run{argv = {"kdig", "@127.0.0.1", "-p", tostring(server.port),
        "+noedns", ...}}.stdout
    end
    local text = kdig("www.example.test", "A")
    for _, line in ipairs{"status: NOERROR", "Flags: qr aa rd",
      "www.example.test.%s+300%s+IN%s+CNAME%s+web.example.test.",
      "web.example.test.%s+300%s+IN%s+A%s+192.0.2.80"} do
      assert(text:find(line), text)
    end
    text = kdig("big.example.test", "TXT")
    assert(text:find "From 127.0.0.1@%d+%(TCP%)", text)
    text = kdig("no.example.test", "TXT")
    assert(text:find "NXDOMAIN" and text:find "IN%s+SOA%s+ns1.example.test.", text)
    local update = ("server 127.0.0.1 %d\nzone %s.\n"):format(server.port, ZONE)
      .. "update add a.example.test. 60 TXT \"from knsupdate\"\nsend\n"
    local function knsupdate(secret)
      return process.run{argv = {"knsupdate", "-y", "hmac-sha256:update.test:" .. secret},
        stdin = update, check = false}
    end
    t:equal(knsupdate("c2VjcnVuIGtub3QgdGVzdA==").status, 0)
    t:equal(server:values("a.example.test", "TXT"), {"from knsupdate"})
    server:remove "a.example.test"
    local refused = knsupdate "b3RoZXIgc2VjcmV0IG9mIG91cnM="
    t:equal(server:values("a.example.test", "TXT"), {})
    assert((refused.stdout .. refused.stderr):find "BADSIG", refused.stderr)
  end)
