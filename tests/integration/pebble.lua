--- Pebble and its DNS helper on loopback, on free ports, for the length of a test.
--
--     local ca = pebble.start(t, {nonce_reject = 90})
--     local a = acme.account{directory = ca.directory, ca = ca.ca, key = key,
--       terms_agreed = true}
--     local solver = acme.http01{listen = ca.http01}

local fs = require "fs"
local http = require "http"
local json = require "json"
local process = require "process"
local task = require "task"
local time = require "time"

local pebble = {}

--- Ports that are free now; held until all are known, so that they differ.
local function free_ports(count)
  local servers, ports = {}, {}
  for i = 1, count do
    servers[i] = http.serve{listen = "127.0.0.1:0", handler = function() end}
    ports[i] = servers[i].port
  end
  for _, server in ipairs(servers) do server:close{grace = 0} end
  return table.unpack(ports)
end

--- A self-signed certificate for the API, made by openssl.
local function tls_files(dir)
  local cert, key = dir .. "/api.pem", dir .. "/api.key"
  process.run{argv = {"openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
    "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj", "/CN=pebble test",
    "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-out", cert, "-keyout", key}}
  return cert, key
end

local function environment(options)
  local env = {}
  local names = {nonce_reject = "PEBBLE_WFE_NONCEREJECT",
    authz_reuse = "PEBBLE_AUTHZREUSE", chain_length = "PEBBLE_CHAIN_LENGTH",
    alternate_roots = "PEBBLE_ALTERNATE_ROOTS", sleep_time = "PEBBLE_VA_SLEEPTIME"}
  for option, name in pairs(names) do
    if options[option] then env[name] = tostring(options[option]) end
  end
  if not options.sleep and not options.sleep_time then env.PEBBLE_VA_NOSLEEP = "1" end
  return env
end

--- Wait until it says that it listens, at most ten seconds.
local function wait_ready(ca)
  local deadline = time.mono() + 10
  while not ca:log():find("ACME directory available", 1, true) do
    if time.mono() > deadline or not ca.server.running then
      error("pebble does not start:\n" .. ca:log(), 0)
    end
    task.sleep(0.02)
  end
end

local Ca = {}
Ca.__index = Ca

--- What Pebble has logged.
function Ca:log() return self.server:output() end

--- How many certificates it has issued so far.
function Ca:issued()
  local _, count = self:log():gsub("Issued certificate serial", "")
  return count
end

--- A document of its management interface: "/roots/0", "/intermediates/0".
function Ca:management(path)
  return http.get(self.management_url .. path, {ca = self.ca}).body
end

--- Start both; they end with the test. Options: nonce_reject, authz_reuse, chain_length,
--- alternate_roots, sleep_time (numbers), sleep (the default sleeps), strict (boolean),
--- eab ({kid = base64url key}), dns (host:port of its resolver instead of the helper).
---@return table ca directory, ca (path: whom its TLS is to be trusted by), http01 (where
--- it looks for answers)
function pebble.start(t, options)
  options = options or {}
  local dir = t:tmpdir()
  local api, management, web, tls, dns, admin = free_ports(6)
  local cert, key = tls_files(dir)
  local config = dir .. "/pebble.json"
  fs.write(config, json.encode{pebble = {
    listenAddress = "127.0.0.1:" .. api,
    managementListenAddress = "127.0.0.1:" .. management,
    certificate = cert, privateKey = key, httpPort = web, tlsPort = tls,
    ocspResponderURL = "", externalAccountBindingRequired = options.eab ~= nil,
    externalAccountMACKeys = options.eab}})
  local helper = not options.dns and process.spawn{argv = {"pebble-challtestsrv",
    "-management", "127.0.0.1:" .. admin, "-dns01", "127.0.0.1:" .. dns, "-http01", "",
    "-https01", "", "-tlsalpn01", "", "-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""}}
  if helper then t:defer(function() helper:close() end) end
  local argv = {"pebble", "-config", config, "-dnsserver",
    options.dns or "127.0.0.1:" .. dns}
  if options.strict then argv[#argv + 1] = "-strict" end
  local server = process.spawn{argv = argv, env = environment(options)}
  t:defer(function() server:close() end)
  local ca = setmetatable({server = server, ca = cert, dir = dir, http_port = web,
    http01 = "127.0.0.1:" .. web, directory = ("https://127.0.0.1:%d/dir"):format(api),
    management_url = "https://127.0.0.1:" .. management}, Ca)
  wait_ready(ca)
  return ca
end

return pebble
