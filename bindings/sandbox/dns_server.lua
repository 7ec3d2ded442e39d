--- An authoritative DNS server for tests and the sandbox: UDP and TCP on loopback, records
--- that come and go while it serves, faults by request, a log of every query.
--
--     local server <close> = dns_server.start{zones = {["example.test"] = {}}}
--     server:set("www.example.test", "A", "192.0.2.1", 60)
--     dns.query{name = "www.example.test", servers = server.address}
--     server:fault{kind = "servfail", name = "www.example.test", times = 2}

local args = require "args"
local core = require "dns.core"
local errors = require "errors"
local log = require "log"
local query = require "dns_query"
local stream = require "stream"
local task = require "task"
local time = require "time"
local update = require "dns_server_update"
local zone_data = require "dns_zone_data"

local dns_server = {}

---@class sandbox.DnsServer
---@field address string "127.0.0.1:port", as servers= takes it
---@field port integer the same for all hosts and both transports
---@field hosts string[]
---@field log {name: string, type: string, transport: string, rcode: string?, fault: string?, at: number, from: string, opcode: string, edns: integer?}[]
local Server = {}
Server.__index = Server

local LOG_MAX = 10000
local IDLE = "10s"
local FOREVER = 9e8 -- seconds

-------------------------------------------------------------------- records

local function zone_of(self, name)
  while name do
    if self.zones[name] then return self.zones[name] end
    name = query.parent(name)
  end
end

local function need_zone(self, name)
  local zone = zone_of(self, name)
  if zone then return zone end
  errors.raise("usage", ("dns_server: no zone holds %s; add it with server:zone(name)")
    :format(name), {code = "NO_ZONE"})
end

--- Check a value as the wire would: a wrong one raises here and not at the first query.
local function canonical(name, kind, value)
  if kind == "TXT" then
    core.encode{question = {name = name, type = kind},
      answer = {{name = name, type = kind, text = value}}}
    return value
  end
  local wire = core.encode{question = {name = name, type = kind},
    answer = {{name = name, type = kind, value = value}}}
  return core.decode(wire).answer[1].value
end

--- Serve a zone from now on; its own NS records are made from `ns`.
---@param name string
---@param options {ns: string[]?, ttl: integer?, negative_ttl: integer?, keys: userdata[]?}?
---@return sandbox.Zone
function Server:zone(name, options)
  options = args.check("dns_server:zone", {
    {name = "ns", type = "list", nonempty = true, choices = "string", doc = "names"},
    {name = "ttl", type = "integer", doc = "of records, 300"},
    {name = "negative_ttl", type = "integer", doc = "of absences, 60"},
    {name = "serial", type = "integer", doc = "to begin with, 1"},
    {name = "mail", type = "string", doc = "of the SOA record"},
    {name = "keys", type = "list", doc = "TSIG keys that may change it"},
  }, options)
  name = core.name(name)
  local zone = zone_data.new(name, options)
  zone.keys = options.keys
  self.zones[name] = zone
  return zone
end

--- Put records in the place of all of that name and type. values: a text or a list; of TXT
--- the raw text, else words of a zone file. Raises usage (no such zone, a bad value).
---@param name string
---@param kind string
---@param values string|string[]
---@param ttl integer?
function Server:set(name, kind, values, ttl)
  name, kind = core.name(name), core.type(kind)
  local zone, list = need_zone(self, name), {}
  for i, value in ipairs(type(values) == "table" and values or {values}) do
    list[i] = canonical(name, kind, value)
  end
  zone:set(name, kind, list, ttl)
end

--- Add one value beside those there are.
function Server:add(name, kind, value, ttl)
  name, kind = core.name(name), core.type(kind)
  need_zone(self, name):add(name, kind, canonical(name, kind, value), ttl)
end

--- Remove one value, all of a type (value nil) or all of a name (type nil).
function Server:remove(name, kind, value)
  name, kind = core.name(name), kind and core.type(kind)
  need_zone(self, name):remove(name, kind, value and canonical(name, kind, value))
end

--- The values of a name and type, as they were set.
---@return string[]
function Server:values(name, kind)
  name = core.name(name)
  local set = (need_zone(self, name).nodes[name] or {})[core.type(kind)]
  return table.move(set and set.values or {}, 1, #(set and set.values or {}), 1, {})
end

-------------------------------------------------------------------- faults

local FAULT = {
  {name = "kind", type = "enum", required = true, doc = "what goes wrong",
    choices = "servfail|refused|notimp|formerr|drop|slow|truncate|wrong_id|"
      .. "wrong_question|lame|garbage|close|no_edns|tsig"},
  {name = "name", type = "string", doc = "only for this name and names below"},
  {name = "type", type = "string", doc = "only for this type"},
  {name = "opcode", type = "enum", choices = "QUERY|UPDATE", doc = "only for this one"},
  {name = "transport", type = "enum", choices = "udp|tcp", doc = "only over this one"},
  {name = "times", type = "integer", positive = true, doc = "then no more"},
  {name = "delay", type = "duration", doc = "of slow, 1s"},
  {name = "error", type = "enum", choices = "BADSIG|BADKEY|BADTIME", doc = "of tsig"},
}

--- Let something go wrong. Kinds: servfail, refused, notimp, formerr (that answer), drop
--- (none), slow (late by `delay`), truncate (TC over UDP), wrong_id, wrong_question, lame
--- (not authoritative, nothing in it), garbage (no DNS), close (TCP: ends), no_edns
--- (FORMERR to EDNS), tsig (answers an update with `error`).
---@param options table kind, name, type, opcode, transport, times, delay, error
---@return table fault its `hits` counts
function Server:fault(options)
  local fault = args.check("dns_server:fault", FAULT, options)
  fault.name = fault.name and core.name(fault.name)
  fault.type = fault.type and core.type(fault.type)
  fault.hits = 0
  self.faults[#self.faults + 1] = fault
  return fault
end

--- End all faults.
function Server:heal() self.faults = {} end

local function fault_for(self, message, transport)
  local question = message.question
  for _, fault in ipairs(self.faults) do
    if (not fault.name or query.within(question.name, fault.name))
      and (not fault.type or fault.type == question.type)
      and (not fault.opcode or fault.opcode == message.opcode)
      and (not fault.transport or fault.transport == transport)
      and (fault.kind ~= "no_edns" or message.edns)
      and (fault.kind ~= "tsig" or message.opcode == "UPDATE")
      and (fault.kind ~= "truncate" or transport == "udp")
      and (not fault.times or fault.hits < fault.times)
    then
      fault.hits = fault.hits + 1
      return fault
    end
  end
end

-------------------------------------------------------------------- answering

--- Bytes a client takes: 512 without EDNS, at most 4096.
local function room(message, transport)
  if transport == "tcp" then return 65535 end
  return math.min(math.max(message.edns and message.edns.size or 512, 512), 4096)
end

local RCODES = {servfail = "SERVFAIL", refused = "REFUSED", notimp = "NOTIMP",
  formerr = "FORMERR", no_edns = "FORMERR"}

local function reply(message, transport, said)
  return core.encode{
    id = said.id or message.id, response = true, opcode = message.opcode,
    question = said.question or message.question, rcode = said.rcode,
    flags = {aa = said.authoritative, rd = message.flags.rd, tc = said.tc},
    answer = said.answer, authority = said.authority, additional = said.additional,
    edns = message.edns and not said.no_edns and 1232 or nil,
    max = room(message, transport),
  }
end

--- What the zones say; aliases are followed through all zones served here.
local function lookup(self, question)
  local zone = zone_of(self, question.name)
  if not zone then return {rcode = "REFUSED"} end
  local said = zone:lookup(question.name, question.type)
  for _ = 1, 8 do
    local next_zone = said.alias and zone_of(self, said.alias)
    if not next_zone then break end
    local more = next_zone:lookup(said.alias, question.type)
    table.move(more.answer, 1, #more.answer, #said.answer + 1, said.answer)
    said.rcode, said.alias, said.authority = more.rcode, more.alias, more.authority
  end
  return said
end

local function faulty(message, said, fault)
  local kind = fault.kind
  if RCODES[kind] then return {rcode = RCODES[kind], no_edns = kind == "no_edns"} end
  if kind == "truncate" then
    return {rcode = "NOERROR", tc = true, authoritative = true}
  end
  if kind == "lame" then return {rcode = "NOERROR"} end
  if kind == "wrong_id" then
    said.id = (message.id + 1) & 0xffff
  elseif kind == "wrong_question" then
    said.question = {name = "other." .. message.question.name,
      type = message.question.type}
  end
  return said
end

local function note(self, message, transport, from, fault)
  local entry = {name = message.question.name, type = message.question.type,
    opcode = message.opcode, transport = transport, at = time.now(), from = from,
    edns = message.edns and message.edns.size, fault = fault and fault.kind}
  if #self.log >= LOG_MAX then table.remove(self.log, 1) end
  self.log[#self.log + 1] = entry
  return entry
end

--- The bytes to send for the bytes received; nil: none.
local function answer(self, wire, transport, from)
  local message = try(core.decode, wire)
  if not message or message.response or not message.question then return nil end
  local fault = fault_for(self, message, transport)
  local entry = note(self, message, transport, from, fault)
  local kind = fault and fault.kind
  if kind == "drop" or kind == "close" then return nil end
  if kind == "garbage" then return "this is no DNS message" end
  if kind == "slow" then task.sleep(fault.delay or "1s") end
  if message.opcode == "UPDATE" and not RCODES[kind] then
    local zone = self.zones[message.question.name]
    local bytes, rcode = update.answer(zone, wire, message, fault)
    entry.rcode = rcode
    return bytes
  end
  local said = message.opcode == "QUERY" and lookup(self, message.question)
    or {rcode = "NOTIMP"}
  if fault then said = faulty(message, said, fault) end
  entry.rcode = said.rcode
  return reply(message, transport, said)
end

-------------------------------------------------------------------- serving

--- A defect of ours or of a test's record must be seen, and must not end the server.
local function guarded(self, ...)
  local ok, bytes = pcall(answer, self, ...)
  if ok then return bytes end
  if not self.closed then log.error("dns_server: %s", tostring(bytes)) end
end

local function serve_udp(self, socket)
  local group <close> = task.group{limit = 256}
  while not self.closed do
    local data, from = socket:recv{timeout = FOREVER}
    group:spawn(function()
      local bytes = guarded(self, data, "udp", tostring(from))
      if bytes and not socket.closed then socket:send(bytes, from) end
    end)
  end
end

local function serve_client(self, conn)
  while not self.closed do
    local head = try(conn.read, conn, 2, {timeout = IDLE})
    local data = head and try(conn.read, conn, (">I2"):unpack(head), {timeout = IDLE})
    local bytes = data and guarded(self, data, "tcp", tostring(conn.peer))
    if not bytes then return end
    conn:write(string.pack(">s2", bytes))
  end
end

local function serve_tcp(self, listener)
  local group <close> = task.group{limit = 256}
  while not self.closed do
    local conn = listener:accept()
    group:spawn(function()
      local held <close> = conn
      local ok, err = pcall(serve_client, self, held)
      if not ok then log.debug("dns_server: %s", tostring(err)) end
    end)
  end
end

--- End: sockets and tasks are gone when it returns. Closing twice is fine.
function Server:close()
  if self.closed then return end
  self.closed = true
  for _, socket in ipairs(self.sockets) do socket:close() end
  for _, running in ipairs(self.tasks) do
    running:cancel()
    try(running.join, running)
  end
end

Server.__close = function(self) self:close() end

function Server:__tostring() return "dns_server " .. self.address end

--- Open every socket on one port; nil when somebody else has it on one of the hosts.
local function open(self, port)
  for _, host in ipairs(self.hosts) do
    local listener, err = try(stream.listen, {host = host, port = port})
    local socket
    if listener then
      port = listener.port
      socket, err = try(stream.udp, {host = host, port = port})
    end
    self.sockets[#self.sockets + 1] = listener
    self.sockets[#self.sockets + 1] = socket
    if not socket then
      for _, each in ipairs(self.sockets) do each:close() end
      self.sockets = {}
      if err.kind == "conflict" then return nil, err end
      error(err, 0)
    end
  end
  return port
end

local START = {
  {name = "host", type = "string", nonempty = true, doc = "127.0.0.1"},
  {name = "hosts", type = "list", nonempty = true, choices = "string",
    doc = "several, all on one port"},
  {name = "port", type = "integer", max = 65535, doc = "0: any free one"},
  {name = "zones", type = "table", doc = "name → options of server:zone"},
}

--- Start a server; it serves until closed. `host` ("127.0.0.1") or `hosts`, `port` (0: any
--- that is free on all of them, for UDP and TCP), `zones` (name → options of server:zone).
--- Raises usage; conflict, io when it cannot listen.
---@param options table?
---@return sandbox.DnsServer
function dns_server.start(options)
  options = args.check("dns_server.start", START, options)
  local hosts = options.hosts or {options.host or "127.0.0.1"}
  local self = setmetatable({zones = {}, faults = {}, log = {}, hosts = hosts,
    sockets = {}, tasks = {}}, Server)
  for name, each in pairs(options.zones or {}) do self:zone(name, each) end
  local port, err
  for _ = 1, 20 do
    port, err = open(self, options.port or 0)
    if port or (options.port or 0) ~= 0 then break end
  end
  if not port then error(err, 0) end
  self.port = port
  self.address = (hosts[1]:find(":", 1, true) and "[%s]:%d" or "%s:%d"):format(hosts[1],
    port)
  for i = 1, #self.sockets, 2 do
    local listener, socket = self.sockets[i], self.sockets[i + 1]
    self.tasks[#self.tasks + 1] = task.daemon(function()
      local ok, why = pcall(serve_tcp, self, listener)
      if not ok and not self.closed then error(why, 0) end
    end)
    self.tasks[#self.tasks + 1] = task.daemon(function()
      local ok, why = pcall(serve_udp, self, socket)
      if not ok and not self.closed then error(why, 0) end
    end)
  end
  return self
end

return dns_server
