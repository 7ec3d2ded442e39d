--- The HTTP client against well-behaved and hostile peers.

local certs = require "stream_certs"
local encoding = require "encoding"
local http = require "http"
local peers = require "http_peer"
local program = require "program"
local task = require "task"
local time = require "time"

local reply = peers.reply

--- A secret of this text, which test files may not write down as such.
local function hidden(t, text)
  local path = t:tmpdir() .. "/secret"
  require "fs".write(path, text)
  return secret("file:" .. path)
end

local function always(bytes, after)
  return function(conn)
    conn:write(bytes)
    return after
  end
end

-- ---------------------------------------------------------------- requests

test("a response has status, headers, body, url, peer, timing", function(t)
  local peer = peers.start(t, always(reply(200, "hello",
    {"X-One: 1", "Link: <a>; rel=up", "link: </b>;rel=\"alternate next\"",
      "Set-Cookie: a=1, x", "Set-Cookie: b=2",
      "Content-Type: Text/Plain; charset=UTF-8"})))
  local res = http.get(peer.url .. "/x?y=1")
  t:equal(res.status, 200)
  t:equal(res.body, "hello")
  t:equal(res.url, peer.url .. "/x?y=1")
  t:equal(res.http_version, "1.1")
  t:equal(res.peer, {address = "127.0.0.1", port = peer.port})
  t:equal(res.headers["X-ONE"], "1")
  t:equal(res.headers["x-one"], "1")
  t:equal(res:header "link", '<a>; rel=up, </b>;rel="alternate next"')
  t:equal(res:header "set-cookie", "a=1, x")
  t:equal(res:values "Set-Cookie", {"a=1, x", "b=2"})
  t:equal(res:header "nope", nil)
  t:equal(res:links "alternate", {{url = peer.url .. "/b", rel = "alternate next"}})
  t:equal(#res:links(), 2)
  t:equal({res:content_type()}, {"text/plain", "utf-8"})
  assert(res.timing.total > 0 and res.timing.first_byte <= res.timing.total)
end)

test("the request line, host and headers are what was asked for", function(t)
  local peer = peers.start(t, always(reply(200, "")))
  http.request{url = peer.url .. "/a", method = "DELETE", headers = {["X-A"] = "1",
    ["X-L"] = {"p", "q"}, ["X-Empty"] = "", ["X-N"] = 7}, user_agent = "probe/1"}
  local head = peer.heads[1]
  assert(head:find("^DELETE /a HTTP/1.1\r\n"))
  assert(head:find("\r\nHost: " .. peer.host:gsub("%p", "%%%0"), 1))
  for _, line in ipairs{"X-A: 1", "X-L: p", "X-L: q", "X-Empty:", "X-N: 7",
    "User-Agent: probe/1", "Accept-Encoding: gzip, deflate"} do
    assert(head:find("\r\n" .. line, 1, true), line .. " not in " .. head)
  end
end)

local function echo(conn, head, _, body)
  local kind = head:match "Content%-Type: ([^\r]+)" or "-"
  conn:write(reply(200, body, {"X-Type: " .. kind}))
end

test("bodies: text, json, form, secret, empty", function(t)
  local peer = peers.start(t, echo)
  local res = http.post(peer.url, "plain")
  t:equal({res.body, res:header "x-type"}, {"plain", "-"})
  res = http.post(peer.url, nil, {json = {a = {1, 2}}})
  t:equal({res.body, res:header "x-type"}, {'{"a":[1,2]}', "application/json"})
  t:equal(res:json(), {a = {1, 2}})
  res = http.post(peer.url, nil, {form = {["a b"] = "c&d=é"}})
  t:equal({res.body, res:header "x-type"},
    {"a%20b=c%26d%3D%C3%A9", "application/x-www-form-urlencoded"})
  t:equal(http.put(peer.url, hidden(t, "secret-body")).body, "secret-body")
  t:equal(http.post(peer.url).body, "")
  assert(peer.heads[5]:find("Content-Length: 0", 1, true))
  t:raises(function() http.post(peer.url, "x", {json = {}}) end, "usage", "one of body")
end)

test("a query is encoded and added", function(t)
  local peer = peers.start(t, always(reply(200, "")))
  http.get(peer.url .. "/p?a=1", {query = {b = "x y/é"}})
  assert(peer.heads[1]:find("GET /p?a=1&b=x%20y%2F%C3%A9 HTTP", 1, true))
  local key = hidden(t, "secret-key")
  t:raises(function() http.get(peer.url, {query = {k = key}}) end, "usage", "secret")
end)

test("basic and bearer credentials are sent and never shown", function(t)
  local peer = peers.start(t, function(conn, head)
    conn:write(reply(401, "you sent " .. head:match "Authorization: ([^\r]+)"))
  end)
  local err = t:raises(function()
    http.get(peer.url, {auth = {user = "u", password = hidden(t, "canary-password")}})
  end, "auth")
  assert(peer.heads[1]:find("Authorization: Basic " ..
    encoding.base64_encode "u:canary-password", 1, true))
  assert(not tostring(err):find("canary", 1, true))
  assert(not tostring(err):find(encoding.base64_encode "u:canary-password", 1, true))
  err = t:raises(function()
    http.get(peer.url, {bearer = hidden(t, "canary-token-123")})
  end, "auth")
  assert(peer.heads[2]:find("Authorization: Bearer canary-token-123", 1, true))
  assert(not (tostring(err) .. err.trace):find("canary", 1, true))
  http.get("http://us:er-pass@" .. peer.host, {raise = false})
  assert(peer.heads[3]:find("Basic " .. encoding.base64_encode "us:er-pass", 1, true))
end)

test("line breaks and reserved names cannot enter a request", function(t)
  for _, headers in ipairs{{["X-A"] = "1\r\nX-B: 2"}, {["X-A"] = "a\nb"},
    {["X-A"] = "a\0b"}, {["X A"] = "1"}, {["X-A:"] = "1"}, {Host = "other"},
    {["Content-Length"] = "3"}, {["transfer-encoding"] = "chunked"}} do
    t:raises(function() http.get("http://127.0.0.1:1/", {headers = headers}) end, "usage")
  end
  t:raises(function() http.request{url = "http://a/\r\nX: y"} end, "usage", "control")
  t:raises(function() http.request{url = "file:///etc/passwd"} end, "usage")
  t:raises(function() http.request{url = "http://a/", method = "GET /x"} end, "usage")
end)

test("an unknown option is named with the right one", function(t)
  t:raises(function() http.get("http://a/", {timout = 1}) end, "usage", "timeout")
  t:raises(function() http.client{base_ur = "x"} end, "usage", "base_ur")
end)

-- ---------------------------------------------------------------- statuses

test("statuses raise by kind, with an excerpt and Retry-After", function(t)
  local status, headers = 404, {}
  local peer = peers.start(t, function(conn)
    conn:write(reply(status, "<h1>no\27[31m\nsuch\0thing</h1>", headers))
  end)
  local kinds = {[401] = "auth", [403] = "auth", [404] = "not_found", [409] = "conflict",
    [429] = "rate_limited", [400] = "http", [500] = "http", [503] = "http"}
  for code, kind in pairs(kinds) do
    status, headers = code, {"Retry-After: 17"}
    local err = t:raises(function() http.get(peer.url) end, kind, "such thing")
    t:equal({err.status, err.retry_after, err.code}, {code, 17, "HTTP_" .. code})
    t:equal(err.retryable, code == 429 or code >= 500)
    assert(not tostring(err):find "%c")
  end
  status = 404
  t:equal(http.get(peer.url, {raise = false}).status, 404)
  t:equal(http.get(peer.url, {accept_status = {404}}).status, 404)
end)

test("Retry-After as a date counts from our clock", {clock = "virtual"}, function(t)
  local peer = peers.start(t, always(reply(200, "",
    {"Retry-After: Tue, 01 Jan 2030 00:01:00 GMT"})))
  time.virtual(1893456000)
  t:equal(http.get(peer.url):retry_after(), 60)
end)

test("a POST that failed on the server is not called retryable", function(t)
  local peer = peers.start(t, always(reply(500, "")))
  t:equal(t:raises(function() http.post(peer.url, "x") end, "http").retryable, false)
  t:equal(t:raises(function() http.post(peer.url, "x", {idempotent = true}) end,
    "http").retryable, true)
end)

test("retry waits by our clock, and gives up", {clock = "virtual"}, function(t)
  local peer = peers.start(t, function(conn, _, n)
    conn:write(n < 3 and reply(503, "", {"Retry-After: 20"}) or reply(200, "ok"))
  end)
  local before = time.mono()
  t:equal(http.get(peer.url, {retry = 5}).body, "ok")
  t:equal(#peer.heads, 3)
  assert(time.mono() - before >= 40)
  local bad = peers.start(t, always(reply(500, "")))
  t:raises(function() http.get(bad.url, {retry = {times = 2, base = "1s"}}) end, "http")
  t:equal(#bad.heads, 3)
  t:raises(function() http.post(bad.url, "x", {retry = 2}) end, "http")
  t:equal(#bad.heads, 4)
end)

-- ---------------------------------------------------------------- hostile peers

test("HTML where JSON was expected is a protocol error that shows it", function(t)
  local peer = peers.start(t, always(reply(200, "<html>\nbusy</html>",
    {"Content-Type: text/html"})))
  local res = http.get(peer.url)
  t:raises(function() res:json() end, "protocol", "text/html.*<html> busy")
end)

test("a body shorter than announced is an error", function(t)
  local peer = peers.start(t, always(
    "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", "close"))
  local err = t:raises(function() http.get(peer.url) end, "protocol", "announced length")
  t:equal({err.code, err.retryable}, {"CURLE_PARTIAL_FILE", true})
end)

test("a truncated chunked body is an error", function(t)
  local peer = peers.start(t, always(
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "close"))
  t:raises(function() http.get(peer.url) end, "protocol")
end)

test("a body longer than max_body stops early", function(t)
  local peer = peers.start(t, function(conn)
    conn:write "HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n"
    for _ = 1, 100 do conn:write(("x"):rep(100000)) end
  end)
  t:raises(function() http.get(peer.url, {max_body = "1MiB"}) end, "limit", "max_body")
  t:equal(#http.get(peer.url, {max_body = 10000000}).body, 10000000)
end)

test("a gzip bomb is bounded by what it becomes", function(t)
  local process = require "process"
  local dir = t:tmpdir()
  require "fs".write(dir .. "/zeros", ("\0"):rep(8 << 20))
  process.run{argv = {"gzip", "-9", dir .. "/zeros"}}
  local bomb = require "fs".read(dir .. "/zeros.gz")
  assert(#bomb < 20000)
  local peer = peers.start(t, always(reply(200, bomb, {"Content-Encoding: gzip"})))
  t:raises(function() http.get(peer.url, {max_body = "1MiB"}) end, "limit", "max_body")
  t:equal(#http.get(peer.url).body, 8 << 20)
  t:equal(http.get(peer.url, {compressed = false}).body, bomb)
end)

test("garbage instead of a status line is a protocol error", function(t)
  for _, bytes in ipairs{"220 mail.example ESMTP\r\n", "HTTP/1.1 xx OK\r\n\r\n",
    "\0\1\2\3\r\n\r\n"} do
    local peer = peers.start(t, always(bytes, "close"))
    t:raises(function() http.get(peer.url) end, "protocol")
  end
end)

test("too many headers are a limit", function(t)
  local many = {"HTTP/1.1 200 OK\r\n"}
  for i = 1, 100000 do many[#many + 1] = ("X-%d: y\r\n"):format(i) end
  local peer = peers.start(t, always(table.concat(many) .. "\r\n", "close"))
  t:raises(function() http.get(peer.url) end, "limit", "header")
end)

test("no answer: a GET may be tried again, a POST may not", function(t)
  local peer = peers.start(t, function() return "close" end)
  local err = t:raises(function() http.get(peer.url) end, "protocol", "without an answer")
  t:equal({err.code, err.retryable}, {"CURLE_GOT_NOTHING", true})
  err = t:raises(function() http.post(peer.url, "x") end, "protocol")
  t:equal(err.retryable, false)
end)

test("nobody listens: connect, retryable for every method", function(t)
  local listener = require "stream".listen{}
  local port = listener.port
  listener:close()
  local err = t:raises(function()
    http.post(("http://127.0.0.1:%d/"):format(port), "x")
  end, "connect", "127.0.0.1:" .. port)
  t:equal({err.code, err.retryable}, {"CURLE_COULDNT_CONNECT", true})
end)

test("a name that does not resolve is dns", function(t)
  local err = t:raises(function() http.get "http://no-such-host.invalid/" end, "dns")
  t:equal(err.code, "CURLE_COULDNT_RESOLVE_HOST")
end)

test("a POST on a kept connection that dies is sent once", function(t)
  local peer = peers.start(t, function(conn, _, n)
    if n == 1 then conn:write(reply(200, "")) else return "close" end
  end)
  http.get(peer.url)
  local err = t:raises(function() http.post(peer.url, "enrol once") end, "io",
    "not sent twice")
  t:equal({err.retryable, #peer.heads}, {false, 2})
end)

test("a GET on a kept connection that dies goes over a new one", function(t)
  local peer = peers.start(t, function(conn, _, n)
    if n == 2 then return "close" end
    conn:write(reply(200, tostring(n)))
  end)
  http.get(peer.url)
  t:equal(http.get(peer.url).body, "3")
  t:equal(peer.connections, 2)
end)

-- ---------------------------------------------------------------- time-outs

test("a slow drip meets the time-out, on the virtual clock", {clock = "virtual"},
  function(t)
    local peer = peers.start(t, function(conn)
      conn:write "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
      for _ = 1, 1000 do
        conn:write "x"
        task.sleep "10s"
      end
    end)
    local before = time.mono()
    local err = t:raises(function() http.get(peer.url, {timeout = "5m"}) end, "timeout",
      "receiving the body")
    t:equal({err.code, time.mono() - before}, {"CURLE_OPERATION_TIMEDOUT", 300})
  end)

test("a peer that says nothing meets the time-out", {clock = "virtual"}, function(t)
  local peer = peers.start(t, function() task.sleep "1h" end)
  local before = time.mono()
  t:raises(function() http.get(peer.url) end, "timeout", "waiting for the answer")
  t:equal(time.mono() - before, 30)
end)

test("a TLS handshake that never ends meets the connect time-out", {clock = "virtual"},
  function(t)
    local peer = peers.start(t, function() end) -- plain: reads the hello for ever
    local before = time.mono()
    t:raises(function() http.get("https://" .. peer.host .. "/") end, "timeout",
      "connect_timeout")
    t:equal(time.mono() - before, 10)
  end)

test("an enclosing time-out wins and cancels", {clock = "virtual"}, function(t)
  local peer = peers.start(t, function() task.sleep "1h" end)
  t:raises(function()
    task.timeout("2s", function() http.get(peer.url) end)
  end, "timeout")
  t:equal(#peer.heads, 1)
end)

test("200 requests cancelled in the middle leave nothing behind", function(t)
  local peer = peers.start(t, function(conn, _, n)
    if n % 2 == 0 then conn:write "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf" end
    task.sleep "1h"
  end)
  local g = task.group()
  local options = {pool = {total = 300, per_host = 150}}
  local ended = 0
  for _ = 1, 200 do
    g:spawn(function()
      pcall(http.get, peer.url, options)
      ended = ended + 1
    end)
  end
  while #peer.heads < 150 do task.sleep "5ms" end
  g:cancel()
  pcall(g.close, g)
  t:equal(ended, 200)
  t:equal(#http.get(peers.start(t, always(reply(200, "next"))).url).body, 4)
end)

--- A script with 200 requests under way, half of them in the middle of a body.
local HUNDREDS = [[
local http, task = require "http", require "task"
local group <close> = task.group()
local pool = {total = 300, per_host = 300}
local function sink() task.sleep "1h" end
for i = 1, 200 do
  group:spawn(http.get, "URL/", {pool = pool, timeout = "1h",
    sink = i % 3 == 0 and sink or nil})
end
group:spawn(function() error(http.get("URL/last", {pool = pool}).body) end)]]

test("a script that ends in the middle of 200 requests ends in order",
  {timeout = "60s"}, function(t)
  local others, broken = 0, false
  local peer = peers.start(t, function(conn, head)
    if head:find "^GET /last" then
      while not broken do task.sleep "5ms" end
      conn:write(reply(200, "enough"))
    else
      others = others + 1
      if others % 2 == 0 then
        conn:write "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"
      end
    end
    task.sleep "1h"
  end)
  for ending, status in pairs{signal = 130, error = 1} do
    others, broken = 0, false
    local child <close> = program.start{"-e", (HUNDREDS:gsub("URL", peer.url))}
    while others < 200 do task.sleep "5ms" end
    if ending == "signal" then child:kill "INT" else broken = true end
    local result, said = child:wait("60s"), child:output()
    t:equal({ending, result.status}, {ending, status})
    assert(said:find(ending == "signal" and "interrupted" or "enough"), said)
    assert(not said:find "Sanitizer", said)
  end
end)

-- ---------------------------------------------------------------- redirects

test("redirects are followed for GET, relative and absolute", function(t)
  local peer
  peer = peers.start(t, function(conn, head)
    local path = head:match "^%u+ (%S+)"
    local to = ({["/a"] = "b?x=1", ["/b?x=1"] = peer.url .. "/c"})[path]
    conn:write(to and reply(302, "moved", {"Location: " .. to}) or reply(200, path))
  end)
  local res = http.get(peer.url .. "/a")
  t:equal({res.body, res.url}, {"/c", peer.url .. "/c"})
  t:equal(http.get(peer.url .. "/a", {redirects = 0}).status, 302)
  t:equal(http.post(peer.url .. "/a", "x").status, 302)
  t:equal(http.post(peer.url .. "/a", "x", {redirects = 2}).method, "GET")
end)

test("a redirect loop ends", function(t)
  local peer = peers.start(t, always(reply(301, "", {"Location: /again"})))
  local err = t:raises(function() http.get(peer.url) end, "protocol", "more than 5")
  t:equal({err.code, #peer.heads}, {"CURLE_TOO_MANY_REDIRECTS", 6})
end)

test("307 sends the body again, 303 turns into GET", function(t)
  local peer = peers.start(t, function(conn, head, _, body)
    local path = head:match "^%u+ (%S+)"
    if path == "/seven" then conn:write(reply(307, "", {"Location: /end"}))
    elseif path == "/three" then conn:write(reply(303, "", {"Location: /end"}))
    else conn:write(reply(200, head:match "^%u+" .. " " .. body)) end
  end)
  t:equal(http.post(peer.url .. "/seven", "data", {redirects = 1}).body, "POST data")
  t:equal(http.post(peer.url .. "/three", "data", {redirects = 1}).body, "GET ")
end)

test("credentials stay with the first origin", function(t)
  local other = peers.start(t, always(reply(200, "there")))
  local peer = peers.start(t, always(reply(302, "", {"Location: " .. other.url .. "/x"})))
  http.get(peer.url, {bearer = hidden(t, "canary-origin"), headers = {Cookie = "a=b",
    ["X-Key"] = hidden(t, "canary-header"), ["X-Open"] = "yes"}})
  assert(peer.heads[1]:find "canary%-origin" and peer.heads[1]:find "canary%-header")
  assert(not other.heads[1]:find "canary" and not other.heads[1]:find "Cookie")
  assert(other.heads[1]:find "X%-Open: yes")
end)

test("https never leads to http, and other schemes to nowhere", function(t)
  local peer = peers.start(t, function(conn, head)
    conn:write(reply(302, "", {"Location: " ..
      (head:find "^GET /file" and "file:///etc/passwd" or "http://127.0.0.1:1/")}))
  end, certs.server)
  t:raises(function() http.get(peer.url, {ca = certs.ca}) end, "protocol",
    "https to http")
  t:raises(function() http.get(peer.url .. "/file", {ca = certs.ca}) end, "protocol")
end)

-- ---------------------------------------------------------------- pieces

test("a sink gets the body in pieces, in the task that asked", function(t)
  local peer = peers.start(t, function(conn)
    conn:write "HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n"
    for _ = 1, 30 do conn:write(("z"):rep(100000)) end
  end)
  local total, pieces = 0, 0
  local res = http.get(peer.url, {sink = function(chunk)
    total, pieces = total + #chunk, pieces + 1
    task.sleep "1ms"
  end})
  t:equal({res.status, res.body, total}, {200, "", 3000000})
  assert(pieces > 3)
end)

test("an error in a sink drops the exchange and is the caller's", function(t)
  local peer = peers.start(t, function(conn)
    conn:write "HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n"
    for _ = 1, 30 do conn:write(("z"):rep(100000)) end
  end)
  t:raises(function()
    http.get(peer.url, {sink = function() error "enough" end})
  end, nil, "enough")
end)

test("a sink does not get an error page; the error does", function(t)
  local peer = peers.start(t, always(reply(500, "the reason")))
  local got = 0
  t:raises(function()
    http.get(peer.url, {sink = function() got = got + 1 end})
  end, "http", "the reason")
  t:equal(got, 0)
end)

test("a file appears only when all of it is there", function(t)
  local fs = require "fs"
  local dir, whole = t:tmpdir(), true
  local peer = peers.start(t, function(conn)
    conn:write("HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" .. ("f"):rep(100000))
    if not whole then return "close" end
    conn:write(("f"):rep(100000))
  end)
  local path = dir .. "/out"
  http.get(peer.url, {sink = {file = path}})
  t:equal(#fs.read(path), 200000)
  whole = false
  t:raises(function()
    http.get(peer.url, {sink = {file = dir .. "/half"}})
  end, "protocol")
  t:equal(#fs.list(dir), 1)
end)

test("a request body comes from a function or a file", function(t)
  local peer = peers.start(t, function(conn, head, _, body)
    if not head:find "chunked" then return echo(conn, head, 0, body) end
    local parts = {}
    while true do
      local size = tonumber(conn:read_until "\r\n", 16)
      local part = size > 0 and conn:read(size) or ""
      conn:read_until "\r\n"
      if size == 0 then break end
      parts[#parts + 1] = part
    end
    conn:write(reply(200, table.concat(parts)))
  end)
  local n = 0
  local res = http.post(peer.url, function()
    n = n + 1
    task.sleep "1ms"
    return n <= 3 and ("part%d "):format(n) or nil
  end)
  t:equal(res.body, "part1 part2 part3 ")
  local path = t:tmpdir() .. "/in"
  require "fs".write(path, ("q"):rep(150000))
  t:equal(#http.put(peer.url, {file = path}).body, 150000)
end)

-- ---------------------------------------------------------------- connections

test("connections are kept, and at most per_host are open", function(t)
  local open, most = 0, 0
  local peer = peers.start(t, function(conn)
    open = open + 1
    most = math.max(most, open)
    task.sleep "2ms"
    open = open - 1
    conn:write(reply(200, ""))
  end)
  local list = {}
  for i = 1, 60 do list[i] = i end
  task.each(list, {limit = 60}, function() http.get(peer.url) end)
  t:equal(#peer.heads, 60)
  assert(most <= 8 and peer.connections <= 8, most)
end)

test("resolve pins an address, and other requests do not see it", function(t)
  local peer = peers.start(t, always(reply(200, "pinned")))
  local url = "http://pinned.invalid:" .. peer.port .. "/"
  local pins = {["pinned.invalid:" .. peer.port] = "127.0.0.1"}
  t:equal(http.get(url, {resolve = pins}).body, "pinned")
  assert(peer.heads[1]:find("Host: pinned.invalid:" .. peer.port, 1, true))
  t:raises(function() http.get(url) end, "dns")
  t:raises(function() http.get(url, {resolve = {["a b:1"] = "127.0.0.1"}}) end, "usage")
  t:raises(function() http.get(url, {resolve = {["a:1"] = "localhost"}}) end, "usage")
end)

test("private addresses are refused on request", function(t)
  local peer = peers.start(t, always(reply(200, "inside")))
  http.get(peer.url)
  for _, url in ipairs{peer.url, "http://localhost:" .. peer.port .. "/",
    "http://[::1]:1/", "http://0x7f000001/", "http://169.254.169.254/latest"} do
    t:raises(function() http.get(url, {no_private_addresses = true}) end, "denied",
      "public")
  end
  t:equal(#peer.heads, 1)
  t:raises(function()
    http.get("http://cdn.invalid:" .. peer.port .. "/", {no_private_addresses = true,
      resolve = {["cdn.invalid:" .. peer.port] = "127.0.0.1"}})
  end, "denied")
end)

test("a proxy gets the whole URL, its credentials stay out of errors", function(t)
  local peer = peers.start(t, always(reply(200, "by proxy")))
  local res = http.get("http://far.invalid/x",
    {proxy = hidden(t, "http://pu:canary-proxy@" .. peer.host)})
  t:equal(res.body, "by proxy")
  assert(peer.heads[1]:find("^GET http://far.invalid/x HTTP"))
  assert(peer.heads[1]:find("Proxy%-Authorization: Basic"))
  local err = t:raises(function()
    http.get("http://far.invalid/", {proxy = "http://pu:canary-proxy@127.0.0.1:1"})
  end, "connect")
  assert(not tostring(err):find "canary")
end)

-- ---------------------------------------------------------------- TLS

local function tls_error(t, peer, options, pattern)
  local err = t:raises(function() http.get(peer.url, options) end, "tls", pattern)
  t:equal(err.retryable, false)
  return err
end

test("a CA as text, file, list or folder verifies; others do not", function(t)
  local fs = require "fs"
  local peer = peers.start(t, always(reply(200, "safe")), certs.server)
  local path = t:tmpdir() .. "/ca.pem"
  fs.write(path, certs.ca)
  for _, ca in ipairs{certs.ca, path, {certs.ca, path}, {"system", path}} do
    t:equal(http.get(peer.url, {ca = ca}).body, "safe")
  end
  tls_error(t, peer, {}, "the system's CA set")
  tls_error(t, peer, {ca = certs.selfsigned.cert}, "PEM text given")
  t:raises(function() http.get(peer.url, {ca = path .. "x"}) end, "not_found", "ca.pemx")
  fs.write(path, "no certificate")
  t:raises(function() http.get(peer.url, {ca = path}) end, "usage", "ca.pem")
end)

test("a trusted connection is not lent to another CA set, nor an identity", function(t)
  local subjects = {}
  local peer = peers.start(t, function(conn)
    local tls = conn:tls()
    subjects[#subjects + 1] = tls.verified and "client" or "nobody"
    conn:write(reply(200, ""))
  end, {cert = certs.server.cert, key = certs.server.key, client_auth = "request",
    ca = certs.ca})
  http.get(peer.url, {ca = certs.ca})
  tls_error(t, peer, {ca = certs.selfsigned.cert})
  http.get(peer.url, {ca = certs.ca, cert = certs.client.cert, key = certs.client.key})
  http.get(peer.url, {ca = certs.ca})
  t:equal(subjects, {"nobody", "client", "nobody"})
end)

test("expired, self-signed and wrong names are told apart", function(t)
  local name = peers.start(t, always(reply(200, "")), certs.www)
  tls_error(t, name, {ca = certs.ca}, "127%.0%.0%.1")
  local own = peers.start(t, always(reply(200, "")), certs.selfsigned)
  tls_error(t, own, {}, "self%-signed")
  local old = peers.start(t, always(reply(200, "")), certs.expired)
  tls_error(t, old, {ca = certs.ca}, "expired")
end)

test("certificates are judged at the time of our clock", {clock = "virtual"}, function(t)
  local peer = peers.start(t, always(reply(200, "then")), certs.expired)
  time.virtual(1590000000)
  local host = "localhost:" .. peer.port
  t:equal(http.get("https://" .. host, {ca = certs.ca}).body, "then")
end)

test("a client certificate that does not fit its key is refused before", function(t)
  t:raises(function()
    http.get("https://127.0.0.1:1/", {cert = certs.client.cert, key = certs.server.key})
  end, "usage", "do not belong")
  t:raises(function() http.get("https://127.0.0.1:1/", {key = certs.server.key}) end,
    "usage", "cert")
end)

test("verify = false connects to anybody", function(t)
  local own = peers.start(t, always(reply(200, "whoever")), certs.selfsigned)
  t:equal(http.get(own.url, {verify = false}).body, "whoever")
  tls_error(t, own, {}, "self%-signed")
end)

-- ---------------------------------------------------------------- clients

test("a client joins paths, merges headers and keeps to its origin", function(t)
  local peer = peers.start(t, always(reply(200, "{}")))
  local api = http.client{base_url = peer.url .. "/api/v1/", headers = {A = "1", B = "2"},
    bearer = hidden(t, "canary-client")}
  api:get("orders", {headers = {b = "3"}})
  local head = peer.heads[1]
  assert(head:find "^GET /api/v1/orders HTTP")
  assert(head:find "\r\nA: 1" and head:find "\r\nb: 3")
  assert(not head:find "\r\nB: 2" and head:find "canary%-client")
  api:post("/top", nil, {json = {1}})
  assert(peer.heads[2]:find "^POST /top HTTP")
  t:raises(function() api:get "http://127.0.0.1:1/" end, "usage", "other hosts")
  t:equal(#peer.heads, 2)
end)

-- ---------------------------------------------------------------- permissions

--- Run a text in a secrun of its own, limited by flags; "" or its error.
local function limited(flags, text)
  local words = {}
  for _, flag in ipairs(flags) do words[#words + 1] = flag end
  words[#words + 1] = "-e"
  words[#words + 1] = "local ok, err = pcall(function() " .. text ..
    " end) print(ok or err.kind .. ': ' .. err.message)"
  return program.run(words).stdout
end

test("permissions: the name, every redirect, the address, the proxy", function(t)
  local peer
  local other = peers.start(t, always(reply(200, "other")))
  peer = peers.start(t, function(conn, head)
    conn:write(head:find "^GET /away" and reply(302, "", {"Location: " .. other.url})
      or reply(200, "here"))
  end)
  local get = ("require('http').get('%s%%s', {%%s})"):format(peer.url)
  local allow = "--allow-net=" .. peer.host
  t:equal(limited({allow}, get:format("/", "")), "true\n")
  local said = limited({allow}, get:format("/away", ""))
  assert(said:find("^denied: .*" .. other.port), said)
  t:equal(#other.heads, 0)
  said = limited({"--allow-net=127.0.0.1:1"}, get:format("/", ""))
  assert(said:find "^denied: .*%-%-allow%-net", said)
  said = limited({"--deny-net=127.0.0.0/8"},
    ("require('http').get('http://localhost:%d/')"):format(peer.port))
  assert(said:find "^denied", said)
  said = limited({allow}, get:format("/", "proxy = '" .. other.url .. "'"))
  assert(said:find("^denied: .*" .. other.port), said)
  said = limited({"--allow-read=/nowhere"}, get:format("/", "ca = '/etc/hostname'"))
  assert(said:find "^denied: .*%-%-allow%-read", said)
  said = limited({"--allow-write=/nowhere"}, get:format("/", "sink = {file = '/tmp/x'}"))
  assert(said:find "^denied: .*%-%-allow%-write", said)
end)
