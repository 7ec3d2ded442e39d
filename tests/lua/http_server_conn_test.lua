-- The connections of the HTTP server: how long, how many, how they begin and end.

local caller = require "http_caller"
local certs = require "stream_certs"
local eventually = require "eventually"
local fs = require "fs"
local http_server = require "http_server"
local task = require "task"
local time = require "time"

local connect = caller.connect
local echo = caller.echo
local get = caller.get
local request = caller.request
local response = caller.response
local serve = caller.serve
local status_of = caller.status_of

-- ------------------------------------------------------------------ its time and number

test("a request that comes too slowly gets a 408, in head and body", function(t)
  local server = serve(t, {timeout = "150ms", handler = echo})
  t:equal(status_of(server, "GET / HT"), 408)
  t:equal(status_of(server, "GET / HTTP/1.1\r\nHo"), 408)
  t:equal(status_of(server, request("POST", "/", nil, "abc"):sub(1, -2)), 408)
end)

test("a client that drips its header does not hold the connection", function(t)
  local server = serve(t, {timeout = "200ms", handler = echo})
  local conn <close> = connect(server)
  local before = time.mono()
  pcall(function()
    conn:write("GET / HTTP/1.1\r\nX: ")
    while time.mono() - before < 2 do
      conn:write("a")
      task.sleep(0.02)
    end
  end)
  assert(time.mono() - before < 1.5)
end)

test("silence between requests closes the connection", function(t)
  local server = serve(t, {idle_timeout = "100ms", handler = echo})
  local conn <close> = connect(server)
  t:equal(conn:read("all"), "", "never a byte")
  local other <close> = connect(server)
  other:write(request("GET", "/"))
  t:equal(response(other).status, 200)
  t:equal(other:read("all"), "", "after a request")
end)

test("time-outs follow the virtual clock", {clock = "virtual"}, function(t)
  local server = serve(t, {timeout = "1h", idle_timeout = "2h", handler = function(req)
    if req.path == "/sleep" then task.sleep("3h") end
    return "awake"
  end})
  local before = time.mono()
  t:equal(get(server, "/sleep").status, 503)
  t:equal(math.floor(time.mono() - before + 0.5), 3600)
  t:equal(status_of(server, "GET / HTTP/1.1\r\nHo"), 408)
  local conn <close> = connect(server)
  conn:write(request("GET", "/"))
  t:equal(response(conn).body, "awake")
  t:equal(conn:read("all", {timeout = "1d"}), "")
end)

test("the end of its time is a 503 wherever the clock stands", {clock = "virtual"},
  function(t)
    local server = serve(t, {timeout = "1h", idle_timeout = "2h", handler = function()
      task.sleep("3h")
    end})
    for i = 1, 40 do
      task.sleep(i * 0.1234567)
      t:equal(get(server, "/").status, 503, i)
    end
  end)

test("a handler that takes too long is a 503, its own time-out a 500", function(t)
  local function handler(req)
    if req.path == "/own" then task.timeout(0.01, task.sleep, 600) end
    task.sleep(600)
  end
  local r = get(serve(t, {timeout = "150ms", handler = handler}), "/")
  t:equal({r.status, r.headers["retry-after"]}, {503, "1"})
  t:equal(get(serve(t, {handler = handler}), "/own").status, 500)
end)

test("more requests than may wait get a 503 with Retry-After", function(t)
  local refused = 0
  local server = serve(t, {limit = 1, queue = 2, handler = function()
    eventually(function() return refused >= 2 end)
    return "ok"
  end})
  local results = task.each({1, 2, 3, 4, 5, 6}, {limit = 6}, function()
    local r = get(server, "/")
    if r.status == 503 then refused = refused + 1 end
    return r
  end)
  local count = {}
  for _, r in ipairs(results) do
    count[r.status] = (count[r.status] or 0) + 1
    if r.status == 503 then t:equal(r.headers["retry-after"], "1") end
  end
  t:equal(count[200] + count[503], 6)
  assert(count[503] >= 2 and count[200] >= 2, count[200])
end)

test("connections from one address can be bounded", function(t)
  local server = serve(t, {max_per_ip = 2, handler = echo})
  local a <close> = connect(server)
  local b <close> = connect(server)
  a:write(request("GET", "/"))
  t:equal(response(a).status, 200)
  t:equal(status_of(server, request("GET", "/")), 503)
  b:close()
  eventually(function() return server:stats().connections <= 1 end)
  t:equal(status_of(server, request("GET", "/")), 200)
end)

test("connections beyond the bound wait until others end", function(t)
  local server = serve(t, {max_connections = 2, handler = echo})
  local a, b = connect(server), connect(server)
  task.sleep(0.02)
  local group <close> = task.group{}
  local served = false
  group:spawn(function()
    t:equal(get(server, "/").status, 200)
    served = true
  end)
  task.sleep(0.05)
  assert(not served)
  a:close()
  group:close()
  b:close()
  assert(served)
end)

-- ------------------------------------------------------------------ surviving

test("clients that vanish at any stage leave nothing behind", function(t)
  local cancelled = 0
  local server = serve(t, {handler = function(req)
    if req.path == "/parts" then
      return {body = function()
        task.sleep(0.005)
        return ("x"):rep(5000)
      end}
    end
    local guard <close> = setmetatable({}, {__close = function()
      if task.cancelled() then cancelled = cancelled + 1 end
    end})
    task.sleep(600)
  end})
  local stages = {"", "G", "GET / HTTP/1.1\r\nHo",
    request("POST", "/", nil, "abc"):sub(1, -2), request("GET", "/"),
    request("GET", "/parts")}
  for _, wait in ipairs{0, 0.02} do
    for _, text in ipairs(stages) do
      local conn <close> = connect(server)
      if #text > 0 then conn:write(text) end
      if wait > 0 then task.sleep(wait) end
    end
  end
  eventually(function()
    local stats = server:stats()
    return cancelled >= 1 and stats.connections == 0 and stats.running == 0
  end)
  assert(cancelled >= 1, "a handler whose client went away is cancelled")
  t:equal(server:stats(), {connections = 0, running = 0})
end)

test("close lets requests in flight finish", function(t)
  local server = serve(t, {handler = function()
    task.sleep(0.1)
    return "done"
  end})
  local group <close> = task.group{}
  local answer
  group:spawn(function() answer = get(server, "/") end)
  local idle <close> = connect(server)
  eventually(function()
    local stats = server:stats()
    return answer or stats.running == 1 and stats.connections == 2
  end)
  server:close{grace = "60s"}
  group:close()
  t:equal({answer.status, answer.body, answer.headers.connection}, {200, "done", "close"})
  t:equal(idle:read("all"), "")
  t:raises(function() connect(server) end, "connect")
end)

test("close cancels what does not finish in its grace, and twice is fine", function(t)
  local ended = false
  local server = serve(t, {handler = function()
    local guard <close> = setmetatable({}, {__close = function() ended = true end})
    task.sleep(600)
  end})
  local conn <close> = connect(server)
  conn:write(request("GET", "/"))
  eventually(function() return server:stats().running == 1 end)
  local before = time.mono()
  server:close{grace = "50ms"}
  server:close()
  assert(ended and time.mono() - before < 60)
  local got
  pcall(function() got = conn:read("all") end)
  assert(got == nil or got == "" or got:find("^HTTP/1.1 50"))
end)

test("wait returns when somebody closes the server", function(t)
  local server = serve(t, {handler = echo})
  local group <close> = task.group{}
  group:spawn(function()
    task.sleep(0.02)
    server:close()
  end)
  server:wait()
end)

test("a handler that closes its own server is cancelled by that", function(t)
  local server
  server = serve(t, {handler = function() server:close{grace = "20ms"} end})
  pcall(get, server, "/")
  server:wait()
  t:equal(server:stats(), {connections = 0, running = 0})
end)

test("no descriptor is left when a server has closed", function(t)
  local function round(tls)
    local server = serve(t, {tls = tls, handler = function(req)
      if req.path == "/sleep" then task.sleep(5) end
      return ("x"):rep(100000)
    end})
    local clients = {}
    for i = 1, 8 do
      clients[i] = connect(server, tls and {ca = certs.ca, servername = "localhost"})
      local path = i % 4 == 0 and "/sleep" or "/"
      if i % 2 == 0 then clients[i]:write(request("GET", path)) end
      if i % 3 == 0 then clients[i]:close() end
    end
    server:close{grace = "10ms"}
    for _, conn in ipairs(clients) do conn:close() end
    eventually(function() return server:stats().connections == 0 end)
  end
  round(nil)
  round(certs.server)
  local before = #fs.list("/proc/self/fd")
  for _ = 1, 3 do
    round(nil)
    round(certs.server)
  end
  assert(eventually(function() return #fs.list("/proc/self/fd") <= before end))
end)

-- ------------------------------------------------------------------ where it listens

test("a unix socket serves, tells who asks, and its file goes at the end", function(t)
  local path = t:tmpdir() .. "/http.sock"
  local uid, listed
  local server = serve(t, {unix = path, mode = "0600", handler = function(req)
    uid, listed = req.peer.uid, req.peer.address
    return "local"
  end})
  t:equal(get(server, "/").body, "local")
  t:equal({math.type(uid), listed, server.port, server.url}, {"integer", "unix", 0})
  server:close()
  assert(not fs.stat(path))
end)

test("an address in use is a conflict that names the port", function(t)
  local server = serve(t, {handler = echo})
  t:raises(function()
    http_server.serve{listen = "127.0.0.1:" .. server.port}
  end, "conflict", tostring(server.port))
end)

test("options are checked before anything listens", function(t)
  local function refused(options, pattern)
    t:raises(function() http_server.serve(options) end, "usage", pattern)
  end
  local at = "127.0.0.1:0"
  refused({listen = at, hander = echo}, "handler")
  refused({}, "listen")
  refused({listen = "nowhere"}, "host:port")
  refused({listen = "127.0.0.1:99999"}, "host:port")
  refused({listen = at, mode = "rw", handler = echo}, "octal")
  refused({listen = at, routes = {["GET a"] = echo}}, "GET a")
  refused({listen = at, routes = {["GET /a"] = 1}}, "GET /a")
end)

-- ------------------------------------------------------------------ TLS

test("TLS serves, and the request knows about it", function(t)
  local seen
  local server = serve(t, {tls = certs.server, handler = function(req)
    seen = req
    return ("x"):rep(300000)
  end})
  local conn <close> = connect(server, {ca = certs.ca, servername = "localhost"})
  for _ = 1, 2 do
    conn:write(request("GET", "/"))
    t:equal(#response(conn).body, 300000)
  end
  t:equal({seen.tls.version, seen.tls.servername}, {"TLSv1.3", "localhost"})
  t:equal({seen.peer.address, seen.client_cert}, {"127.0.0.1"})
  assert(server.url:find("^https://127"))
end)

test("another certificate serves connections from then on", function(t)
  local server = serve(t, {tls = certs.server, handler = echo})
  local function serves(name)
    local conn <close> = connect(server, {ca = certs.ca, servername = name})
    conn:write(request("GET", "/"))
    return response(conn).status
  end
  t:equal(serves("localhost"), 200)
  server:set_tls(certs.www)
  t:equal(serves("www.example.test"), 200)
  t:raises(function() serves("localhost") end, "tls")
  local plain = serve(t, {handler = echo})
  t:raises(function() plain:set_tls(certs.www) end, "usage", "TLS")
end)

test("a required client certificate reaches the handler; without one there is no service",
  function(t)
    local seen
    local server = serve(t, {
      tls = {cert = certs.server.cert, key = certs.server.key, client_ca = certs.ca,
        require_client_cert = true},
      handler = function(req)
        seen = req.client_cert
        return "known"
      end,
    })
    local conn <close> = connect(server, {ca = certs.ca, servername = "localhost",
      cert = certs.www.cert, key = certs.www.key})
    conn:write(request("GET", "/"))
    t:equal(response(conn).body, "known")
    t:equal({seen.verified, seen.pem}, {true, certs.www.cert})
    assert(#seen.der > 100)
    t:raises(function()
      local other <close> = connect(server, {ca = certs.ca, servername = "localhost"})
      other:write(request("GET", "/"))
      assert(other:read("all") ~= "")
    end)
  end)

test("a plain request to a TLS port and TLS to a plain port fail cleanly", function(t)
  local secure = serve(t, {tls = certs.server, handler = echo})
  local plain = serve(t, {handler = echo})
  pcall(get, secure, "/")
  t:raises(function() connect(plain, {ca = certs.ca}) end, "tls")
  t:equal(get(plain, "/").status, 200)
end)

test("TLS clients that vanish leave nothing behind", function(t)
  local server = serve(t, {tls = certs.server, handler = function() task.sleep(600) end})
  for _, text in ipairs{"", "GET / HTTP/1.1\r\nHo", request("GET", "/")} do
    local conn <close> = connect(server, {ca = certs.ca, servername = "localhost"})
    if #text > 0 then conn:write(text) end
    task.sleep(0.02)
  end
  local half <close> = connect(server)
  half:write("\x16\x03\x01")
  half:close()
  eventually(function()
    local stats = server:stats()
    return stats.connections == 0 and stats.running == 0
  end)
  t:equal(server:stats(), {connections = 0, running = 0})
end)
