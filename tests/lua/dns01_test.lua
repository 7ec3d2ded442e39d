--- The solver for dns-01 over RFC 2136, on servers of this process.

local dcv = require "dcv"
local dns = require "dns"
local dns01 = require "dns01"
local dns_server = require "dns_server"
local driver = require "driver"
local fs = require "fs"
local task = require "task"
local time = require "time"

local SECRET = "c2VjcnVuIGRuczAxIHRlc3Qgc2VjcmV0"
local key = dns.key{name = "update.test", secret = SECRET}

--- An authorization and its challenge, as far as solvers look at them.
local function authorization(name, wildcard)
  return {identifier = {type = "dns", value = name}, wildcard = wildcard,
    name = function() return (wildcard and "*." or "") .. name end}
end

local function challenge(text) return {type = "dns-01", key_authorization = text} end

--- ns1 (primary) and ns2 of example.test, ns1 also of other.test.
local function zone_pair(t)
  local both = {ns = {"ns1.example.test", "ns2.example.test"}, keys = {key}}
  local first = dns_server.start{zones = {["example.test"] = both,
    ["other.test"] = {ns = {"ns1.example.test"}, keys = {key}}}}
  t:defer(function() first:close() end)
  local second = dns_server.start{host = "127.0.0.2", port = first.port,
    zones = {["example.test"] = both}}
  t:defer(function() second:close() end)
  for _, each in ipairs{first, second} do
    each:set("ns1.example.test", "A", "127.0.0.1")
    each:set("ns2.example.test", "A", "127.0.0.2")
  end
  return first, second
end

local function solver_of(first, more, rfc2136)
  local settings = {driver = "rfc2136", server = first.address, key = key}
  for name, value in pairs(rfc2136 or {}) do settings[name] = value end
  local options = {dns = settings, servers = first.address, port = first.port,
    families = {4}}
  for name, value in pairs(more or {}) do options[name] = value end
  return dcv.solver(options)
end

--- A secondary that is up to date after so many seconds.
local function follow(group, first, second, name, after)
  group:spawn(function()
    task.sleep(after)
    second:set(name, "TXT", first:values(name, "TXT"))
  end)
end

local NAME = "_acme-challenge.example.test"

test("the value is that of RFC 8555 8.4", function(t)
  t:equal(dns01.value "token.thumbprint", require "encoding".base64url_encode(
    require "digest".sha256 "token.thumbprint"))
  t:equal(#dns01.value "x", 43)
end)

test("apex and wildcard stand at one name and are removed one by one", function(t)
  local first, second = zone_pair(t)
  local solver = solver_of(first)
  first:set(NAME, "TXT", "somebody else's")
  local apex, wild = authorization "example.test", authorization("example.test", true)
  solver:present(apex, challenge "a", "a")
  solver:present(wild, challenge "b", "b")
  t:equal(first:values(NAME, "TXT"),
    {"somebody else's", dns01.value "a", dns01.value "b"})
  second:set(NAME, "TXT", first:values(NAME, "TXT"))
  t:equal(#solver:wait(), 2)
  solver:cleanup(apex, challenge "a")
  t:equal(first:values(NAME, "TXT"), {"somebody else's", dns01.value "b"})
  solver:cleanup(wild, challenge "b")
  t:equal(first:values(NAME, "TXT"), {"somebody else's"})
end)

test("what a killed run left behind is taken away by the next", function(t)
  local first = zone_pair(t)
  first:set(NAME, "TXT", {dns01.value "old", "kept"})
  solver_of(first):cleanup(authorization "example.test", challenge "old")
  t:equal(first:values(NAME, "TXT"), {"kept"})
end)

test("a delegated challenge is followed to where it leads", function(t)
  local first = zone_pair(t)
  first:set("_acme-challenge.www.example.test", "CNAME", "abc.other.test")
  local solver = solver_of(first)
  local www = authorization "www.example.test"
  solver:present(www, challenge "a", "a")
  t:equal(first:values("abc.other.test", "TXT"), {dns01.value "a"})
  solver:wait()
  solver:cleanup(www, challenge "a")
  t:equal(first:values("abc.other.test", "TXT"), {})
  first:set("abc.other.test", "CNAME", "_acme-challenge.www.example.test")
  t:raises(function() solver:present(www, challenge "b", "b") end, "dns",
    "dns%-01 for www.example.test: .*circle")
end)

test("a challenge name that is a zone of its own is found", function(t)
  local first, second = zone_pair(t)
  first:set(NAME, "NS", "ns1.example.test")
  second:set(NAME, "NS", "ns1.example.test")
  first:zone(NAME, {ns = {"ns1.example.test"}, keys = {key}})
  local apex = authorization "example.test"
  -- asked of a server that has both zones, then of one that refers to the other
  for i, parent in ipairs{"ns1.example.test", "ns2.example.test"} do
    first:set("example.test", "NS", parent)
    local solver = solver_of(first)
    solver:present(apex, challenge(tostring(i)), tostring(i))
    t:equal(first.zones[NAME].nodes[NAME].TXT.values, {dns01.value(tostring(i))})
    solver:wait()
    solver:cleanup(apex, challenge(tostring(i)))
  end
end)

test("the name is not asked of recursive servers before it exists", function(t)
  local first = zone_pair(t)
  local resolver = dns_server.start{zones = {["example.test"] =
    {ns = {"ns1.example.test", "ns2.example.test"}}}}
  t:defer(function() resolver:close() end)
  resolver:set("ns1.example.test", "A", "127.0.0.1")
  resolver:set("ns2.example.test", "A", "127.0.0.2")
  local solver = solver_of(first, {servers = resolver.address})
  solver:present(authorization "example.test", challenge "a", "a")
  for _, entry in ipairs(resolver.log) do assert(entry.name ~= NAME, entry.type) end
end)

test("a server that lags is waited for", {clock = "virtual"}, function(t)
  local first, second = zone_pair(t)
  local solver = solver_of(first)
  solver:present(authorization "example.test", challenge "a", "a")
  local started = time.mono()
  local group <close> = task.group()
  follow(group, first, second, NAME, 40)
  local states = solver:wait()
  local took = time.mono() - started
  assert(took >= 40 and took < 60, took)
  t:equal({states[1][1].state, states[1][2].state}, {"has", "has"})
end)

test("the report says which server still says what", {clock = "virtual"}, function(t)
  local first, second = zone_pair(t)
  second:set(NAME, "TXT", "last week's")
  local solver = solver_of(first, {wait = "1m"})
  solver:present(authorization "example.test", challenge "a", "a")
  local err = t:raises(function() solver:wait() end, "dns",
    'after 1m it is not everywhere: ns2.example.test still says '
    .. '%(127.0.0.2:%d+: "last week\'s"%)')
  t:equal({err.code, err.retryable, err.states[2].state}, {"PROPAGATION", true, "lags"})
  second:remove(NAME)
  t:raises(function() solver:wait() end, "dns", "the name does not exist")
end)

test("one dead server is tolerated, two are not", {clock = "virtual"}, function(t)
  local first, second = zone_pair(t)
  second:fault{kind = "drop", name = NAME}
  local solver = solver_of(first)
  solver:present(authorization "example.test", challenge "a", "a")
  t:equal(solver:wait()[1][2].state, "dead")
  solver = solver_of(first, {tolerate = 0, wait = "30s"})
  solver:present(authorization "example.test", challenge "b", "b")
  t:raises(function() solver:wait() end, "dns", "ns2.example.test does not answer")
end)

test("a name that not even one server has is never good enough", {clock = "virtual"},
  function(t)
    local first, second = zone_pair(t)
    local solver = solver_of(first, {wait = "30s", tolerate = 2})
    solver:present(authorization "example.test", challenge "a", "a")
    first:fault{kind = "drop", name = NAME}
    second:fault{kind = "drop", name = NAME}
    t:raises(function() solver:wait() end, "dns", "does not answer")
  end)

test("a resolver's memory of the absence is waited for, not asked again and again",
  {clock = "virtual"}, function(t)
    local first, second = zone_pair(t)
    local resolver = dns_server.start{zones = {["example.test"] = {negative_ttl = 100}}}
    t:defer(function() resolver:close() end)
    local solver = solver_of(first, {resolvers = resolver.address})
    solver:present(authorization "example.test", challenge "a", "a")
    second:set(NAME, "TXT", dns01.value "a")
    local started = time.mono()
    local group <close> = task.group()
    group:spawn(function()
      task.sleep(50)
      resolver:set(NAME, "TXT", dns01.value "a")
    end)
    solver:wait()
    local took = time.mono() - started
    assert(took >= 100 and took < 110, took)
    t:equal(#resolver.log, 2)
  end)

test("split horizon: the servers named are watched instead of the zone's",
  {clock = "virtual"}, function(t)
    local first, second = zone_pair(t)
    second:fault{kind = "refused"}
    local outside = dns_server.start{zones = {["example.test"] = {}}}
    t:defer(function() outside:close() end)
    local solver = solver_of(first, {ask = outside.address, zone = "example.test"})
    solver:present(authorization "example.test", challenge "a", "a")
    t:equal(first:values(NAME, "TXT"), {dns01.value "a"})
    local group <close> = task.group()
    follow(group, first, outside, NAME, 20)
    t:equal(solver:wait()[1][1].server, outside.address)
  end)

test("changes to one zone come one after the other, zones at once", {clock = "virtual"},
  function(t)
    local first = zone_pair(t)
    first:fault{kind = "slow", delay = "1s", opcode = "UPDATE"}
    local solver, started = solver_of(first), time.mono()
    local names = {"a.example.test", "b.example.test", "c.other.test", "d.other.test"}
    local _, failed = task.each(names, {}, function(name)
      solver:present(authorization(name), challenge(name), name)
    end)
    t:equal(#failed, 0)
    local took = time.mono() - started
    assert(took >= 2 and took < 2.5, took)
  end)

test("a change that is refused names domain, server and what to do", function(t)
  local first = zone_pair(t)
  local www = authorization "www.example.test"
  local cases = {
    {{key = dns.key{name = "other.test", secret = SECRET}}, "auth", "BADKEY",
      "dns%-01 for www.example.test: .*does not know a TSIG key other.test"},
    {{key = dns.key{name = "update.test", secret = "AAAA"}}, "auth", "BADSIG",
      "the secret differs"},
    {{key = dns.key{name = "update.test", secret = SECRET, algorithm = "hmac-sha512"}},
      "auth", "BADKEY", "hmac%-sha512"},
  }
  for _, case in ipairs(cases) do
    local solver = solver_of(first, nil, case[1])
    local err = t:raises(function() solver:present(www, challenge "a", "a") end, case[2],
      case[4])
    t:equal(err.code, case[3])
  end
  first:fault{kind = "tsig", error = "BADTIME", times = 1}
  local err = t:raises(function()
    solver_of(first):present(www, challenge "a", "a")
  end, "auth", "clock")
  t:equal(err.code, "BADTIME")
  first:fault{kind = "refused", opcode = "UPDATE", times = 1}
  t:raises(function() solver_of(first):present(www, challenge "a", "a") end, "denied",
    "may not change these records")
  t:equal(first:values("_acme-challenge.www.example.test", "TXT"), {})
end)

test("a zone that nobody serves for us is an error before any change", function(t)
  local first = zone_pair(t)
  t:raises(function()
    solver_of(first):present(authorization "www.elsewhere.test", challenge "a", "a")
  end, "dns", "REFUSED")
end)

test("a provider that only writes whole record sets keeps what others wrote", function(t)
  local first, second = zone_pair(t)
  local provider = {}
  function provider:values(record) return first:values(record.name, "TXT") end
  function provider:replace(record)
    for _, each in ipairs{first, second} do
      each:set(record.name, "TXT", record.values, record.ttl)
    end
  end
  first:set(NAME, "TXT", "kept")
  local solver = solver_of(first, {dns = provider})
  solver:present(authorization "example.test", challenge "a", "a")
  t:equal(first:values(NAME, "TXT"), {"kept", dns01.value "a"})
  solver:wait()
  solver:cleanup(authorization "example.test", challenge "a")
  t:equal(first:values(NAME, "TXT"), {"kept"})
end)

test("any program can be the driver; its failure is shown, no shell is in between",
  function(t)
    local first, folder = zone_pair(t), t:tmpdir()
    local hook = folder .. "/hook"
    fs.write(hook, '#!/bin/sh\n[ "$2" = other.test ] && { echo "no such zone" >&2; '
      .. 'exit 3; }\necho "$TOKEN $@" >>"' .. folder .. '/calls"\n', {mode = "0755"})
    fs.write(folder .. "/token", "t0ken-of-the-api", {mode = "0600"})
    local solver = solver_of(first, {dns = {driver = "exec", command = {hook},
      env = {TOKEN = secret("file:" .. folder .. "/token")}}})
    local one, value = authorization "example.test", dns01.value "a"
    solver:present(one, challenge "a", "a")
    solver:cleanup(one, challenge "a")
    t:equal(fs.read(folder .. "/calls"),
      ("t0ken-of-the-api add example.test %s %s 60\n"):format(NAME, value)
        .. ("t0ken-of-the-api remove example.test %s %s\n"):format(NAME, value))
    t:raises(function()
      solver:present(authorization "other.test", challenge "a", "a")
    end, nil, "dns%-01 for other.test: .*no such zone")
    t:raises(function() dcv.solver{dns = {driver = "exec", command = {"hook"}}} end,
      "usage", "absolute path")
  end)

test("drivers are found by name, and wrong ones are explained", function(t)
  assert(driver.load("dns", "rfc2136").description)
  t:raises(function() driver.load("dns", "rfc2163") end, "usage",
    "did you mean rfc2136%?")
  t:raises(function() dcv.solver{dns = {driver = "rfc2136"}} end, "usage", "server")
  t:raises(function() dcv.solver{dns = {driver = "rfc2136", sever = "x"}} end, "usage",
    "did you mean server%?")
  t:raises(function() dcv.solver{dns = {}} end, "usage", "driver")
  local folder = t:tmpdir()
  fs.write(folder .. "/mine.lua", "return {description = 'x', options = {}}")
  t:raises(function() driver.load("dns", folder .. "/mine.lua") end, "usage",
    "new, a function, is missing")
end)

test("keys come from the files of BIND and of Knot, and stay inside", function(t)
  local folder = t:tmpdir()
  fs.write(folder .. "/bind.key", 'key "update.test" {\n\talgorithm hmac-sha384;\n'
    .. '\tsecret "' .. SECRET .. '";\n};\n')
  local read = dns.key{file = folder .. "/bind.key"}
  t:equal({read.name, read.algorithm}, {"update.test", "hmac-sha384"})
  fs.write(folder .. "/knot.key", "hmac-sha256:update.test:" .. SECRET .. "\n")
  t:equal(tostring(dns.key{file = folder .. "/knot.key"}),
    "dns.key (update.test, hmac-sha256)")
  fs.write(folder .. "/none.key", "hello")
  t:raises(function() dns.key{file = folder .. "/none.key"} end, "usage", "key file")
end)

test("a hundred names in ten zones at once", {timeout = "60s"}, function(t)
  local first, second = zone_pair(t)
  local names = {}
  for z = 1, 10 do
    first:zone(("z%d.test"):format(z), {ns = {"ns1.example.test"}, keys = {key}})
    for i = 1, 10 do names[#names + 1] = ("h%d.z%d.test"):format(i, z) end
  end
  second:close()
  local solver = solver_of(first, {tolerate = 1})
  local _, failed = task.each(names, {limit = 50}, function(name)
    local one = {authorization = authorization(name), challenge = challenge(name)}
    solver:present(one.authorization, one.challenge, name)
    solver:wait{one}
    solver:cleanup(one.authorization, one.challenge)
  end)
  t:equal(failed[1], nil)
  t:equal(#failed, 0)
  for _, name in ipairs(names) do
    t:equal(first:values("_acme-challenge." .. name, "TXT"), {})
  end
end)
