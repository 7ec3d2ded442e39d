--- Streams with TLS: verification, names, ALPN, client certificates, starttls, ends.

local eventually = require "eventually"
local stream = require "stream"
local task = require "task"
local time = require "time"
local certs = require "stream_certs"

local function merge(a, b)
  local out = {}
  for k, v in pairs(a) do out[k] = v end
  for k, v in pairs(b or {}) do out[k] = v end
  return out
end

--- One server with TLS options, serve(connection) for its first client, use(port).
local function meet(server, serve, use)
  local listener <close> = stream.listen{tls = server}
  local group <close> = task.group()
  group:spawn(function()
    local conn <close> = listener:accept{timeout = "5s"}
    serve(conn)
  end)
  return use(listener.port, listener)
end

local function connect(port, options)
  return stream.connect{host = "localhost", port = port, timeout = "10s",
    tls = merge({ca = certs.ca}, options)}
end

--- The client must fail so; the server's side of it is returned.
local function refused(t, server, client, kind, pattern)
  local seen, err
  meet(server, function(conn)
    local ok, why = pcall(conn.handshake, conn)
    seen = not ok and why or nil
  end, function(port)
    err = t:raises(function()
      local conn <close> = connect(port, client)
      conn:read()
    end, kind, pattern)
    task.sleep(0.02)
  end)
  return err, seen
end

test("TLS carries lines and tells what was agreed", function(t)
  meet(certs.server, function(conn)
    t:equal(conn:read(), "hello")
    t:equal(conn:tls().servername, "localhost")
    t:equal(conn:tls().verified, false)
    conn:write "welcome\n"
  end, function(port)
    local conn <close> = connect(port)
    conn:write "hello\n"
    t:equal(conn:read(), "welcome")
    local info = conn:tls()
    t:equal(info.version, "TLSv1.3")
    t:equal(info.verified, true)
    t:equal(info.alpn, nil)
    t:equal(#info.peer_chain, 1)
    t:equal((info.peer_chain[1]:gsub("%s", "")), (certs.server.cert:gsub("%s", "")))
    t:equal(conn:read(), nil)
  end)
end)

test("TLS 1.2 can be had, versions out of order cannot", function(t)
  meet(certs.server, function(conn) conn:write "x\n" end, function(port)
    local conn <close> = connect(port, {max_version = "1.2"})
    t:equal(conn:tls().version, "TLSv1.2")
    t:equal(conn:read(), "x")
  end)
  t:raises(function() connect(1, {min_version = "1.1"}) end, "usage", "1.2|1.3")
  t:raises(function() connect(1, {min_version = "1.3", max_version = "1.2"}) end, "usage",
    "below min_version")
end)

test("certificates are refused for what is wrong with them", function(t)
  local err, seen = refused(t, certs.expired, nil, "tls",
    "not after 2021%-01%-01T00:00:00Z")
  t:equal(err.code, "X509_V_ERR_CERT_HAS_EXPIRED")
  t:equal(seen.code, "certificate_expired")
  err = refused(t, certs.selfsigned, nil, "tls", "give it as ca")
  t:equal(err.code, "X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT")
  err = refused(t, certs.www, nil, "tls", "for www.example.test")
  t:equal(err.code, "X509_V_ERR_HOSTNAME_MISMATCH")
  err = refused(t, certs.server, {servername = "other.example.test"}, "tls",
    "other.example.test")
  t:equal(err.code, "X509_V_ERR_HOSTNAME_MISMATCH")
  err = refused(t, certs.server, {ca = certs.selfsigned.cert}, "tls", "whole chain")
  t:equal(err.code, "X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY")
end)

test("the expired one is good by a clock that says so", function(t)
  time.virtual(1600000000) -- 2020-09-13
  t:defer(time.real)
  meet(certs.expired, function(conn) conn:write "in time\n" end, function(port)
    local conn <close> = connect(port)
    t:equal(conn:read(), "in time")
  end)
end)

test("verify = false connects and says what is wrong", function(t)
  meet(certs.expired, function(conn) conn:read "some" end, function(port)
    local conn <close> = connect(port, {verify = false, ca = nil})
    local info = conn:tls()
    t:equal(info.verified, false)
    assert(info.verify_error:find "^X509_V_ERR_")
  end)
end)

test("the system's bundle does not know our CA", function(t)
  meet(certs.server, function(conn) pcall(conn.handshake, conn) end, function(port)
    t:raises(function()
      stream.connect{host = "localhost", port = port, tls = true}
    end, "tls", "X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY")
  end)
end)

test("ALPN: the server's order decides, nothing in common fails", function(t)
  meet(merge(certs.server, {alpn = {"h2", "http/1.1"}}), function(conn)
    t:equal(conn:tls().alpn, "h2")
    conn:read "some"
  end, function(port)
    local conn <close> = connect(port, {alpn = {"http/1.1", "h2"}})
    t:equal(conn:tls().alpn, "h2")
  end)
  local err, seen = refused(t, merge(certs.server, {alpn = {"h2"}}), {alpn = {"smtp"}},
    "tls", "alpn on both sides")
  t:equal(err.code, "no_application_protocol")
  t:equal(seen.code, "no_application_protocol")
end)

test("the server name chooses the certificate, also a renewed one", function(t)
  local listener <close> = stream.listen{tls = merge(certs.server, {certs = {certs.www}})}
  local group <close> = task.group()
  group:spawn(function()
    for _ = 1, 3 do
      local conn <close> = listener:accept()
      pcall(conn.read, conn)
    end
  end)
  local function chain(name)
    local conn <close> = connect(listener.port, {servername = name, verify = false})
    return (conn:tls().peer_chain[1]:gsub("%s", ""))
  end
  t:equal(chain "www.example.test", (certs.www.cert:gsub("%s", "")))
  t:equal(chain "localhost", (certs.server.cert:gsub("%s", "")))
  listener:set_tls(certs.selfsigned)
  t:equal(chain "localhost", (certs.selfsigned.cert:gsub("%s", "")))
end)

test("client certificates: shown, missing, from elsewhere", function(t)
  local server = merge(certs.server, {client_auth = "require", ca = certs.ca})
  meet(server, function(conn)
    local info = conn:tls()
    t:equal(info.verified, true)
    t:equal((info.peer_chain[1]:gsub("%s", "")), (certs.client.cert:gsub("%s", "")))
    conn:write "known\n"
  end, function(port)
    local conn <close> = connect(port, certs.client)
    t:equal(conn:read(), "known")
  end)
  local err, seen = refused(t, server, nil, "tls", "give cert and key")
  t:equal(err.code, "certificate_required")
  t:equal(seen.code, "peer_did_not_return_a_certificate")
  err, seen = refused(t, server, certs.selfsigned, "tls")
  assert(err and seen.message:find("CN=localhost", 1, true))
end)

test("a peer that speaks no TLS is named as such", function(t)
  meet(nil, function(conn) conn:write "220 mx.example.test ESMTP\r\n" end, function(port)
    local err = t:raises(function() connect(port) end, "tls", "use starttls")
    t:equal(err.code, "wrong_version_number")
  end)
  local seen
  meet(certs.server, function(conn)
    seen = t:raises(function() conn:read() end, "tls", "plain HTTP")
  end, function(port)
    local conn <close> = stream.connect{host = "127.0.0.1", port = port}
    conn:write "GET / HTTP/1.0\r\n\r\n"
    pcall(conn.read, conn)
  end)
  t:equal(seen.code, "http_request")
end)

test("a server that never answers is a time-out", function(t)
  meet(nil, function(conn) pcall(conn.read, conn, "all") end, function(port)
    local err = t:raises(function()
      stream.connect{host = "localhost", port = port, timeout = "50ms",
        tls = {ca = certs.ca}}
    end, "timeout")
    assert(err.op:find "stream.connect localhost")
  end)
end)

test("a client that never shakes hands is let go", {clock = "virtual"}, function(t)
  meet(certs.server, function(conn)
    local err = t:raises(function() conn:read("line", {timeout = "1h"}) end, "timeout")
    t:equal(err.code, "handshake")
  end, function(port)
    local conn <close> = stream.connect{host = "127.0.0.1", port = port}
    t:equal(conn:read("line", {timeout = "2h"}), nil)
  end)
end)

test("starttls on both sides, in the middle of a dialogue", function(t)
  meet(nil, function(conn)
    conn:write "220 ready\r\n"
    t:equal(conn:read(), "STARTTLS")
    conn:write "220 go\r\n"
    local info = conn:starttls(merge(certs.server, {server = true}))
    t:equal(info.servername, "localhost")
    t:equal(conn:read(), "in secret")
    conn:write "indeed\r\n"
  end, function(port)
    local conn <close> = stream.connect{host = "localhost", port = port}
    t:equal(conn:tls(), nil)
    t:equal(conn:read(), "220 ready")
    conn:write "STARTTLS\r\n"
    t:equal(conn:read(), "220 go")
    local info = conn:starttls{ca = certs.ca}
    t:equal(info.verified, true)
    conn:write "in secret\r\n"
    t:equal(conn:read(), "indeed")
    t:raises(function() conn:starttls{ca = certs.ca} end, "usage", "speaks TLS already")
  end)
end)

test("what is smuggled in before the handshake does not come out after it", function(t)
  meet(nil, function(conn)
    t:equal(conn:read(), "STARTTLS")
    conn:write "220 go\r\n"
    task.sleep(0.02)
    t:raises(function()
      conn:starttls(merge(certs.server, {server = true}))
    end, "tls", "does not speak TLS")
    t:raises(function() conn:read() end, "tls")
  end, function(port)
    local conn <close> = stream.connect{host = "localhost", port = port}
    conn:write "STARTTLS\r\nMAIL FROM:<evil@example.test>\r\n"
    t:equal(conn:read(), "220 go")
    pcall(conn.starttls, conn, {ca = certs.ca})
  end)
end)

test("starttls over a pair needs the name to verify", function(t)
  local a, b = stream.pair()
  t:raises(function() a:starttls{ca = certs.ca} end, "usage", "servername is missing")
  local group <close> = task.group()
  group:spawn(function()
    b:starttls(merge(certs.server, {server = true}))
    b:write "safe\n"
  end)
  t:equal(a:starttls{ca = certs.ca, servername = "localhost"}.verified, true)
  t:equal(a:read(), "safe")
  a:close()
  b:close()
end)

test("an end without close_notify is truncated, unless allowed", function(t)
  local function cut(options)
    local front, back = stream.pair()
    local listener <close> = stream.listen{tls = certs.server}
    local group <close> = task.group()
    local wire = stream.connect{host = "127.0.0.1", port = listener.port}
    local server = listener:accept()
    -- A relay between the client's pair and the server, cut off in the middle.
    local relay = group:spawn(function()
      local inner <close> = task.group()
      inner:spawn(function()
        while true do
          local data = back:read "some"
          if not data then return end
          wire:write(data)
        end
      end)
      while true do back:write(wire:read "some") end
    end)
    group:spawn(function()
      server:write "some data"
      task.sleep(0.05)
      relay:cancel()
      back:close()
      wire:close()
    end)
    front:starttls(merge({ca = certs.ca, servername = "localhost"}, options))
    local ok, err = pcall(front.read, front, "all")
    local rest = not ok and front:read "some" or nil
    front:close()
    pcall(server.close, server)
    return ok, err, rest
  end
  local ok, err, rest = cut()
  t:equal(ok, false)
  t:equal(err.kind, "tls")
  t:equal(err.code, "truncated")
  t:equal(rest, "some data")
  ok, err = cut{allow_truncated = true}
  t:equal(ok, true)
  t:equal(err, "some data")
end)

test("half a TLS connection: close_notify ends our direction only", function(t)
  meet(certs.server, function(conn)
    t:equal(conn:read "all", "question")
    conn:write "answer"
    conn:shutdown()
  end, function(port)
    local conn <close> = connect(port)
    conn:write "question"
    conn:shutdown()
    t:equal(conn:read "all", "answer")
  end)
end)

test("ten megabytes over TLS, both ways at once", {timeout = "60s"}, function()
  local data = ("0123456789abcdef"):rep(655360)
  meet(certs.server, function(conn)
    local group <close> = task.group()
    group:spawn(function() conn:write(data, {timeout = "50s"}) end)
    assert(conn:read(#data, {timeout = "50s"}) == data)
  end, function(port)
    local conn <close> = connect(port)
    local group <close> = task.group()
    group:spawn(function() conn:write(data, {timeout = "50s"}) end)
    assert(conn:read(#data, {timeout = "50s"}) == data)
  end)
end)

test("a cancelled TLS read keeps its bytes", function(t)
  meet(certs.server, function(conn)
    conn:write "first "
    t:equal(conn:read(), "go on")
    conn:write "second\n"
    conn:read()
  end, function(port)
    local conn <close> = connect(port)
    t:raises(function() conn:read("line", {timeout = "20ms"}) end, "timeout")
    conn:write "go on\n"
    t:equal(conn:read(), "first second")
  end)
end)

test("bad certificates and keys are told before anything is sent", function(t)
  local function listen(tls) return function() stream.listen{tls = tls} end end
  t:raises(listen{}, "usage", "needs a certificate")
  t:raises(listen{cert = certs.server.cert}, "usage", "both cert and key")
  t:raises(listen{cert = certs.server.cert, key = certs.www.key}, "usage",
    "does not belong")
  t:raises(listen{cert = "/nonexistent/x.pem", key = certs.www.key}, "not_found",
    "/nonexistent/x.pem")
  t:raises(listen(merge(certs.server, {client_auth = "require"})), "usage", "give ca")
  t:raises(listen(merge(certs.server, {cilent_auth = "none"})), "usage",
    "did you mean client_auth")
  t:raises(function() connect(1, {ca = "-----BEGIN nothing"}) end, "usage", "no PEM")
  t:raises(function() connect(1, {alpn = {""}}) end, "usage", "1 to 255 bytes")
end)

test("certificate, key and CA can be files", function(t)
  local function file(text)
    local path = os.tmpname()
    t:defer(function() os.remove(path) end)
    local f = assert(io.open(path, "w"))
    f:write(text)
    f:close()
    return path
  end
  meet({cert = file(certs.server.cert), key = file(certs.server.key)}, function(conn)
    conn:write "from files\n"
  end, function(port)
    local conn <close> = connect(port, {ca = file(certs.ca)})
    t:equal(conn:read(), "from files")
  end)
end)

test("objects of x509 serve as certificate, key and CA", function(t)
  local x509 = require "x509"
  local key = x509.read_key{pem = certs.server.key}
  local cert = x509.read(certs.server.cert)
  local ca = x509.read(certs.ca)
  meet({cert = {cert, ca}, key = key}, function(conn)
    conn:write "from objects\n"
  end, function(port)
    local conn <close> = connect(port, {ca = {ca}})
    t:equal(conn:read(), "from objects")
    t:equal(#conn:tls().peer_chain, 2)
  end)
  t:raises(function() connect(1, {ca = {}}) end, "usage", "x509.cert or a list")
  t:raises(function() connect(1, {ca = 42}) end, "usage", "got number")
  t:raises(function() connect(1, {ca = {key}}) end, "usage")
end)

test("a hundred TLS connections at once", {timeout = "60s"}, function(t)
  local listener <close> = stream.listen{tls = certs.server}
  local group <close> = task.group()
  group:spawn(function()
    local inner <close> = task.group()
    for _ = 1, 100 do
      local accepted = listener:accept()
      inner:spawn(function()
        local conn <close> = accepted
        conn:write(conn:read() .. "!\n")
        conn:read()
      end)
    end
  end)
  local list = {}
  for i = 1, 100 do list[i] = i end
  local done = 0
  task.each(list, {limit = 100}, function(i)
    local conn <close> = connect(listener.port)
    conn:write(i .. "\n")
    assert(conn:read() == i .. "!")
    done = done + 1
  end)
  t:equal(done, 100)
end)

test("two hundred TLS connections cancelled in the middle leave nothing behind",
  {timeout = "60s"}, function(t)
    local function open_files()
      local count = 0
      for fd = 0, 2048 do
        local f = io.open("/proc/self/fdinfo/" .. fd)
        if f then
          count = count + 1
          f:close()
        end
      end
      return count
    end
    local before = open_files()
    for _, delay in ipairs{0, 0.005, 0.05, 0.2} do
      pcall(task.timeout, delay, function()
        local listener <close> = stream.listen{tls = certs.server}
        local group <close> = task.group()
        for i = 1, 100 do
          group:spawn(function()
            local conn <close> = listener:accept()
            while conn:read(1000) do conn:write "on and on" end
          end)
          group:spawn(function()
            local conn <close> = connect(listener.port)
            while true do conn:write(("x"):rep(i * 1000)) end
          end)
        end
      end)
    end
    collectgarbage()
    collectgarbage()
    eventually(function() return open_files() == before end)
    t:equal(open_files(), before)
  end)
