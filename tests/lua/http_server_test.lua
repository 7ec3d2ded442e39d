-- The HTTP server seen by raw clients: what it serves and what it refuses.

local caller = require "http_caller"
local eventually = require "eventually"
local fs = require "fs"
local task = require "task"

local ask = caller.ask
local connect = caller.connect
local echo = caller.echo
local get = caller.get
local request = caller.request
local response = caller.response
local serve = caller.serve
local status_of = caller.status_of

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
