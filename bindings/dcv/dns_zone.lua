--- Where a name's zone begins, who serves it, and what each of them says.
--
--     local zone = zones.find(servers, "www.example.com", how)       -- zone.name, zone.soa
--     local all = zones.authoritative(servers, "www.example.com", how, 53)
--     for _, row in ipairs(zones.survey(all.servers, name, "TXT", how)) do … end
--
-- The zone of a name is the owner of the SOA record that answers for it (RFC 1034 4.2). An
-- alias is no part of that question: the SOA of a CNAME's target is not taken.

local errors = require "errors"
local exchange = require "dns_exchange"
local query = require "dns_query"
local servers = require "dns_servers"
local task = require "task"

local zones = {}

---@class dns.Zone
---@field name string the zone's name
---@field soa dns.Record
---@field ns string[] its servers' names, as the zone itself lists them
---@field negative_ttl integer how long others may remember that a name is not there
---@field servers dns.Server[]? their addresses (of authoritative)
---@field unresolved string[]? names without any address (of authoritative)

--- The SOA record that speaks for `name` in a message, or nil. Behind an alias it speaks
--- for the alias's target.
local function soa_for(message, name)
  for _, record in ipairs(message.answer) do
    if record.type == "CNAME" and record.name == name then return nil end
  end
  for _, list in ipairs{message.answer, message.authority} do
    for _, record in ipairs(list) do
      if record.type == "SOA" and query.within(name, record.name) then return record end
    end
  end
end

--- The zone that holds `name`. Raises dns (no server answers; code NO_ZONE).
---@param list dns.Server[]
---@param name string canonical
---@param how dns.How
---@return dns.Zone
function zones.find(list, name, how)
  local at = name
  while at do
    local message = exchange.ask(list, {name = at, type = "SOA"}, how)
    local soa = soa_for(message, at)
    if soa then
      local ns = {}
      local answer = query.run(list, soa.name, "NS", how, false)
      for i, record in ipairs(answer.records) do ns[i] = record.target end
      table.sort(ns)
      return {name = soa.name, soa = soa, ns = ns,
        negative_ttl = math.min(soa.ttl, soa.minimum)}
    end
    at = query.parent(at)
  end
  errors.raise("dns", ("%s: no zone found, not even the root; the servers asked (%s) "
    .. "know no SOA record"):format(name, list[1].text), {code = "NO_ZONE"})
end

--- Addresses of a host, both families asked at once; a failing family is empty unless both
--- fail.
---@param list dns.Server[]
---@param name string canonical
---@param how dns.How
---@param families integer[]? {4, 6}
---@return string[]
function zones.addresses(list, name, how, families)
  local kinds = {}
  for i, family in ipairs(families or {4, 6}) do
    kinds[i] = family == 6 and "AAAA" or "A"
  end
  local results, failed = task.each(kinds, {limit = 2}, function(kind)
    return query.run(list, name, kind, how):values()
  end)
  if #failed == #kinds then error(failed[1], 0) end
  for i in ipairs(kinds) do local _ = failed[i] end
  local all = {}
  for i in ipairs(kinds) do
    local found = results[i] or {}
    table.move(found, 1, #found, #all + 1, all)
  end
  return all
end

--- The zone of a name with the addresses of all its servers.
--- Raises dns (codes NO_ZONE, NO_SERVERS and what servers do).
---@param list dns.Server[]
---@param name string canonical
---@param how dns.How
---@param port integer of the servers found
---@param families integer[]?
---@return dns.Zone
function zones.authoritative(list, name, how, port, families)
  local zone = zones.find(list, name, how)
  zone.servers, zone.unresolved = {}, {}
  local found, failed = task.each(zone.ns, {limit = 8}, function(ns)
    return zones.addresses(list, ns, how, families)
  end)
  for i, ns in ipairs(zone.ns) do
    for _, address in ipairs(not failed[i] and found[i] or {}) do
      zone.servers[#zone.servers + 1] = servers.new(address, port, ns)
    end
    if failed[i] or #found[i] == 0 then zone.unresolved[#zone.unresolved + 1] = ns end
  end
  if #zone.servers > 0 then return zone end
  local shown = #zone.ns > 0 and table.concat(zone.ns, ", ") or "none"
  errors.raise("dns", ("%s: the zone %s has no server with an address (its NS records: "
    .. "%s)"):format(name, zone.name, shown),
    {code = "NO_SERVERS"})
end

---@class dns.Row
---@field server dns.Server
---@field values string[]? what it has
---@field rcode string?
---@field authoritative boolean?
---@field alias string? the CNAME it gives instead
---@field ttl integer?
---@field negative_ttl integer?
---@field ms number?
---@field error string? why it has not answered

local function row_of(server, name, kind, how)
  local tries = {}
  local message, err = exchange.once(server, {name = name, type = kind}, how, how.attempt,
    tries)
  if not message then return {server = server, error = tries[#tries].error,
    code = err.code} end
  local row = {server = server, rcode = message.rcode, ms = message.ms, values = {},
    authoritative = message.flags.aa, transport = message.transport}
  for _, record in ipairs(message.answer) do
    if record.name == name and record.type == kind then
      row.values[#row.values + 1] = record.text or record.value
      row.ttl = record.ttl
    elseif record.name == name and record.type == "CNAME" then
      row.alias = record.target
    end
  end
  table.sort(row.values)
  row.soa, row.negative_ttl = query.negative(message)
  if message.rcode ~= "NOERROR" and message.rcode ~= "NXDOMAIN" then
    row.error = message.rcode
  elseif not message.flags.aa then
    row.error = "it does not serve the zone (no authoritative answer)"
    row.code = "LAME"
  end
  return row
end

--- Ask every server the same, without recursion; one row each, in their order. A server
--- that does not answer is a row with an error.
---@param list dns.Server[]
---@param name string canonical
---@param kind string
---@param how dns.How
---@return dns.Row[]
function zones.survey(list, name, kind, how)
  local asking = {}
  for key, value in pairs(how) do asking[key] = value end
  asking.recursion = false
  local rows, failed = task.each(list, {limit = 32}, function(server)
    return row_of(server, name, kind, asking)
  end)
  for i in ipairs(list) do
    if failed[i] then error(failed[i], 0) end
  end
  return rows
end

return zones
