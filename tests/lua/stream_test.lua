--- Streams without TLS: tcp, unix, udp, pairs; buffers, deadlines, cancellation, ends.

local eventually = require "eventually"
local stream = require "stream"
local task = require "task"
local time = require "time"

--- Run serve(connection) for the first client of a fresh listener, and use(connection) as
--- that client.
local function meet(options, serve, use)
  local listener <close> = stream.listen(options)
  local group <close> = task.group()
  group:spawn(function()
    local conn <close> = listener:accept{timeout = "5s"}
    serve(conn)
  end)
  local conn <close> = stream.connect(options and options.unix and {unix = options.unix}
    or {host = "127.0.0.1", port = listener.port})
  return use(conn, listener)
end

local function open_files()
  local count = 0
  for fd = 0, 4096 do
    local f = io.open("/proc/self/fdinfo/" .. fd)
    if f then
      count = count + 1
      f:close()
    end
  end
  return count
end

local function scratch(t)
  local path = os.tmpname()
  os.remove(path)
  t:defer(function() os.remove(path) end)
  return path
end

test("lines go both ways over tcp", function(t)
  meet({}, function(conn)
    t:equal(conn:read(), "hello")
    t:equal(conn:read "line", "world")
    conn:write "one\r\ntwo\n"
  end, function(conn, listener)
    t:equal(conn.peer.host, "127.0.0.1")
    t:equal(conn.peer.port, listener.port)
    t:equal(tostring(conn.peer), "127.0.0.1:" .. listener.port)
    conn:write "hello\nwor"
    conn:write "ld\n"
    t:equal(conn:read(), "one")
    t:equal(conn:read(), "two")
    t:equal(conn:read(), nil)
  end)
end)

test("a name is resolved and its addresses are tried in order", function()
  meet({}, function(conn) conn:write "x" end, function(_, listener)
    local conn <close> = stream.connect{host = "localhost", port = listener.port}
    assert(conn.peer.port == listener.port)
  end)
end)

test("blocks, separators, some and all", function(t)
  local a, b = stream.pair()
  a:write("12345--rest of it\0with a NUL")
  a:shutdown()
  t:equal(b:read(2), "12")
  t:equal(b:read(0), "")
  t:equal(b:read_until "--", "345")
  t:equal(b:read("some", {max = 4}), "rest")
  t:equal(b:read "all", " of it\0with a NUL")
  t:equal(b:read "some", nil)
  t:equal(b:read "all", "")
  t:equal(b:read(1), nil)
  a:close()
  b:close()
end)

test("an end in the middle of a line or block keeps the bytes", function(t)
  local a, b = stream.pair()
  a:write "half a line"
  a:close()
  local err = t:raises(function() b:read() end, "io", "ended the connection after 11")
  t:equal(err.code, "eof")
  t:raises(function() b:read(12) end, "io", "of a block")
  t:equal(b:read "some", "half a line")
  t:equal(b:read(), nil)
  b:close()
end)

test("lines and wholes are bounded", function(t)
  local a, b = stream.pair()
  a:write(("x"):rep(5000) .. "\n")
  local err = t:raises(function() b:read("line", {max = 1000}) end, "limit", "raise max")
  t:equal(err.code, "max")
  t:equal(#b:read("line", {max = 5000}), 5000)
  a:write(("y"):rep(2000))
  t:raises(function() b:read("all", {max = 1000}) end, "limit", "more than 1000 bytes")
  t:equal(#b:read(2000), 2000)
  a:close()
  b:close()
end)

test("a separator that arrives in pieces is found", function(t)
  local a, b = stream.pair()
  local group <close> = task.group()
  group:spawn(function()
    for piece in ("alpha\r\n\r\nbeta"):gmatch "." do
      a:write(piece)
      task.sleep(0.001)
    end
  end)
  t:equal(b:read_until "\r\n\r\n", "alpha")
  t:equal(b:read(4), "beta")
  a:close()
  b:close()
end)

test("wrong arguments are named", function(t)
  local a, b = stream.pair()
  t:raises(function() a:read "lines" end, "usage", "did you mean line")
  t:raises(function() a:read(-1) end, "usage", "number of bytes")
  t:raises(function() a:read("line", {timeot = 1}) end, "usage", "did you mean timeout")
  t:raises(function() a:write(42) end, "usage")
  t:raises(function() a:read_until "" end, "usage", "separator")
  t:raises(function() stream.connect{port = 1} end, "usage", "give host and port")
  t:raises(function() stream.connect{host = "x", port = 1, unix = "/x"} end, "usage",
    "unix stands alone")
  t:raises(function() stream.listen{host = "example.com"} end, "usage", "not an address")
  t:raises(function() stream.connect{host = "x", port = 70000} end, "usage", "65535")
  t:raises(function() stream.connect{unix = ("x"):rep(200)} end, "usage", "too long")
  t:raises(function() a.read({}) end, "usage", "expected stream.connection")
  a:close()
  b:close()
end)

test("nobody listens: kind connect, with the address and the mend", function(t)
  local listener = stream.listen{}
  local port = listener.port
  listener:close()
  local err = t:raises(function() stream.connect{host = "127.0.0.1", port = port} end,
    "connect", "connection refused; is the server running")
  t:equal(err.code, "ECONNREFUSED")
  assert(err.message:find("127.0.0.1:" .. port, 1, true))
  local path = scratch(t)
  err = t:raises(function() stream.connect{unix = path} end, "connect", "no such file")
  t:equal(err.code, "ENOENT")
end)

test("a name that does not exist: kind dns", function(t)
  local err = t:raises(function()
    stream.connect{host = "no-such-host.invalid", port = 443, timeout = "20s"}
  end, "dns", "no%-such%-host")
  assert(err.code:find "^EAI_")
end)

test("the second listener on a port is told so", function(t)
  local first <close> = stream.listen{}
  t:raises(function() stream.listen{port = first.port} end, "conflict", "another process")
end)

test("unix sockets: mode, credentials, dead and living ones", function(t)
  local path = scratch(t)
  local pid = tonumber(io.open("/proc/self/stat"):read "n")
  meet({unix = path, mode = "0600"}, function(conn)
    t:equal(conn:peer_cred().pid, pid)
    conn:write(conn:read())
  end, function(conn, listener)
    t:equal(listener.address, path)
    t:equal(conn.peer.path, path)
    local cred = conn:peer_cred()
    t:equal(cred.pid, pid)
    assert(math.type(cred.uid) == "integer" and math.type(cred.gid) == "integer")
    t:raises(function() stream.listen{unix = path} end, "conflict", "another process")
    conn:write "echo\n"
    t:equal(conn:read "some", "echo")
  end)
  assert(not io.open(path), "the socket's file is gone with its listener")
  io.open(path, "w"):close()
  t:raises(function() stream.listen{unix = path} end, "conflict", "no socket")
end)

test("tcp has no peer credentials", function(t)
  meet({}, function(conn) conn:read "some" end, function(conn)
    t:raises(function() conn:peer_cred() end, "usage", "only unix sockets")
  end)
end)

test("a datagram socket with a peer hears nobody else, and notices a refusal", function(t)
  local server <close> = stream.udp{}
  local stranger <close> = stream.udp{}
  local ports = {}
  for _ = 1, 20 do
    local client <close> = stream.udp{peer = {host = "127.0.0.1", port = server.port}}
    ports[client.port] = true
    client:send "ping"
    local _, from = server:recv()
    t:equal(from.port, client.port)
    stranger:send("forged", from)
    server:send("pong", from)
    local data, sender = client:recv()
    t:equal({data, sender.port}, {"pong", server.port})
  end
  local count = 0
  for port in pairs(ports) do
    count = count + 1
    assert(port >= 1024)
  end
  assert(count >= 19, "ports repeat")
  local gone = stream.udp{}
  local port = gone.port
  gone:close()
  local client <close> = stream.udp{peer = {host = "127.0.0.1", port = port}}
  client:send "ping"
  local err = t:raises(function() client:recv{timeout = "5s"} end, nil, "refused")
  t:equal(err.code, "ECONNREFUSED")
  t:raises(function() stream.udp{peer = {host = "a.test", port = 53}} end, "usage")
  t:raises(function() stream.udp{peer = {host = "127.0.0.1"}} end, "usage", "port")
end)

test("datagrams carry their sender", function(t)
  local a <close> = stream.udp{}
  local b <close> = stream.udp{}
  a:send("ping", "127.0.0.1", b.port)
  local data, from = b:recv()
  t:equal(data, "ping")
  t:equal(from.port, a.port)
  b:send("pong", from)
  t:equal((a:recv()), "pong")
  a:send("", "127.0.0.1", b.port)
  t:equal((b:recv()), "")
  t:raises(function() a:send(("x"):rep(70000), from) end, "limit")
  t:raises(function() a:send("x", "example.com", 53) end, "usage", "not an address")
  local err = t:raises(function() a:recv{timeout = "20ms"} end, "timeout")
  assert(err.op:find "stream.recv")
end)

test("one task receives at a time, closing wakes it", function(t)
  local socket = stream.udp{}
  local group <close> = task.group()
  local got
  group:spawn(function()
    got = t:raises(function() socket:recv() end, "io", "closed")
  end)
  task.sleep(0.01)
  t:raises(function() socket:recv() end, "usage", "one task receives")
  socket:close()
  group:close()
  t:equal(got.code, "closed")
end)

test("deadlines: read, accept, and a write nobody takes", function(t)
  local a, b = stream.pair()
  local err = t:raises(function() a:read("line", {timeout = "20ms"}) end, "timeout")
  assert(err.op:find "stream.read")
  local listener <close> = stream.listen{}
  t:raises(function() listener:accept{timeout = "20ms"} end, "timeout")
  t:raises(function() task.timeout(0.02, function() listener:accept() end) end, "timeout")
  t:raises(function() a:write(("x"):rep(4000000), {timeout = "50ms"}) end, "timeout")
  err = t:raises(function() a:write "more" end, "io", "cut off in the middle")
  t:equal(err.code, "cut_off")
  a:close()
  b:close()
end)

test("time-outs follow the virtual clock", {clock = "virtual"}, function(t)
  local a, b = stream.pair()
  local before = time.now()
  t:raises(function() a:read("line", {timeout = "10h"}) end, "timeout")
  assert(time.now() - before >= 36000 and time.now() - before < 36001)
  meet({}, function(conn) conn:write(conn:read() .. "\n") end, function(conn)
    local started = time.now()
    conn:write "quick\n"
    t:equal(conn:read(), "quick")
    assert(time.now() - started < 1, "no time passes while bytes are under way")
  end)
  a:close()
  b:close()
end)

test("a read that was cancelled leaves the bytes for the next", function(t)
  local a, b = stream.pair()
  a:write "unfinished "
  t:raises(function() b:read("line", {timeout = "20ms"}) end, "timeout")
  t:raises(function()
    task.timeout(0.02, function() b:read(100) end)
  end, "timeout")
  a:write "line\n"
  t:equal(b:read(), "unfinished line")
  a:close()
  b:close()
end)

test("a second reader is told who is first", function(t)
  local a, b = stream.pair()
  local group <close> = task.group()
  group:spawn(function() t:equal(b:read(), "for the first") end)
  task.sleep(0.01)
  local err = t:raises(function() b:read() end, "usage", "one task reads at a time")
  t:equal(err.code, "BUSY")
  a:write "for the first\n"
  task.sleep(0.01)
  a:close()
  b:close()
end)

test("closing wakes reader, writer and accept", function(t)
  local a, b = stream.pair()
  local listener = stream.listen{}
  local seen = {}
  local group <close> = task.group()
  local function expect(fn)
    group:spawn(function()
      local code = t:raises(fn, "io", "closed").code
      seen[#seen + 1] = code
    end)
  end
  expect(function() a:read() end)
  expect(function() a:write(("x"):rep(4000000)) end)
  expect(function() listener:accept() end)
  task.sleep(0.02)
  a:close()
  a:close()
  listener:close()
  group:close()
  t:equal(seen, {"closed", "closed", "closed"})
  t:equal(a.closed, true)
  t:equal(a.peer, nil)
  t:raises(function() a:write "x" end, "io", "closed")
  b:close()
end)

test("half a connection: shutdown ends our direction only", function(t)
  meet({}, function(conn)
    t:equal(conn:read "all", "question")
    conn:write "answer"
  end, function(conn)
    conn:write "question"
    conn:shutdown()
    t:raises(function() conn:write "x" end, "io", "closed")
    t:equal(conn:read "all", "answer")
  end)
end)

test("a reset is an io error, the bytes before it are kept", function(t)
  local a, b = stream.pair()
  b:write "never read"
  task.sleep(0.01)
  b:close()
  t:equal(a:read(10), "never read")
  t:raises(function()
    for _ = 1, 10 do a:write(("x"):rep(100000)) end
  end, "io")
  a:close()
end)

test("ten megabytes against a slow reader: memory stays bounded", {timeout = "60s"},
  function(t)
    local part = ("0123456789abcdef"):rep(4096)
    local total, sum = 160 * #part, 0
    local a, b = stream.pair()
    local group <close> = task.group()
    group:spawn(function()
      for _ = 1, 160 do a:write(part) end
      a:shutdown()
    end)
    collectgarbage()
    while true do
      local data = b:read("some", {max = 100000})
      if not data then break end
      sum = sum + #data
      if sum % 7 == 0 then task.sleep(0.001) end
    end
    t:equal(sum, total)
    a:close()
    b:close()
  end)

test("one write of ten megabytes, read in one piece", {timeout = "60s"}, function(t)
  local data = ("0123456789abcdef"):rep(655360)
  meet({}, function(conn) conn:write(data) end, function(conn)
    assert(conn:read(#data) == data)
    t:equal(conn:read(1), nil)
  end)
end)

test("a writer without a reader is stopped by the bounds", function(t)
  local a, b = stream.pair()
  local written = 0
  t:raises(function()
    while true do
      a:write(("x"):rep(65536), {timeout = "50ms"})
      written = written + 65536
    end
  end, "timeout")
  assert(written < 4000000, "kernel and buffers hold " .. written)
  a:close()
  b:close()
end)

test("messages of several writers are not mixed", function(t)
  local a, b = stream.pair()
  local group <close> = task.group()
  for i = 1, 4 do
    group:spawn(function() a:write((tostring(i)):rep(500000) .. "\n") end)
  end
  for _ = 1, 4 do
    local line = b:read("line", {max = 600000})
    t:equal(#line, 500000)
    assert(not line:find("[^" .. line:sub(1, 1) .. "]"), "one writer's bytes only")
  end
  task.sleep(0.01)
  a:close()
  b:close()
end)

test("two hundred connections at once, and none of them stays open", function(t)
  local before = open_files()
  do
    local listener <close> = stream.listen{}
    local group <close> = task.group()
    local served = group:spawn(function()
      local inner <close> = task.group()
      for _ = 1, 200 do
        local conn = listener:accept()
        inner:spawn(function()
          local c <close> = conn
          c:write(c:read() .. "!\n")
        end)
      end
    end)
    local done = 0
    task.each((function()
      local list = {}
      for i = 1, 200 do list[i] = i end
      return list
    end)(), {limit = 200}, function(i)
      local conn <close> = stream.connect{host = "127.0.0.1", port = listener.port}
      conn:write(i .. "\n")
      assert(conn:read() == i .. "!")
      done = done + 1
    end)
    t:equal(done, 200)
    assert(served)
  end
  eventually(function() return open_files() == before end)
  t:equal(open_files(), before)
end)

test("a connection dropped without close is closed by the collector", function(t)
  local before = open_files()
  local function drop()
    local a, b = stream.pair()
    a:write "x"
    assert(b:read "some" == "x")
  end
  for _ = 1, 20 do drop() end
  collectgarbage()
  collectgarbage()
  eventually(function() return open_files() == before end)
  t:equal(open_files(), before)
end)

test("cancelled in the middle of a connect, nothing stays", function(t)
  local before = open_files()
  local listener <close> = stream.listen{}
  for _ = 1, 20 do
    pcall(task.timeout, 0, function()
      local conn = stream.connect{host = "localhost", port = listener.port}
      conn:close()
    end)
  end
  listener:close()
  eventually(function()
    collectgarbage()
    collectgarbage()
    return open_files() == before
  end)
  t:equal(open_files(), before)
end)

test("IPv6, where the machine has it", function(t)
  local ok, listener = pcall(stream.listen, {host = "::1"})
  if not ok then
    t:equal(listener.code, "EADDRNOTAVAIL")
    return
  end
  local group <close> = task.group()
  group:spawn(function()
    local conn <close> = listener:accept()
    conn:write(conn:read() .. "\n")
  end)
  local conn <close> = stream.connect{host = "::1", port = listener.port}
  t:equal(tostring(conn.peer), "[::1]:" .. listener.port)
  conn:write "six\n"
  t:equal(conn:read(), "six")
  listener:close()
end)
