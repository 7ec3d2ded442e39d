--- DNS against BIND: both families, signed updates, what it refuses, delegation.

local dns = require "dns"
local peers = require "dns_peers"
local time = require "time"

local ZONE = "example.test"

local LINES = [[
@ NS ns1
@ CAA 0 issue "ca.example"
@ MX 10 mail
ns1 A 127.0.0.1
ns1 AAAA ::1
www CNAME web
web A 192.0.2.80
*.w TXT "wild"
sub NS ns1
old DNAME example.test.
a.b.c TXT "deep"
]]

local function start(t, more)
  local options = {zones = {ZONE, "sub.example.test"}, hosts = {"127.0.0.1", "::1"},
    lines = {[ZONE] = LINES, ["sub.example.test"] = "@ NS ns1.example.test.\n"}}
  for key, value in pairs(more or {}) do options[key] = value end
  return peers.bind(t, options)
end

local function ask(bind, name, kind, more)
  local options = {name = name, type = kind, servers = bind.address}
  for key, value in pairs(more or {}) do options[key] = value end
  return dns.query(options)
end

local function add(bind, more)
  local options = {server = bind.address, zone = ZONE, key = bind.key, changes = {
    {action = "add", name = "a.example.test", type = "TXT", text = "x", ttl = 60}}}
  for key, value in pairs(more or {}) do options[key] = value end
  return dns.update(options)
end

test("questions get from BIND what they get from our own server", function(t)
  local bind = start(t)
  t:equal(ask(bind, "www.example.test", "A"):values(), {"192.0.2.80"})
  t:equal(ask(bind, "www.old.example.test", "A").canonical, "web.example.test")
  t:equal(ask(bind, "x.y.w.example.test", "TXT"):values(), {"wild"})
  t:equal(ask(bind, "b.c.example.test", "TXT").exists, true)
  t:equal(ask(bind, "x.b.c.example.test", "TXT").exists, false)
  t:equal(ask(bind, "no.example.test", "A").negative_ttl, 30)
  t:equal(ask(bind, ZONE, "MX").records[1].exchange, "mail.example.test")
  t:equal(ask(bind, ZONE, "CAA", {transport = "tcp"}).records[1].content, "ca.example")
  t:equal(ask(bind, ZONE, "SOA", {servers = "[::1]:" .. bind.port}).flags.aa, true)
  t:equal(dns.zone{name = "x.sub.example.test", servers = bind.address}.name,
    "sub.example.test")
  local seen = dns.survey{name = ZONE, type = "MX", servers = bind.address,
    authority_port = bind.port}
  t:equal({seen.agree, #seen.rows}, {true, 2})
end)

test("signed updates are taken, and answered with a signature we verify", function(t)
  local bind = start(t)
  add(bind)
  add(bind, {transport = "udp", changes = {{action = "add", name = "a.example.test",
    type = "TXT", text = "y", ttl = 60}}})
  local values = ask(bind, "a.example.test", "TXT"):values()
  table.sort(values)
  t:equal(values, {"x", "y"})
  add(bind, {changes = {{action = "remove", name = "a.example.test", type = "TXT"}}})
  t:equal(ask(bind, "a.example.test", "TXT"):values(), {})
end)

test("refusals are explained: key, secret, policy, zone", function(t)
  local bind = start(t, {closed = "sub.example.test"})
  local function refused(kind, code, pattern, more)
    t:equal(t:raises(function() add(bind, more) end, kind, pattern).code, code)
  end
  refused("auth", "BADKEY", "does not know",
    {key = dns.key{name = "stranger.test", secret = bind.secret}})
  refused("auth", "BADSIG", "secret differs",
    {key = dns.key{name = bind.key_name, secret = "AAAAAAAAAAAAAAAAAAAAAAAAAAAA"}})
  refused("denied", "REFUSED", "may not change", {zone = "sub.example.test",
    changes = {{action = "add", name = "a.sub.example.test", type = "TXT", text = "x"}}})
  refused("denied", "NOTAUTH", "not the primary", {zone = "other.test", changes =
    {{action = "add", name = "a.other.test", type = "TXT", text = "x"}}})
  refused("usage", "NOTZONE", "not in the zone", {changes = {{action = "add",
    name = "a.other.test", type = "TXT", text = "x"}}})
end)

test("a wrong clock is told apart", {clock = "virtual"}, function(t)
  local bind = start(t)
  time.advance "1h"
  local err = t:raises(function() add(bind) end, "auth",
    "clock is 3%d%d%d s behind ours")
  t:equal(err.code, "BADTIME")
end)
