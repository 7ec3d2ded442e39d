--- `secrun dns`: what people see when all is well, and when they or servers err.

local dns_server = require "dns_server"
local json = require "json"
local program = require "program"
local stream = require "stream"

local function serve(t)
  local server = dns_server.start{zones = {["example.test"] = {}, ["."] = {}}}
  t:defer(function() server:close() end)
  server:set("ns1.example.test", "A", "127.0.0.1")
  server:set("www.example.test", "CNAME", "web.example.test", 60)
  server:set("web.example.test", "A", "192.0.2.80", 300)
  server:set("t.example.test", "TXT", "red \27[31m text")
  server:set("80.2.0.192.in-addr.arpa", "PTR", "web.example.test")
  return server
end

local function run(t, status, ...)
  local result = program.run{"dns", ...}
  local text = result.stdout .. result.stderr
  if result.status ~= status then
    error(("status %s, want %d\n%s"):format(tostring(result.status), status, text), 2)
  end
  t:equal(text:find("traceback", 1, true), nil, text)
  return text
end

local function shows(t, text, ...)
  for _, wanted in ipairs{...} do
    if not text:find(wanted, 1, true) then
      error(("no %q in\n%s"):format(wanted, text), 2)
    end
  end
  t:equal(text:find "\27", nil)
end

test("a question shows aliases, records, who answered and how", function(t)
  local server = serve(t)
  shows(t, run(t, 0, "query", "www.example.test", "@" .. server.address),
    "www.example.test  60   CNAME  web.example.test",
    "web.example.test  300  A      192.0.2.80", "NOERROR from " .. server.address,
    "over UDP", "flags aa rd")
  shows(t, run(t, 0, "query", "www.example.test", "--tcp", "@" .. server.address),
    "over TCP")
  shows(t, run(t, 0, "query", "t.example.test", "txt", "@" .. server.address),
    "red \\027[31m text")
  shows(t, run(t, 0, "query", "192.0.2.80", "@" .. server.address), "PTR",
    "web.example.test")
end)

test("an absence is status 1 and says for how long it is remembered", function(t)
  local server = serve(t)
  shows(t, run(t, 1, "query", "no.example.test", "@" .. server.address),
    "no.example.test does not exist",
    "the zone example.test lets that be remembered for 60 s")
  shows(t, run(t, 1, "query", "web.example.test", "MX", "@" .. server.address),
    "web.example.test has no MX record")
end)

test("JSON is for programs", function(t)
  local server = serve(t)
  local answer = json.decode(run(t, 0, "query", "web.example.test", "--json",
    "@" .. server.address))
  t:equal({answer.records[1].address, answer.rcode, #answer.tries},
    {"192.0.2.80", "NOERROR", 0})
  local walk = json.decode(run(t, 0, "trace", "web.example.test", "--json",
    "@" .. server.address, "--port", tostring(server.port)))
  t:equal(walk.outcome, "answer")
end)

test("a survey and a walk are tables, and end in a sentence", function(t)
  local server = serve(t)
  local port = tostring(server.port)
  shows(t, run(t, 0, "survey", "web.example.test", "@127.0.0.1", "--port", port),
    "the zone is example.test, serial", "ns1.example.test", "192.0.2.80", "all agree")
  shows(t, run(t, 0, "trace", "web.example.test", "@127.0.0.1", "--port", port),
    "answer", "answered")
  shows(t, run(t, 1, "trace", "no.example.test", "@127.0.0.1", "--port", port),
    "nxdomain", "says that no.example.test does not exist")
end)

test("what is typed wrong is status 2, and said without a trace", function(t)
  local socket = stream.udp()
  local dead = "@127.0.0.1:" .. socket.port
  socket:close()
  shows(t, run(t, 2, "qery", "a.test"), "did you mean query?")
  shows(t, run(t, 2, "query"), "which name?")
  shows(t, run(t, 2, "query", "TXT", "a.test"), "the name comes first: a.test TXT")
  shows(t, run(t, 2, "query", "a.test", "TXTT", dead), "did you mean TXT?")
  shows(t, run(t, 2, "query", "bücher.test", dead), "xn--")
  shows(t, run(t, 2, "query", "a.test", "@1.2.3.4:x"), "no DNS server")
  shows(t, run(t, 2, "query", "a.test", "--tpc", dead), "did you mean --tcp?")
  shows(t, run(t, 1, "query", "a.test", dead), "connection refused; nothing listens")
end)
