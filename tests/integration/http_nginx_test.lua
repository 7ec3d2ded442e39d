--- The HTTP client against nginx: HTTP/2 over TLS, compression, client certificates.

local fs = require "fs"
local http = require "http"
local process = require "process"
local stream = require "stream"
local task = require "task"
local x509 = require "x509"

local CONFIG = [[
daemon off; master_process off; pid %s/pid; error_log stderr warn;
events { worker_connections 512; }
http {
  access_log %s/access; client_body_temp_path %s/tmp; gzip on; gzip_types *;
  types { text/plain txt; }
  proxy_temp_path %s/tmp; fastcgi_temp_path %s/tmp; uwsgi_temp_path %s/tmp;
  scgi_temp_path %s/tmp; root %s; keepalive_requests 1000;
  server {
    listen 127.0.0.1:%d ssl http2;
    ssl_certificate %s/cert; ssl_certificate_key %s/key;
    ssl_client_certificate %s/ca; ssl_verify_client optional;
    location /who { return 200 "$ssl_client_verify $server_protocol $connection"; }
    location /slow { limit_rate 2m; alias %s/big; }
    location /gone { return 410 "it was here"; }
  }
}
]]

local function free_port()
  local listener <close> = stream.listen{}
  return listener.port
end

local function wait_for(port)
  for _ = 1, 100 do
    local conn = try(stream.connect, {host = "127.0.0.1", port = port})
    if conn then return conn:close() end
    task.sleep "50ms"
  end
  error "nginx did not start"
end

local function ca_and_leaf(dir)
  local ca_key, key = x509.key{type = "p256"}, x509.key{type = "p256"}
  local ca = x509.sign{key = ca_key, subject = {CN = "Test CA"}, is_ca = true}
  local leaf = x509.sign{issuer = ca, issuer_key = ca_key, key = key,
    subject = {CN = "localhost"}, names = {"localhost", "127.0.0.1"}}
  fs.write(dir .. "/ca", ca:pem())
  fs.write(dir .. "/cert", leaf:pem())
  fs.write(dir .. "/key", key:pem())
  local client_key = x509.key{type = "p256"}
  local client = x509.sign{issuer = ca, issuer_key = ca_key, key = client_key,
    subject = {CN = "client"}, ext_key_usage = {"clientAuth"}}
  return ca:pem(), client:pem(), client_key
end

local function nginx(t)
  local dir, port = t:tmpdir(), free_port()
  local ca, cert, key = ca_and_leaf(dir)
  fs.write(dir .. "/big", ("0123456789abcdef"):rep(1 << 17))
  fs.write(dir .. "/small.txt", "small")
  fs.write(dir .. "/conf", CONFIG:format(dir, dir, dir, dir, dir, dir, dir, dir, port,
    dir, dir, dir, dir))
  local child = process.spawn{argv = {"nginx", "-c", dir .. "/conf", "-p", dir}}
  t:defer(function() child:close() end)
  wait_for(port)
  return {url = ("https://127.0.0.1:%d"):format(port), ca = ca, cert = cert, key = key}
end

test("HTTP/2 carries a hundred requests over one connection", function(t)
  local server = nginx(t)
  local list, connections = {}, {}
  for i = 1, 100 do list[i] = i end
  local results = task.each(list, {limit = 100}, function()
    return http.get(server.url .. "/who", {ca = server.ca})
  end)
  for _, res in ipairs(results) do
    t:equal(res.http_version, "2")
    connections[res.body] = true
  end
  t:equal(#results, 100)
  local count = 0
  for _ in pairs(connections) do count = count + 1 end
  t:equal(count, 1)
  t:equal(http.get(server.url .. "/who", {ca = server.ca, http_version = "1.1"})
    .http_version, "1.1")
end)

test("a client certificate is shown, as text or as key object, and only then", function(t)
  local server = nginx(t)
  local function who(options)
    options.ca = server.ca
    return http.get(server.url .. "/who", options).body:match "^%u+"
  end
  t:equal(who{}, "NONE")
  t:equal(who{cert = server.cert, key = server.key}, "SUCCESS")
  t:equal(who{}, "NONE")
end)

test("a slow reader holds HTTP/2 back without losing bytes", function(t)
  local server = nginx(t)
  local total, other = 0, 0
  local group <close> = task.group()
  group:spawn(function()
    http.get(server.url .. "/big", {ca = server.ca, sink = function(chunk)
      total = total + #chunk
      task.sleep "2ms"
    end})
  end)
  for _ = 1, 20 do
    other = other + #http.get(server.url .. "/small.txt", {ca = server.ca}).body
  end
  group:join()
  t:equal({total, other}, {1 << 21, 100})
end)

test("compression is taken off, statuses raise", function(t)
  local server = nginx(t)
  local res = http.get(server.url .. "/big", {ca = server.ca})
  t:equal(#res.body, 1 << 21)
  t:raises(function() http.get(server.url .. "/gone", {ca = server.ca}) end, "not_found",
    "it was here")
  t:raises(function() http.get(server.url .. "/none", {ca = server.ca}) end, "not_found")
end)

test("fifty downloads cancelled over HTTP/2 leave the connection usable", function(t)
  local server = nginx(t)
  local group = task.group()
  for _ = 1, 50 do
    group:spawn(function() pcall(http.get, server.url .. "/slow", {ca = server.ca}) end)
  end
  task.sleep "100ms"
  group:cancel()
  pcall(group.close, group)
  t:equal(http.get(server.url .. "/small.txt", {ca = server.ca}).body, "small")
end)
