--- DNS: questions, zones and their servers, walks from the root, signed changes.
--
--     local dns = require "dns"
--     local answer = dns.query{name = "www.example.com", type = "AAAA"}
--     print(table.concat(answer:values(), " "), answer.ttl, answer.server, answer.ms)
--     for _, row in ipairs(dns.survey{name = "example.com", type = "TXT"}.rows) do … end
--
-- Names are absolute, with or without the dot at the end; what comes back is lower case
-- and without it. Letters beyond ASCII are refused: give the A-label (xn--…). NXDOMAIN and
-- an empty answer are answers; that nobody answers raises an error of kind "dns".

local args = require "args"
local core = require "dns.core"
local errors = require "errors"
local fs = require "fs"
local query = require "dns_query"
local servers = require "dns_servers"
local trace = require "dns_trace"
local update = require "dns_update"
local zones = require "dns_zone"

local dns = {}

-------------------------------------------------------------------- options

local COMMON = {
  {name = "servers", type = "any", doc = "address, host name or list; \"host:port\""},
  {name = "port", type = "integer", positive = true, max = 65535, doc = "53"},
  {name = "timeout", type = "duration", positive = true, doc = "in all, 10s"},
  {name = "attempt", type = "duration", positive = true, doc = "of one server, 2s"},
  {name = "tries", type = "integer", positive = true, max = 10, doc = "rounds, 2"},
  {name = "transport", type = "enum", choices = "udp|tcp", doc = "only this one"},
  {name = "udp_size", type = "integer", max = 65535, doc = "EDNS, 1232; 0: without"},
  {name = "families", type = "list", nonempty = true, doc = "{4, 6}: addresses used"},
}

local QUESTION = {
  {name = "name", type = "string", required = true, nonempty = true,
    doc = "whose records"},
  {name = "type", type = "string", nonempty = true, doc = "record type, A"},
}

--- One spec out of several lists.
local function spec(...)
  local all = {}
  for _, list in ipairs{...} do table.move(list, 1, #list, #all + 1, all) end
  return all
end

local function how_of(options)
  local function seconds(value, default)
    return value == nil and default or args.duration(value)
  end
  return {timeout = seconds(options.timeout, 10), attempt = seconds(options.attempt, 2),
    tries = options.tries or 2, transport = options.transport,
    udp_size = options.udp_size or 1232, recursion = options.recursion ~= false,
    check = options.check}
end

local function families_of(fn, options)
  for _, family in ipairs(options.families or {}) do
    if family ~= 4 and family ~= 6 then
      errors.raise("usage", ("%s: families holds 4 and 6, got %s"):format(fn,
        tostring(family)), {code = "BAD_ARGUMENT"})
    end
  end
  return options.families or {4, 6}
end

--- The servers of the options; host names among them are looked up at this machine's.
local function servers_of(options)
  local how = how_of(options)
  return servers.list(options.servers, options.port, function(name)
    local found = zones.addresses(servers.system(53), name, how)
    if #found > 0 then return found end
    errors.raise("dns", ("the DNS server %s has no address"):format(name),
      {code = "NO_SERVERS"})
  end)
end

-------------------------------------------------------------------- questions

local QUERY = spec(QUESTION, COMMON, {
  {name = "recursion", type = "boolean", doc = "let the server find the answer, true"},
  {name = "chase", type = "boolean", doc = "follow aliases, true"},
  {name = "check", type = "boolean", doc = "false: without DNSSEC validation"},
})

--- Ask for the records of a name. Options beside those of every function here:
---
--- `name`, `type` ("A"), `recursion` (true), `chase` (true: aliases are followed to their
--- end, also where a server stops in the middle), `check` (true; false sets CD).
---
--- Common options: `servers` (those of /etc/resolv.conf; an address, "host:port" or a
--- list), `port` (53, where a server is given without one), `timeout` ("10s" in all),
--- `attempt` ("2s" for one server), `tries` (2 rounds over the servers), `transport`
--- ("udp" or "tcp" only; by default UDP, and TCP on truncation and doubt), `udp_size`
--- (1232, 0: no EDNS), `families` ({4, 6}).
---
--- Raises dns (nobody answered: code TIMEOUT, SERVFAIL, REFUSED …, `tries` says who did
--- what; ALIAS_LOOP, ALIAS_CHAIN, NO_SERVERS), usage, denied.
---@param options table
---@return dns.Answer
function dns.query(options)
  options = args.check("dns.query", QUERY, options)
  local name, kind = core.name(options.name), core.type(options.type or "A")
  return query.run(servers_of(options), name, kind, how_of(options), options.chase)
end

local NAMED = spec({QUESTION[1]}, COMMON)

--- The zone that holds a name: {name=, soa=, ns=, negative_ttl=}.
--- Raises dns (NO_ZONE and what servers do), usage, denied.
---@param options {name: string} and the common options, see dns.query
---@return dns.Zone
function dns.zone(options)
  options = args.check("dns.zone", NAMED, options)
  return zones.find(servers_of(options), core.name(options.name), how_of(options))
end

local AUTHORITATIVE = spec(NAMED, {
  {name = "authority_port", type = "integer", positive = true, max = 65535,
    doc = "of the servers found, 53"},
})

--- The zone of a name with every address of every server of it (`servers`, each with
--- `ns`), and the names that have none (`unresolved`).
--- Raises dns (NO_ZONE, NO_SERVERS), usage, denied.
---@param options {name: string, authority_port: integer?} and the common options
---@return dns.Zone
function dns.authoritative(options)
  options = args.check("dns.authoritative", AUTHORITATIVE, options)
  return zones.authoritative(servers_of(options), core.name(options.name),
    how_of(options), options.authority_port or 53, families_of("dns.authoritative",
      options))
end

local SURVEY = spec(QUESTION, COMMON, {AUTHORITATIVE[#AUTHORITATIVE]}, {
  {name = "ask", type = "any", doc = "servers to ask instead of the authoritative ones"},
})

--- Ask every authoritative server of a name's zone the same question, at once, without
--- recursion: which of them says what. `rows` has one row a server address: values, ttl,
--- rcode, ms, or error. `ask` names the servers instead of finding them.
--- Raises dns (NO_ZONE, NO_SERVERS), usage, denied.
---@param options table name, type, ask, authority_port, and the common options
---@return {zone: dns.Zone?, rows: dns.Row[], agree: boolean}
function dns.survey(options)
  options = args.check("dns.survey", SURVEY, options)
  local name, kind, how = core.name(options.name), core.type(options.type or "A"),
    how_of(options)
  local zone, list
  if options.ask then
    list = servers.list(options.ask, options.authority_port or 53, function(host)
      return zones.addresses(servers_of(options), host, how)
    end)
  else
    zone = zones.authoritative(servers_of(options), name, how,
      options.authority_port or 53, families_of("dns.survey", options))
    list = zone.servers
  end
  local rows, agree, first = zones.survey(list, name, kind, how), true, nil
  for _, row in ipairs(rows) do
    local said = row.error and "error" or (row.alias or "") .. "\0" .. row.rcode .. "\0"
      .. table.concat(row.values, "\0")
    first = first or said
    agree = agree and said == first and not row.error
  end
  return {zone = zone, rows = rows, agree = agree}
end

local TRACE = spec(QUESTION, COMMON, {
  {name = "roots", type = "any", doc = "servers to begin with instead of the root's"},
  {name = "all", type = "boolean", doc = "ask every server of the last zone"},
})

--- Walk from the root to the answer, asking authoritative servers only: who said what, in
--- how many milliseconds, where it stops and why. `port` is that of all servers on the
--- way. What servers do wrong is part of the result, not an error.
---@param options table name, type, roots, all, and the common options
---@return dns.Walk
function dns.trace(options)
  options = args.check("dns.trace", TRACE, options)
  local port, families = options.port or 53, families_of("dns.trace", options)
  local roots = options.roots and servers.list(options.roots, port, function(name)
    return zones.addresses(servers_of(options), name, how_of(options), families)
  end) or trace.roots(port, families)
  return trace.run(core.name(options.name), core.type(options.type or "A"),
    {roots = roots, how = how_of(options), port = port, families = families,
      all = options.all})
end

--- The CAA records that bind a name: those of the nearest name above with any (RFC 8659
--- 3). `at` is that name, nil when nobody restricts.
--- Raises dns: a lookup that fails must not be taken for "no restriction".
---@param options {name: string} and the common options
---@return {at: string?, records: dns.Record[]}
function dns.caa(options)
  options = args.check("dns.caa", NAMED, options)
  local list, how = servers_of(options), how_of(options)
  local name = core.name((options.name:gsub("^%*%.", "")))
  while name and name ~= "." do
    local answer = query.run(list, name, "CAA", how)
    if #answer.records > 0 then return {at = name, records = answer.records} end
    name = query.parent(name)
  end
  return {records = {}}
end

--- The servers this machine is set up with.
---@return dns.Server[]
function dns.servers() return servers.system(53) end

-------------------------------------------------------------------- changes

local KEY = {
  {name = "name", type = "string", nonempty = true, doc = "of the key, as on the server"},
  {name = "algorithm", type = "string", nonempty = true, doc = "hmac-sha256"},
  {name = "secret", type = "secret", doc = "base64"},
  {name = "file", type = "string", nonempty = true, doc = "a key file of BIND or Knot"},
}

--- The parts of a key file: BIND's `key "name" { algorithm …; secret "…"; };` or the
--- `algorithm:name:secret` line of keymgr.
local function read_key(path)
  local text = fs.read(path)
  local name, body = text:match 'key%s+"?([^"%s{]+)"?%s*(%b{})'
  local algorithm = body and body:match 'algorithm%s+"?([%w-]+)'
  local value = body and body:match 'secret%s+"?([%w+/=]+)'
  if not value then
    algorithm, name, value = text:match "(hmac%-%w+):([^:%s]+):([%w+/=]+)"
  end
  if not value then
    errors.raise("usage", path .. ': is no TSIG key file; it has  key "name" { algorithm '
      .. 'hmac-sha256; secret "…"; };  or  hmac-sha256:name:secret',
      {code = "BAD_KEY_FILE"})
  end
  return {name = name, algorithm = algorithm:lower(), secret = value}
end

--- A TSIG key (RFC 8945), from its parts or from a file: `name`, `algorithm`
--- ("hmac-sha256", or -sha384, -sha512), `secret` (base64, best as a secret); or `file`.
--- Raises usage, not_found, denied.
---@param options {name: string?, algorithm: string?, secret: any, file: string?}
---@return userdata key with name and algorithm
function dns.key(options)
  options = args.check("dns.key", KEY, options)
  if options.file then
    if options.name or options.secret then
      errors.raise("usage", "dns.key: give either file or name and secret",
        {code = "BAD_ARGUMENT"})
    end
    return core.key(read_key(options.file))
  end
  return core.key(options)
end

local UPDATE = {
  {name = "server", type = "any", required = true, doc = "the primary, \"host:port\""},
  {name = "zone", type = "string", required = true, nonempty = true, doc = "its name"},
  {name = "changes", type = "list", required = true, nonempty = true, choices = "table",
    doc = "{action=\"add\"|\"remove\", name=, type=, value= or text=, ttl=}"},
  {name = "key", type = "any", doc = "from dns.key; without it the change is unsigned"},
  {name = "timeout", type = "duration", positive = true, doc = "10s"},
  {name = "transport", type = "enum", choices = "tcp|udp", doc = "tcp"},
}

local CHANGE = {
  {name = "action", type = "enum", choices = "add|remove", required = true, doc = ""},
  {name = "name", type = "string", required = true, nonempty = true, doc = "owner"},
  {name = "type", type = "string", nonempty = true, doc = "record type"},
  {name = "value", type = "string", doc = "as in a zone file"},
  {name = "text", type = "string", doc = "of TXT: any bytes"},
  {name = "ttl", type = "integer", max = 2147483647, doc = "of add, seconds"},
}

--- Change a zone by one signed UPDATE; all changes or none are done.
--- Raises auth (BADKEY, BADSIG, BADTIME, BADTRUNC, UNSIGNED), denied (REFUSED, NOTAUTH),
--- conflict, dns, connect, timeout, protocol, usage.
---@param options table server, zone, changes, key, timeout, transport
---@return dns.Message
function dns.update(options)
  options = args.check("dns.update", UPDATE, options)
  for _, change in ipairs(options.changes) do
    args.check("dns.update: change", CHANGE, change)
  end
  local zone = core.name(options.zone)
  for _, change in ipairs(options.changes) do
    if not query.within(core.name(change.name), zone) then
      errors.raise("usage", ("dns.update: %s is not in the zone %s"):format(change.name,
        zone), {code = "NOTZONE"})
    end
  end
  local how = how_of{attempt = options.timeout or 10, transport = options.transport}
  local list = servers_of{servers = {options.server}}
  for i, server in ipairs(list) do
    local answer, err = try(update.run, server, zone, options.changes,
      {key = options.key, how = how})
    if answer then return answer end
    -- only where nothing was sent is there another address to try
    if err.kind ~= "connect" or i == #list then error(err, 0) end
  end
end

--- The canonical form of a name: lower case, no dot at the end. Raises usage.
---@param text string
---@return string
function dns.name(text) return core.name(text) end

--- The name under which PTR records of an address stand; nil for what is no address.
---@param address string
---@return string?
function dns.reverse(address)
  local family = servers.family(address)
  if family == 4 then
    local a, b, c, d = address:match "(%d+)%.(%d+)%.(%d+)%.(%d+)"
    return ("%s.%s.%s.%s.in-addr.arpa"):format(d, c, b, a)
  elseif family == 6 then
    return core.reverse(address)
  end
end

--- The name above, nil above the root.
dns.parent = query.parent
--- Whether a name is a zone's or below it.
dns.within = query.within

return dns
