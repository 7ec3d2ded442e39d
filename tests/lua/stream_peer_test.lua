--- Streams against peers outside this process: openssl's client and server, and a second
--- secrun under permissions.

local process = require "process"
local stream = require "stream"
local task = require "task"
local time = require "time"
local certs = require "stream_certs"

local function file(t, text)
  local path = t:tmpdir() .. "/file"
  local f <close> = assert(io.open(path, "w"))
  f:write(text)
  return path
end

local function client(t, port, ...)
  return process.run{argv = {"openssl", "s_client", "-connect", "127.0.0.1:" .. port,
    "-CAfile", file(t, certs.ca), "-verify_return_error", "-quiet", ...},
    stdin = "from openssl\n", timeout = "10s"}
end

--- openssl's server that sends every line back reversed; returns the child and its port.
local function reverser(t, ...)
  local child = process.spawn{argv = {"openssl", "s_server", "-accept", "127.0.0.1:0",
    "-rev", "-cert", file(t, certs.server.cert), "-key", file(t, certs.server.key), ...}}
  t:defer(function() child:close() end)
  while true do
    local line = assert(child:read_line "10s", "openssl s_server did not start")
    local port = line:match "^ACCEPT .*:(%d+)$"
    if port then return math.tointeger(port) end
  end
end

--- A listener, and a function that serves its first client.
local function server(t, options, serve)
  local listener = stream.listen{tls = options}
  t:defer(function() listener:close() end)
  return listener, function()
    local conn <close> = listener:accept{timeout = "10s"}
    serve(conn)
  end
end

test("openssl's client reads and writes through our TLS", function(t)
  for _, version in ipairs{"-tls1_2", "-tls1_3"} do
    local listener, serve = server(t, certs.server, function(conn)
      t:equal(conn:read(), "from openssl")
      t:equal(conn:tls().servername, "localhost")
      conn:write "from secrun\n"
    end)
    local group <close> = task.group()
    group:spawn(serve)
    local result = client(t, listener.port, "-servername", "localhost", version)
    t:equal(result.status, 0)
    t:equal(result.stdout, "from secrun\n")
  end
end)

test("openssl's client does starttls for SMTP with us", function(t)
  local listener = stream.listen{}
  local group <close> = task.group()
  group:spawn(function()
    local conn <close> = listener:accept{timeout = "10s"}
    conn:write "220 mx.example.test ESMTP\r\n"
    assert(conn:read():find "^EHLO")
    conn:write "250-mx.example.test\r\n250 STARTTLS\r\n"
    t:equal(conn:read(), "STARTTLS")
    conn:write "220 go ahead\r\n"
    conn:starttls{server = true, cert = certs.server.cert, key = certs.server.key}
    t:equal(conn:read(), "from openssl")
    conn:write "250 in secret\r\n"
  end)
  local result = client(t, listener.port, "-starttls", "smtp")
  listener:close()
  assert(result.stdout:find "250 in secret", result.stdout .. result.stderr)
end)

test("we are a client of openssl's server", function(t)
  local port = reverser(t, "-alpn", "rev")
  local conn <close> = stream.connect{host = "127.0.0.1", port = port,
    tls = {ca = certs.ca, alpn = {"other", "rev"}}}
  conn:write "hello\n"
  t:equal(conn:read(), "olleh")
  t:equal(conn:tls().alpn, "rev")
end)

test("openssl's server wants our certificate and gets it", function(t)
  local port = reverser(t, "-Verify", "3", "-verify_return_error", "-CAfile",
    file(t, certs.ca))
  local conn <close> = stream.connect{host = "127.0.0.1", port = port,
    tls = {ca = certs.ca, cert = certs.client.cert, key = certs.client.key}}
  conn:write "known\n"
  t:equal(conn:read(), "nwonk")
  conn:close()
  t:raises(function()
    local other <close> = stream.connect{host = "127.0.0.1", port = port,
      tls = {ca = certs.ca}}
    other:write "unknown\n"
    other:read()
  end, "tls", "give cert and key")
end)

test("the virtual clock waits for a peer outside", function(t)
  local port = reverser(t)
  time.virtual(1600000000)
  t:defer(time.real)
  local before = time.now()
  local conn <close> = stream.connect{host = "127.0.0.1", port = port, timeout = "1s",
    tls = {ca = certs.ca}}
  for _ = 1, 20 do
    conn:write "tick\n"
    t:equal(conn:read("line", {timeout = "1s"}), "kcit")
  end
  assert(time.now() - before < 1, "virtual time stood still")
end)

test("permissions: names, addresses, any port, unix sockets", function(t)
  local script = file(t, [[
    local stream = require "stream"
    local function kind(options, fn)
      local ok, err = pcall(fn or stream.connect, options)
      print(ok and "ok" or err.kind)
    end
    kind{host = "127.0.0.1", port = 1}
    kind{host = "localhost", port = 1}
    kind{host = "example.test", port = 1}
    kind{unix = "/tmp/no-such-socket"}
    kind({}, stream.listen)
    kind({host = "::1"}, stream.listen)
    kind({port = 5353}, stream.udp)
    kind({}, function()
      local socket = stream.udp{}
      socket:send("x", "127.0.0.2", 9)
    end)
  ]])
  local secrun = assert(io.open("/proc/self/cmdline")):read("a"):match "^[^\0]+"
  local function kinds(...)
    local out = process.run{argv = {secrun, ..., script}, timeout = "20s"}.stdout
    return (out:gsub("\n", " "):gsub(" $", ""))
  end
  t:equal(kinds "--allow-net=127.0.0.1:1",
    "connect denied denied denied denied denied denied denied")
  t:equal(kinds "--allow-net=localhost,127.0.0.1",
    "connect connect denied denied ok denied ok denied")
  t:equal(kinds "--allow-net=unix:/tmp",
    "denied denied denied connect denied denied denied denied")
  t:equal(kinds "--deny-net=127.0.0.0/8,[::1],*.test",
    "denied denied denied connect denied denied denied denied")
end)
