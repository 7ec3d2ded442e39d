--- Zones, their servers, what each of them says, and the walk from the root.

local dns = require "dns"
local dns_server = require "dns_server"
local servers = require "dns_servers"

local function start(t, options)
  local server = dns_server.start(options)
  t:defer(function() server:close() end)
  return server
end

--- example.test on both families, with a delegated zone sub.example.test.
local function two_families(t)
  local server = start(t, {hosts = {"127.0.0.1", "::1"},
    zones = {["example.test"] = {negative_ttl = 30}, ["sub.example.test"] = {}}})
  for _, zone in ipairs{"example.test", "sub.example.test"} do
    server:set("ns1." .. zone, "A", "127.0.0.1")
    server:set("ns1." .. zone, "AAAA", "::1")
  end
  return server
end

test("the zone of a name is found, whatever the name is", function(t)
  local server = two_families(t)
  server:set("alias.example.test", "CNAME", "x.sub.example.test")
  server:set("alias.sub.example.test", "CNAME", "x.example.test")
  for name, zone in pairs{["example.test"] = "example.test",
    ["a.b.c.example.test"] = "example.test", ["alias.example.test"] = "example.test",
    ["below.alias.example.test"] = "example.test",
    ["alias.sub.example.test"] = "sub.example.test",
    ["_acme-challenge.sub.example.test"] = "sub.example.test"} do
    t:equal(dns.zone{name = name, servers = server.address}.name, zone, name)
  end
  local found = dns.zone{name = "example.test", servers = server.address}
  t:equal({found.negative_ttl, found.ns}, {30, {"ns1.example.test"}})
end)

test("no server of the zone asked: the error says so", function(t)
  local server = two_families(t)
  t:raises(function() dns.zone{name = "a.invalid", servers = server.address} end, "dns",
    "REFUSED")
end)

test("authoritative servers come with all addresses of both families", function(t)
  local server = two_families(t)
  local zone = dns.authoritative{name = "www.example.test", servers = server.address,
    authority_port = server.port}
  local shown = {}
  for i, each in ipairs(zone.servers) do shown[i] = each.text .. " " .. each.ns end
  t:equal(shown, {server.address .. " ns1.example.test",
    ("[::1]:%d ns1.example.test"):format(server.port)})
  zone = dns.authoritative{name = "www.example.test", servers = server.address,
    authority_port = server.port, families = {6}}
  t:equal(#zone.servers, 1)
  server:set("example.test", "NS", {"ns1.example.test", "lost.example.test"})
  zone = dns.authoritative{name = "www.example.test", servers = server.address,
    authority_port = server.port}
  t:equal(zone.unresolved, {"lost.example.test"})
end)

test("a survey shows which server lags, lies or is dead", {clock = "virtual"}, function(t)
  local first = two_families(t)
  local second = start(t, {host = "127.0.0.2", port = first.port,
    zones = {["example.test"] = {}}})
  first:set("example.test", "NS", {"ns1.example.test", "ns2.example.test"})
  first:set("ns2.example.test", "A", "127.0.0.2")
  first:set("v.example.test", "TXT", {"new", "old"})
  second:set("v.example.test", "TXT", "old")
  local function survey()
    return dns.survey{name = "v.example.test", type = "TXT", servers = first.address,
      authority_port = first.port}
  end
  local seen = survey()
  t:equal({seen.agree, #seen.rows}, {false, 3})
  t:equal(seen.rows[1].values, {"new", "old"})
  t:equal(seen.rows[3].values, {"old"})
  second:set("v.example.test", "TXT", {"old", "new"})
  t:equal(survey().agree, true)
  second:fault{kind = "drop"}
  t:equal(survey().rows[3].error, "no answer within 2 s")
  second:heal()
  second:fault{kind = "lame"}
  t:equal(survey().rows[3].code, "LAME")
end)

--- root → test → example.test on four addresses of one port.
local function internet(t)
  local root = start(t, {host = "127.0.0.1", zones = {["."] = {ns = {"root.test"}}}})
  local port = root.port
  local tld = start(t, {host = "127.0.0.2", port = port,
    zones = {test = {ns = {"ns.test"}}}})
  local one = start(t, {host = "127.0.0.3", port = port,
    zones = {["example.test"] = {ns = {"ns1.example.test", "ns2.example.test"}}}})
  local two = start(t, {host = "127.0.0.4", port = port,
    zones = {["example.test"] = {ns = {"ns1.example.test", "ns2.example.test"}}}})
  root:set("test", "NS", "ns.test")
  root:set("ns.test", "A", "127.0.0.2")
  tld:set("example.test", "NS", {"ns1.example.test", "ns2.example.test"})
  tld:set("ns1.example.test", "A", "127.0.0.3")
  tld:set("ns2.example.test", "A", "127.0.0.4")
  for _, each in ipairs{one, two} do
    each:set("ns1.example.test", "A", "127.0.0.3")
    each:set("ns2.example.test", "A", "127.0.0.4")
    each:set("www.example.test", "A", "192.0.2.80")
  end
  return {root = root, tld = tld, one = one, two = two, port = port}
end

local function walk(net, name, kind, more)
  local options = {name = name, type = kind, roots = "127.0.0.1", port = net.port}
  for key, value in pairs(more or {}) do options[key] = value end
  return dns.trace(options)
end

local function outcomes(found)
  local list = {}
  for i, step in ipairs(found.steps) do list[i] = step.zone .. " " .. step.outcome end
  return list
end

test("a walk goes from the root to the answer, a step a server", function(t)
  local net = internet(t)
  local found = walk(net, "www.example.test", "A")
  t:equal(outcomes(found), {". referral", "test referral", "example.test answer"})
  t:equal({found.outcome, found.records[1].address, found.zone},
    {"answer", "192.0.2.80", "example.test"})
  t:equal(found.steps[2].detail, "example.test is at ns1.example.test, ns2.example.test")
  t:equal(#walk(net, "www.example.test", "A", {all = true}).steps, 4)
  found = walk(net, "no.example.test", "A")
  t:equal({found.outcome, found.why},
    {"nxdomain", "the zone example.test says that no.example.test does not exist"})
  t:equal(walk(net, "www.example.test", "TXT").outcome, "nodata")
end)

test("dead and lame servers are steps, and the walk goes on beside them",
  {clock = "virtual"}, function(t)
    local net = internet(t)
    net.one:fault{kind = "drop"}
    local found = walk(net, "www.example.test", "A")
    t:equal(outcomes(found), {". referral", "test referral", "example.test error",
      "example.test answer"})
    t:equal(found.steps[3].detail, "no answer within 2 s")
    net.one:heal()
    net.one:fault{kind = "lame"}
    t:equal(walk(net, "www.example.test", "A").steps[3].outcome, "lame")
    net.two:fault{kind = "refused"}
    found = walk(net, "www.example.test", "A")
    t:equal({found.outcome, found.why}, {"broken",
      "it stops at example.test: none of its 2 server addresses answers for it"})
  end)

test("an alias is followed from the root again, a circle is named", function(t)
  local net = internet(t)
  net.one:set("a.example.test", "CNAME", "www.example.test")
  t:equal(walk(net, "a.example.test", "A").canonical, "www.example.test")
  net.one:set("a.example.test", "CNAME", "b.example.test")
  net.one:set("b.example.test", "CNAME", "a.example.test")
  local found = walk(net, "a.example.test", "A")
  t:equal(found.outcome, "broken")
  assert(found.why:find "circle")
end)

test("servers without glue are found by a walk of their own", function(t)
  local net = internet(t)
  net.tld:set("other.test", "NS", "ns1.example.test")
  net.one:zone("other.test", {ns = {"ns1.example.test"}})
  net.one:set("x.other.test", "TXT", "found")
  net.tld:remove("ns1.example.test")
  net.tld:set("ns1.example.test", "A", "127.0.0.3")
  local found = walk(net, "x.other.test", "TXT")
  t:equal({found.outcome, found.records[1].text}, {"answer", "found"})
  net.tld:set("lost.test", "NS", "ns.nowhere.test")
  found = walk(net, "x.lost.test", "A")
  t:equal(found.why,
    "it stops at lost.test: none of its servers (ns.nowhere.test) has an address")
end)

test("resolv.conf is read as resolv.conf(5) says", function(t)
  t:equal(servers.parse("# c\nnameserver 192.0.2.1\n search a.test\n"
    .. "nameserver fe80::1%lo\noptions ndots:2 timeout:3 attempts:4\n"),
    {hosts = {"192.0.2.1", "fe80::1%lo"}, timeout = 3, attempts = 4})
end)
