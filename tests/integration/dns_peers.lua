--- Knot DNS and BIND on loopback, on free ports, in a temporary folder, as this user, for
--- the length of a test.
--
--     local knot = peers.knot(t, {zones = {"example.test"}})
--     dns.update{server = knot.address, zone = "example.test", key = knot.key, …}

local digest = require "digest"
local dns = require "dns"
local encoding = require "encoding"
local fs = require "fs"
local process = require "process"
local stream = require "stream"
local task = require "task"

local peers = {}

---@class test.Peer
---@field address string host:port
---@field host string
---@field port integer
---@field key userdata that may change its zones
---@field key_name string
---@field secret string base64
---@field dir string
---@field server userdata the process
local Peer = {}
Peer.__index = Peer

function Peer:log() return self.server:output() end

--- A port that is free for UDP and TCP on these hosts.
local function free_port(hosts)
  for _ = 1, 50 do
    local open, port, fits = {}, 0, true
    for _, host in ipairs(hosts) do
      local listener = try(stream.listen, {host = host, port = port})
      port = listener and listener.port or port
      local socket = listener and try(stream.udp, {host = host, port = port})
      open[#open + 1], open[#open + 2] = listener, socket
      fits = fits and socket ~= nil
    end
    for _, each in ipairs(open) do each:close() end
    if fits then return port end
  end
  error "no port is free"
end

local ZONE = [[
$ORIGIN %s.
$TTL 60
@ SOA ns1 hostmaster 1 3600 600 86400 30
%s]]

--- The text of a zone file: records are lines; without any, one server on this host.
local function zone_text(name, host, lines)
  return ZONE:format(name, lines or "@ NS ns1\nns1 A " .. host .. "\n")
end

--- Wait until it answers for its first zone, at most ten seconds.
local function wait_ready(peer, zone)
  for _ = 1, 400 do
    local answer = try(dns.query, {name = zone, type = "SOA", servers = peer.address,
      timeout = "1s", attempt = "500ms", tries = 1})
    if answer and #answer.records == 1 then return peer end
    if not peer.server.running then break end
    task.sleep(0.025)
  end
  error("the DNS server does not start:\n" .. peer:log(), 0)
end

--- Make folder, key and zone files; options: zones (names), lines (name → zone file),
--- host ("127.0.0.1"), hosts, port, algorithm.
local function prepare(t, options)
  local hosts = options.hosts or {options.host or "127.0.0.1"}
  local peer = setmetatable({dir = t:tmpdir(), hosts = hosts, host = hosts[1],
    port = options.port or free_port(hosts), key_name = "update.test",
    algorithm = options.algorithm or "hmac-sha256",
    secret = encoding.base64_encode(digest.random(32))}, Peer)
  peer.address = peer.host .. ":" .. peer.port
  peer.key = dns.key{name = peer.key_name, algorithm = peer.algorithm,
    secret = peer.secret}
  for _, zone in ipairs(options.zones) do
    fs.write(("%s/%s.zone"):format(peer.dir, zone),
      zone_text(zone, peer.host, (options.lines or {})[zone]))
  end
  return peer
end

local function start(t, peer, argv, options)
  peer.server = process.spawn{argv = argv}
  t:defer(function() peer.server:close() end)
  return wait_ready(peer, options.zones[1])
end

local KNOT = [[
server:
    rundir: "%s"
%slog:
  - target: stderr
    any: info
database:
    storage: "%s"
key:
  - id: %s
    algorithm: %s
    secret: %s
acl:
  - id: may_update
    key: %s
    action: [update, transfer]
template:
  - id: default
    storage: "%s"
    file: "%%s.zone"
    acl: may_update
zone:
]]

--- Start Knot DNS.
---@return test.Peer
function peers.knot(t, options)
  local peer = prepare(t, options)
  local listen = ""
  for _, host in ipairs(peer.hosts) do
    listen = listen .. ("    listen: %s@%d\n"):format(host, peer.port)
  end
  local text = KNOT:format(peer.dir, listen, peer.dir, peer.key_name, peer.algorithm,
    peer.secret, peer.key_name, peer.dir)
  for _, zone in ipairs(options.zones) do
    text = text .. "  - domain: " .. zone .. "\n"
  end
  fs.write(peer.dir .. "/knot.conf", text)
  return start(t, peer, {"knotd", "-c", peer.dir .. "/knot.conf"}, options)
end

local BIND = [[
options {
  directory "%s";
  listen-on port %d { %s };
  listen-on-v6 port %d { %s };
  pid-file none;
  session-keyfile "%s/session.key";
  recursion no;
  dnssec-validation no;
  notify no;
};
controls { };
key "%s" { algorithm %s; secret "%s"; };
]]

--- Start BIND, which listens on addresses that an interface has. A zone of options.closed takes no updates.
---@return test.Peer
function peers.bind(t, options)
  local peer = prepare(t, options)
  local v4, v6 = "", ""
  for _, host in ipairs(peer.hosts) do
    if host:find(":", 1, true) then
      v6 = v6 .. host .. "; "
    else
      v4 = v4 .. host .. "; "
    end
  end
  local text = BIND:format(peer.dir, peer.port, v4, peer.port, v6, peer.dir,
    peer.key_name, peer.algorithm, peer.secret)
  for _, zone in ipairs(options.zones) do
    local may = options.closed ~= zone
      and ('allow-update { key "%s"; };'):format(peer.key_name) or ""
    text = text .. ('zone "%s" { type primary; file "%s.zone"; %s };\n'):format(zone,
      zone, may)
  end
  fs.write(peer.dir .. "/named.conf", text)
  return start(t, peer, {"named", "-g", "-c", peer.dir .. "/named.conf"}, options)
end

return peers
