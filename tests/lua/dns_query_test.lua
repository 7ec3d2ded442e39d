--- Questions to servers that answer, dawdle, lie and are not there.

local dns = require "dns"
local dns_server = require "dns_server"
local stream = require "stream"
local task = require "task"
local time = require "time"

local NAME = "www.example.test"

--- A server for example.test with one address record.
local function serve(t, options)
  options = options or {}
  options.zones = options.zones or {["example.test"] = {}}
  local server = dns_server.start(options)
  t:defer(function() server:close() end)
  if server.zones["example.test"] then server:set(NAME, "A", "192.0.2.1", 60) end
  return server
end

local function ask(server, name, kind, more)
  local options = {name = name, type = kind, servers = server.address}
  for key, value in pairs(more or {}) do options[key] = value end
  return dns.query(options)
end

test("an answer tells values, TTL, server, flags and time", function(t)
  local server = serve(t)
  local answer = ask(server, "WWW.Example.TEST.", "a")
  t:equal(answer:values(), {"192.0.2.1"})
  t:equal(answer.ttl, 60)
  t:equal(answer.server, server.address)
  t:equal(answer.transport, "udp")
  t:equal(answer.flags.aa, true)
  t:equal(answer.rcode, "NOERROR")
  t:equal(answer.records[1].name, NAME)
  assert(answer.ms >= 0)
end)

test("every type that DNS for certificates needs comes back in parts", function(t)
  local server = serve(t)
  local given = {
    {"A", "192.0.2.7", "address", "192.0.2.7"},
    {"AAAA", "2001:DB8::7", "address", "2001:db8::7"},
    {"MX", "10 Mail.example.test.", "exchange", "mail.example.test"},
    {"CAA", '0 issue "ca.example"', "content", "ca.example"},
    {"PTR", "host.example.test", "target", "host.example.test"},
    {"TXT", "v=1; a b", "text", "v=1; a b"},
  }
  for _, case in ipairs(given) do
    server:set("x.example.test", case[1], case[2])
    t:equal(ask(server, "x.example.test", case[1]).records[1][case[3]], case[4], case[1])
  end
  t:equal(ask(server, "example.test", "NS").records[1].target, "ns1.example.test")
  t:equal(ask(server, "example.test", "SOA").records[1].mname, "ns1.example.test")
end)

test("a type may be given by number", function(t)
  local server = serve(t)
  server:set("example.test", "CAA", '0 issue "ca.example"')
  t:equal(ask(server, "example.test", "type257").records[1].tag, "issue")
  server:set("example.test", "TYPE65280", "\\# 2 abcd")
  t:equal(ask(server, "example.test", "TYPE65280"):values(), {"\\# 2 abcd"})
end)

test("an absent name and an absent type are two things", function(t)
  local server = serve(t, {zones = {["example.test"] = {negative_ttl = 17}}})
  local answer = ask(server, "no.example.test", "A")
  t:equal({answer.exists, answer.rcode, #answer.records, answer.negative_ttl},
    {false, "NXDOMAIN", 0, 17})
  answer = ask(server, NAME, "TXT")
  t:equal({answer.exists, answer.rcode, #answer.records, answer.negative_ttl},
    {true, "NOERROR", 0, 17})
  t:equal(answer.soa.name, "example.test")
end)

test("a name with only names below it exists, wildcards cover what does not", function(t)
  local server = serve(t)
  server:set("a.b.c.example.test", "TXT", "deep")
  server:set("*.c.example.test", "TXT", "wild")
  t:equal(ask(server, "b.c.example.test", "TXT").exists, true)
  t:equal(ask(server, "b.c.example.test", "TXT"):values(), {})
  t:equal(ask(server, "z.c.example.test", "TXT"):values(), {"wild"})
  t:equal(ask(server, "y.z.c.example.test", "TXT"):values(), {"wild"})
  t:equal(ask(server, "z.b.c.example.test", "TXT").exists, false)
  server:remove("a.b.c.example.test")
  t:equal(ask(server, "z.b.c.example.test", "TXT"):values(), {"wild"})
end)

test("text of any length is split on the wire and joined again", function(t)
  local server = serve(t)
  for _, length in ipairs{1, 255, 256, 700} do
    server:set("t.example.test", "TXT", ("x"):rep(length))
    t:equal(#ask(server, "t.example.test", "TXT"):values()[1], length)
  end
end)

test("aliases are followed through a chain, across zones, and through DNAME", function(t)
  local server = serve(t, {zones = {["example.test"] = {}, ["other.test"] = {}}})
  server:set("a.example.test", "CNAME", "b.example.test", 30)
  server:set("b.example.test", "CNAME", "c.other.test", 20)
  server:set("c.other.test", "A", "192.0.2.3", 40)
  local answer = ask(server, "a.example.test", "A")
  t:equal(answer:values(), {"192.0.2.3"})
  t:equal(answer.canonical, "c.other.test")
  t:equal(#answer.aliases, 2)
  t:equal(answer.ttl, 20)
  server:set("old.example.test", "DNAME", "other.test")
  answer = ask(server, "c.old.example.test", "A")
  t:equal(answer:values(), {"192.0.2.3"})
  t:equal(answer.aliases[1].type, "DNAME")
end)

test("an alias the server does not follow is asked for", function(t)
  local second = serve(t, {zones = {["other.test"] = {}}})
  local server = serve(t, {zones = {["example.test"] = {}}})
  second:set("c.other.test", "TXT", "there")
  server:set("a.example.test", "CNAME", "c.other.test")
  local answer = dns.query{name = "a.example.test", type = "TXT",
    servers = {server.address, second.address}}
  t:equal(answer:values(), {"there"})
  t:equal(answer.server, second.address)
  t:equal(#dns.query{name = "a.example.test", type = "CNAME",
    servers = server.address}.records, 1)
end)

test("aliases in a circle are an error that shows it", function(t)
  local server = serve(t)
  server:set("a.example.test", "CNAME", "b.example.test")
  server:set("b.example.test", "CNAME", "a.example.test")
  local err = t:raises(function() ask(server, "a.example.test", "A") end, "dns",
    "a.example.test → b.example.test → a.example.test")
  t:equal(err.code, "ALIAS_LOOP")
end)

test("a truncated answer is asked for over TCP", function(t)
  local server = serve(t)
  server:set("big.example.test", "TXT", ("x"):rep(3000))
  local answer = ask(server, "big.example.test", "TXT")
  t:equal({#answer:values()[1], answer.transport, answer.truncated}, {3000, "tcp", true})
  answer = ask(server, "big.example.test", "TXT", {transport = "udp"})
  t:equal({#answer.records, answer.flags.tc}, {0, true})
  answer = ask(server, "big.example.test", "TXT", {udp_size = 4096})
  t:equal({#answer:values()[1], answer.transport}, {3000, "udp"})
end)

test("an answer that does not fit the question makes us ask over TCP", function(t)
  for _, kind in ipairs{"wrong_id", "wrong_question", "garbage"} do
    local server = serve(t)
    server:fault{kind = kind, transport = "udp"}
    local answer = ask(server, NAME, "A")
    t:equal({answer.transport, answer:values()[1]}, {"tcp", "192.0.2.1"}, kind)
    t:equal(answer.tries[1].code, "DOUBT")
  end
end)

test("a server that lies over TCP too is not believed", function(t)
  local server = serve(t)
  server:fault{kind = "wrong_id"}
  local err = t:raises(function() ask(server, NAME, "A") end, "dns", "not the answer")
  t:equal(err.code, "NOT_THE_ANSWER")
end)

test("a server without EDNS is asked without", function(t)
  local server = serve(t)
  server:fault{kind = "no_edns"}
  t:equal(ask(server, NAME, "A"):values(), {"192.0.2.1"})
  t:equal({server.log[1].edns, server.log[2].edns}, {1232, nil})
end)

test("a lost datagram is asked again from another port", {clock = "virtual"}, function(t)
  local server = serve(t)
  server:fault{kind = "drop", times = 1}
  local started = time.mono()
  local answer = ask(server, NAME, "A")
  t:equal(answer:values(), {"192.0.2.1"})
  assert(time.mono() - started >= 2)
  t:equal(answer.tries[1].code, "TIMEOUT")
  assert(server.log[1].from ~= server.log[2].from)
end)

test("a silent server costs its time, and the next one answers", {clock = "virtual"},
  function(t)
    local dead, server = serve(t), serve(t)
    dead:fault{kind = "drop"}
    local answer = dns.query{name = NAME, servers = {dead.address, server.address}}
    t:equal(answer.server, server.address)
    t:equal(#dead.log, 1)
  end)

test("a failing server is asked again, one that refuses is not", function(t)
  local server = serve(t)
  server:fault{kind = "servfail", times = 1}
  t:equal(ask(server, NAME, "A"):values(), {"192.0.2.1"})
  server.log = {}
  local err = t:raises(function() ask(server, "a.elsewhere.test", "A") end, "dns",
    "REFUSED")
  t:equal({err.code, err.retryable, #server.log}, {"REFUSED", false, 1})
end)

test("nobody answers: the error says who did what", {clock = "virtual"}, function(t)
  local silent, failing = serve(t), serve(t)
  silent:fault{kind = "drop"}
  failing:fault{kind = "servfail"}
  local err = t:raises(function()
    dns.query{name = NAME, servers = {silent.address, failing.address}}
  end, "dns", "no answer within 2 s %(2 times%); 127.0.0.1:%d+: SERVFAIL %(2 times%)")
  t:equal({err.retryable, #err.tries}, {true, 4})
end)

test("the time-out is for all tries together", {clock = "virtual"}, function(t)
  local server = serve(t)
  server:fault{kind = "drop"}
  local started = time.mono()
  t:raises(function() ask(server, NAME, "A", {timeout = "3s", tries = 9}) end, "dns")
  local took = time.mono() - started
  assert(took >= 3 and took < 3.1, took)
end)

test("an enclosing deadline ends the search", {clock = "virtual"}, function(t)
  local server = serve(t)
  server:fault{kind = "drop"}
  local started = time.mono()
  t:raises(function()
    task.timeout("1s", function() ask(server, NAME, "A", {tries = 9}) end)
  end, "timeout")
  assert(time.mono() - started < 1.1)
end)

test("a port where nothing listens is refused at once", function(t)
  local socket = stream.udp()
  local address = "127.0.0.1:" .. socket.port
  socket:close()
  local err = t:raises(function() dns.query{name = NAME, servers = address} end, "dns",
    "connection refused; nothing listens there")
  t:equal(err.code, "ECONNREFUSED")
end)

test("IPv6 servers are asked as IPv4 ones", function(t)
  local server = serve(t, {hosts = {"::1"}})
  t:equal(server.address, "[::1]:" .. server.port)
  t:equal(ask(server, NAME, "A"):values(), {"192.0.2.1"})
  t:equal(ask(server, NAME, "A", {transport = "tcp"}):values(), {"192.0.2.1"})
  t:equal(dns.query{name = NAME, servers = "::1", port = server.port}.server,
    server.address)
end)

test("names people get wrong are explained before anything is sent", function(t)
  local server = serve(t)
  for name, pattern in pairs{["bücher.test"] = "xn%-%-", ["a..test"] = "empty label",
    ["https://a.test/"] = "is a URL", ["a b.test"] = "space"} do
    t:raises(function() ask(server, name, "A") end, "usage", pattern)
  end
  t:raises(function() ask(server, NAME, "TXTT") end, "usage", "did you mean TXT%?")
  t:raises(function() dns.query{name = NAME, server = "x"} end, "usage", "servers")
  t:raises(function() dns.query{name = NAME, servers = "1.2.3.4:99999"} end, "usage",
    "no DNS server")
  t:equal(#server.log, 0)
end)

test("a dot inside a label does not put a name into a zone", function(t)
  t:equal(dns.within("a\\.example.test", "example.test"), false)
  t:equal(dns.within("a\\\\.example.test", "example.test"), true)
  t:equal(dns.within("aexample.test", "example.test"), false)
  t:equal(dns.parent "a\\.b.test", "test")
  t:equal({dns.parent "test", dns.parent "."}, {"."})
end)

test("a script that may not reach a server is told how it may", function(t)
  local server = serve(t)
  local result = require("program").run{"--allow-net=192.0.2.1", "dns", "query", NAME,
    "@" .. server.address}
  t:equal(result.status, 1)
  assert(result.stderr:find("--allow-net=" .. server.address, 1, true), result.stderr)
end)

test("many questions at once each get their own answer", function(t)
  local server = serve(t)
  local names = {}
  for i = 1, 300 do
    names[i] = ("n%d.example.test"):format(i)
    server:set(names[i], "TXT", "value " .. i)
  end
  local found = task.each(names, {limit = 100}, function(name)
    return ask(server, name, "TXT"):values()[1]
  end)
  for i = 1, 300 do t:equal(found[i], "value " .. i) end
end)

test("CAA records are those of the nearest name above that has any", function(t)
  local server = serve(t)
  server:set("example.test", "CAA", '0 issue "ca.example"')
  local found = dns.caa{name = "*.a.b.example.test", servers = server.address}
  t:equal({found.at, found.records[1].content}, {"example.test", "ca.example"})
  server:set("b.example.test", "CAA", '0 issue ";"')
  t:equal(dns.caa{name = "a.b.example.test", servers = server.address}.at,
    "b.example.test")
  server:fault{kind = "servfail", type = "CAA"}
  t:raises(function() dns.caa{name = NAME, servers = server.address} end, "dns",
    "SERVFAIL")
end)
