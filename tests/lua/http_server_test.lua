-- The HTTP server seen by raw clients: what it serves, what it refuses, what it survives.

local http_server = require "http_server"
local eventually = require "eventually"
local stream = require "stream"
local task = require "task"
local time = require "time"
local fs = require "fs"
local certs = require "stream_certs"

-- ------------------------------------------------------------------ helpers

local function serve(t, options)
  if not options.unix then options.listen = options.listen or "127.0.0.1:0" end
  local server = http_server.serve(options)
  t:defer(function() server:close{grace = 0.2} end)
  return server
end

local function connect(server, tls)
  local path = server.address:match("^unix:(.*)")
  if path then return stream.connect{unix = path} end
  return stream.connect{host = "127.0.0.1", port = server.port, tls = tls}
end

-- Read one response: status, headers by lower-case name, body.
local function response(conn, method)
  local line = conn:read("line", {timeout = "1d"})
  if not line then return nil end
  local r = {status = tonumber(line:match("^HTTP/1%.1 (%d%d%d) ")), headers = {}}
  for header in function() return conn:read("line") end do
    if header == "" then break end
    local name, value = header:match("^([^:]+): *(.*)$")
    r.headers[name:lower()] = value
  end
  if method == "HEAD" or r.status == 204 then return r end
  if r.headers["content-length"] then
    local length = tonumber(r.headers["content-length"])
    r.body = length > 0 and conn:read(length) or ""
  elseif r.headers["transfer-encoding"] == "chunked" then
    local parts = {}
    while true do
      local size = tonumber(conn:read("line"), 16)
      if size > 0 then parts[#parts + 1] = conn:read(size) end
      conn:read("line")
      if size == 0 then break end
    end
    r.body = table.concat(parts)
  else
    r.body = conn:read("all")
  end
  return r
end

local function request(method, path, headers, body)
  local lines = {method .. " " .. path .. " HTTP/1.1", "Host: test"}
  for name, value in pairs(headers or {}) do lines[#lines + 1] = name .. ": " .. value end
  if body then lines[#lines + 1] = "Content-Length: " .. #body end
  return table.concat(lines, "\r\n") .. "\r\n\r\n" .. (body or "")
end

-- One exchange on a connection of its own.
local function ask(server, text, method)
  local conn <close> = connect(server)
  conn:write(text)
  return response(conn, method or text:match("^%u+"))
end

local function get(server, path) return ask(server, request("GET", path)) end

local function echo(req) return req.method .. " " .. req.path .. " " .. req.body end

-- ------------------------------------------------------------------ serving

test("a handler's string is a 200 in plain text that is not sniffed", function(t)
  local server = serve(t, {handler = function() return "hello" end})
  local r = get(server, "/")
  t:equal({r.status, r.body}, {200, "hello"})
  t:equal(r.headers["content-type"], "text/plain; charset=utf-8")
  t:equal(r.headers["x-content-type-options"], "nosniff")
  t:equal(r.headers.server, nil)
  assert(r.headers.date:find("^%a%a%a, %d%d %a%a%a %d%d%d%d %d%d:%d%d:%d%d GMT$"))
end)

test("nil is a 404, and a table sets status, headers and body", function(t)
  local server = serve(t, {server_header = true, handler = function(req)
    if req.path == "/none" then return nil end
    local headers = {["X-List"] = {"a", "b"}, ["Content-Type"] = "text/x"}
    return {status = 201, headers = headers, body = "made"}
  end})
  t:equal(get(server, "/none").status, 404)
  local r = get(server, "/")
  t:equal({r.status, r.body, r.headers["x-list"]}, {201, "made", "b"})
  t:equal({r.headers["content-type"], r.headers.server}, {"text/x", "secrun"})
end)

test("the request carries method, path, query, headers, body and peer", function(t)
  local seen
  local server = serve(t, {handler = function(req) seen = req end})
  local target = "/a%20b/../c/./d?x=1&y=%2B+&x=2&z"
  ask(server, request("POST", target, {["X-One"] = "1"}, "body"))
  t:equal({seen.method, seen.path, seen.raw_path}, {"POST", "/c/d", "/a%20b/../c/./d"})
  t:equal(seen.query, {x = "1", y = "+ ", z = ""})
  t:equal(seen.query_all.x, {"1", "2"})
  t:equal({seen.headers["x-ONE"], seen.headers["X-One"], seen.headers.nope}, {"1", "1"})
  t:equal({seen.body, seen.version, seen.peer.address}, {"body", "HTTP/1.1", "127.0.0.1"})
  assert(seen.peer.port > 0 and seen.tls == nil and seen.client_cert == nil)
end)

test("json and form read the body and insist on its type", function(t)
  local server = serve(t, {routes = {
    ["POST /json"] = function(req) return tostring(req:json().n) end,
    ["POST /form"] = function(req)
      local first, all = req:form()
      return first.a .. #all.a
    end,
  }})
  local json = {["Content-Type"] = "application/json; charset=utf-8"}
  local form = {["Content-Type"] = "application/x-www-form-urlencoded"}
  t:equal(ask(server, request("POST", "/json", json, '{"n": 7}')).body, "7")
  t:equal(ask(server, request("POST", "/json", json, '{"n": ')).status, 400)
  t:equal(ask(server, request("POST", "/json", form, '{"n": 7}')).status, 415)
  t:equal(ask(server, request("POST", "/form", form, "a=x+y&a=z")).body, "x y2")
  t:equal(ask(server, request("POST", "/form", json, "a=x")).status, 415)
end)

test("routes match by method and pattern, and name the allowed methods", function(t)
  local server = serve(t, {routes = {
    ["GET /.well-known/acme-challenge/{token}"] = function(req)
      return req.params.token
    end,
    ["GET /files/{path...}"] = function(req) return req.params.path end,
    ["POST /files/new"] = function() return "new" end,
  }, handler = function() return "other" end})
  t:equal(get(server, "/.well-known/acme-challenge/a-_1").body, "a-_1")
  t:equal(get(server, "/files/a/b").body, "a/b")
  t:equal(get(server, "/elsewhere").body, "other")
  local r = ask(server, request("DELETE", "/files/new"))
  t:equal({r.status, r.headers.allow}, {405, "POST, GET, HEAD, OPTIONS"})
  r = ask(server, request("OPTIONS", "/files/new"))
  t:equal({r.status, r.headers.allow}, {204, "POST, GET, HEAD, OPTIONS"})
end)

test("HEAD answers as GET without a body, also for a function body", function(t)
  local server = serve(t, {routes = {
    ["GET /text"] = function() return "12345" end,
    ["GET /parts"] = function() return {body = function() error("must not run") end} end,
  }})
  local conn <close> = connect(server)
  conn:write(request("HEAD", "/text") .. request("HEAD", "/parts"))
  local r = response(conn, "HEAD")
  t:equal({r.status, r.headers["content-length"]}, {200, "5"})
  t:equal(response(conn, "HEAD").status, 200)
  t:equal(conn:read("all"), "")
end)

test("a connection serves several requests, also when they come at once", function(t)
  local server = serve(t, {handler = echo})
  local conn <close> = connect(server)
  for i = 1, 3 do
    conn:write(request("GET", "/" .. i))
    t:equal(response(conn).body, "GET /" .. i .. " ")
  end
  conn:write(request("GET", "/a") .. request("POST", "/b", nil, "x")
    .. request("GET", "/c"))
  t:equal(response(conn).body, "GET /a ")
  t:equal(response(conn).body, "POST /b x")
  t:equal(response(conn).body, "GET /c ")
end)

test("a chunked request body arrives whole", function(t)
  local server = serve(t, {handler = echo})
  local conn <close> = connect(server)
  conn:write(request("POST", "/", {["Transfer-Encoding"] = "chunked"}))
  conn:write("3\r\nabc\r\n")
  task.sleep(0.02)
  conn:write("4;ext=1\r\ndefg\r\n0\r\nTrailer: x\r\n\r\n")
  t:equal(response(conn).body, "POST / abcdefg")
end)

test("100-continue is sent before a body that is wanted, not before a 413", function(t)
  local head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
  local server = serve(t, {max_body = 10, handler = echo})
  local conn <close> = connect(server)
  conn:write(head .. "Content-Length: 3\r\n\r\n")
  t:equal(conn:read("line"), "HTTP/1.1 100 Continue")
  conn:read("line")
  conn:write("abc")
  t:equal(response(conn).body, "POST / abc")
  local other <close> = connect(server)
  other:write(head .. "Content-Length: 11\r\n\r\n")
  t:equal(response(other).status, 413)
end)

test("a file body is sent from disk with a type by its name; a missing one is a 404",
  function(t)
    local dir = t:tmpdir()
    local content = ("0123456789abcdef"):rep(20000)
    fs.write(dir .. "/a.html", content)
    local server = serve(t, {handler = function(req)
      return {body = {file = dir .. req.path}}
    end})
    local r = get(server, "/a.html")
    t:equal({r.status, #r.body, r.headers["content-type"]},
      {200, #content, "text/html; charset=utf-8"})
    assert(r.body == content)
    t:equal(get(server, "/nope").status, 404)
    t:equal(get(server, "/").status, 404, "a folder")
  end)

test("a path cannot climb out of a served folder", function(t)
  local dir = t:tmpdir()
  fs.mkdir(dir .. "/www")
  fs.write(dir .. "/secret", "hidden")
  local server = serve(t, {handler = function(req)
    return {body = {file = dir .. "/www" .. req.path}}
  end})
  for _, path in ipairs{"/../secret", "/%2e%2e/secret", "/a/../../secret", "/..%2fsecret",
    "/%2e%2e%2fsecret", "/a/%2e./%2e%2e/secret", "/.%2e/secret"} do
    t:equal(get(server, path).status, 400, path)
  end
  t:equal(get(server, "/%252e%252e/secret").status, 404)
end)

test("a function body is sent piece by piece and may wait", function(t)
  local server = serve(t, {handler = function()
    local i = 0
    return {body = function()
      i = i + 1
      task.sleep(0.01)
      if i <= 5 then return "part " .. i .. "\n" end
    end}
  end})
  local r = get(server, "/")
  t:equal(r.headers["transfer-encoding"], "chunked")
  t:equal(r.body, "part 1\npart 2\npart 3\npart 4\npart 5\n")
end)

test("a long function body waits for a slow reader instead of piling up", function(t)
  local made = 0
  local server = serve(t, {handler = function()
    return {body = function()
      made = made + 1
      if made <= 400 then return ("x"):rep(65536) end
    end}
  end})
  local conn <close> = connect(server)
  conn:write(request("GET", "/"))
  conn:read("line")
  task.sleep(0.2)
  assert(made < 300, "made " .. made)
  local size = 0
  for part in function() return conn:read("some") end do
    size = size + #part
    if made > 400 and part:find("0\r\n\r\n$") then break end
  end
  assert(size > 400 * 65536, size)
end)

test("an error in a function body cuts the connection off", function(t)
  local server = serve(t, {handler = function()
    local first = true
    return {body = function()
      if not first then error("late") end
      first = false
      return "begun"
    end}
  end})
  local conn <close> = connect(server)
  conn:write(request("GET", "/"))
  local got = ""
  pcall(function() got = conn:read("all") end)
  assert(not got:find("0\r\n\r\n$"), got)
end)

test("a handler may answer early by respond and go on", function(t)
  local done = false
  local server = serve(t, {handler = function(req)
    req:respond{status = 202, body = "later"}
    task.sleep(0.05)
    done = true
  end})
  t:equal(get(server, "/").status, 202)
  assert(eventually(function() return done end))
end)

test("a request is answered once", function(t)
  local err
  local server = serve(t, {handler = function(req)
    req:respond("first")
    err = t:raises(function() req:respond("second") end, "usage", "before")
  end})
  t:equal(get(server, "/").body, "first")
  assert(err)
end)

test("200 requests at once are served by sleeping handlers, 64 at a time", function(t)
  local now, most = 0, 0
  local server = serve(t, {handler = function(req)
    now = now + 1
    most = math.max(most, now)
    task.sleep(0.05)
    now = now - 1
    return req.path
  end})
  local paths = {}
  for i = 1, 200 do paths[i] = "/" .. i end
  local results, errors = task.each(paths, {limit = 200}, function(path)
    return get(server, path).body
  end)
  t:equal(#errors, 0)
  t:equal(results, paths)
  t:equal(most, 64)
end)

-- ------------------------------------------------------------------ refusing

local function status_of(server, text)
  local conn <close> = connect(server)
  pcall(conn.write, conn, text)
  local r = response(conn)
  return r and r.status
end

test("malformed requests get a 400", function(t)
  local server = serve(t, {handler = echo})
  for _, text in ipairs{
    "GARBAGE\r\n\r\n", "\1\2\3\r\n", "GET /\r\n\r\n",
    "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "GET x HTTP/1.1\r\nHost: a\r\n\r\n", "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nbad header\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nb c: d\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nb: \1\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
  } do
    t:equal(status_of(server, text), 400, ("%q"):format(text))
  end
end)

test("folded lines, NUL and bare line ends in fields are refused", function(t)
  local count = 0
  local server = serve(t, {handler = function()
    count = count + 1
    return "ok"
  end})
  for _, lines in ipairs{
    "Content-Length: 1\r\n 0\r\n", "Transfer-Encoding:\r\n chunked\r\n",
    "X: a\r\n b\r\n", "X: a\r\n\tb\r\nY: c\r\n", "X: a\0b\r\n",
    "Content-Length: 2\0 1\r\n", "X: a\nY: b\r\n",
    "X: a\rContent-Length: 5\r\n", "X: " .. ("a"):rep(9000) .. "\r\n b\r\n",
  } do
    t:equal({lines:sub(1, 40), status_of(server, "POST / HTTP/1.1\r\nHost: a\r\n" .. lines
      .. "\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")}, {lines:sub(1, 40), 400})
  end
  t:equal(count, 0)
  for _, lines in ipairs{"X:\r\n", "X: \r\n", "X:a\r\n", "X: \t a \t \r\n",
    "X: a:b\r\nY: \r\n"} do
    local text = "GET / HTTP/1.1\r\nHost: a\r\n" .. lines .. "\r\n"
    t:equal({lines, status_of(server, text)}, {lines, 200})
  end
end)

test("contradicting body lengths are refused, so that nothing is smuggled", function(t)
  local served = 0
  local server = serve(t, {handler = function() served = served + 1 end})
  local head = "POST / HTTP/1.1\r\nHost: a\r\n"
  local length, chunked = "Content-Length: 4\r\n", "Transfer-Encoding: chunked\r\n"
  t:equal(status_of(server, head .. length .. "Content-Length: 5\r\n\r\nabcde"), 400)
  t:equal(status_of(server, head .. length .. chunked .. "\r\n0\r\n\r\n"
    .. "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"), 400)
  t:equal(status_of(server, head .. "Transfer-Encoding: gzip\r\n\r\n"), 501)
  t:equal(served, 0)
end)

test("each limit has its status", function(t)
  local server = serve(t, {max_body = 1000, max_headers = 4096, handler = echo})
  local chunk = "400\r\n" .. ("a"):rep(1024) .. "\r\n"
  t:equal(status_of(server, request("POST", "/", nil, ("a"):rep(1000))), 200)
  t:equal(status_of(server, request("POST", "/", nil, ("a"):rep(1001))), 413)
  t:equal(status_of(server, request("POST", "/", nil, ("a"):rep(3000000))), 413)
  t:equal(status_of(server, request("POST", "/", {["Transfer-Encoding"] = "chunked"})
    .. chunk:rep(500)), 413)
  t:equal(status_of(server, request("GET", "/" .. ("a"):rep(9000))), 414)
  t:equal(status_of(server, request("GET", "/" .. ("a"):rep(300000))), 414)
  t:equal(status_of(server, request("GET", "/", {X = ("a"):rep(5000)})), 431)
  t:equal(status_of(server, request("GET", "/", {X = ("a"):rep(300000)})), 431)
  t:equal(status_of(server, "GET / HTTP/1.1\r\nHost: a\r\n" .. ("X: y\r\n"):rep(20000)
    .. "\r\n"), 431)
end)

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

test("a handler's error is a 500 that tells nothing", function(t)
  local server = serve(t, {handler = function() error("the password is hunter2") end})
  local r = get(server, "/")
  t:equal({r.status, r.body}, {500, "500 internal server error\n"})
  t:equal(get(server, "/").status, 500, "the next one")
end)

test("a response that cannot be is a 500", function(t)
  local bad = {
    ["/number"] = 5, ["/field"] = {boddy = "x"}, ["/status"] = {status = 99},
    ["/body"] = {body = true}, ["/header"] = {headers = {A = {}, B = true}},
    ["/name"] = {headers = {["a b"] = "c"}},
    ["/length"] = {headers = {["Content-Length"] = "1"}},
    ["/long"] = {headers = {A = ("x"):rep(20000)}},
  }
  local server = serve(t, {handler = function(req) return bad[req.path] end})
  for path in pairs(bad) do t:equal(get(server, path).status, 500, path) end
end)

test("line breaks and NUL cannot get into a response header", function(t)
  local server = serve(t, {handler = function(req)
    return {headers = {["X-A"] = req.query.v, Location = "/" .. req.query.v}}
  end})
  for _, value in ipairs{"a%0d%0aSet-Cookie:x", "a%0aSet-Cookie:x", "a%0d", "a%00b"} do
    local r = get(server, "/?v=" .. value)
    t:equal({r.status, r.headers["set-cookie"]}, {500})
  end
  t:equal(get(server, "/?v=fine").headers["x-a"], "fine")
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
