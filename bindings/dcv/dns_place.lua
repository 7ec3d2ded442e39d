--- Where the TXT record that proves a domain belongs: its name at the end of all aliases,
--- its zone, and the servers of that zone.
--
--     local place = places:find("example.com")
--     print(place.name, place.zone, #place.servers)
--
-- The record's own name is never asked of a recursive server before it exists: whoever
-- shares that server's cache, perhaps the CA, would remember that it is not there (RFC
-- 2308). So the zone of the domain is looked up, and its servers are asked for the name.

local errors = require "errors"
local exchange = require "dns_exchange"
local gate = require "gate"
local query = require "dns_query"
local time = require "time"
local zones = require "dns_zone"

local places = {}

local ALIASES_MAX = 8
local KEPT = 60 -- seconds for which a zone's servers are not looked up again

---@class dcv.Place
---@field name string where the record goes
---@field zone string
---@field servers dns.Server[]
---@field aliases string[] the names on the way, the first included

---@class dcv.Places
local Places = {}
Places.__index = Places

--- The zone of a name and its servers, remembered for a minute by the zone's name.
function Places:zone_of(name)
  if self.fixed and query.within(name, self.fixed) then name = self.fixed end
  local found = zones.find(self.list, name, self.how)
  local guard <close> = self.gate:enter()
  local kept = self.kept[found.name]
  if kept and time.mono() - kept.at < KEPT then return kept end
  local zone = {name = found.name, at = time.mono(), negative_ttl = found.negative_ttl}
  if self.ask then
    zone.servers, zone.unresolved = self.ask, {}
  else
    local all = zones.authoritative(self.list, found.name, self.how, self.port,
      self.families)
    zone.servers, zone.unresolved = all.servers, all.unresolved
  end
  self.kept[found.name] = zone
  return zone
end

--- The zone cut below `zone` that an answer to a SOA question shows: a referral, or the
--- SOA record of the zone below where one server has both.
local function cut_in(message, zone, name)
  for _, list in ipairs{message.answer, message.authority} do
    for _, record in ipairs(list) do
      local below = record.name ~= zone and query.within(record.name, zone)
        and query.within(name, record.name)
      local cut = record.type == "SOA" or record.type == "NS" and not message.flags.aa
      if below and cut then return record.name end
    end
  end
end

local function alias_in(message, name)
  for _, record in ipairs(message.answer) do
    if record.type == "CNAME" and record.name == name then return record.target end
  end
end

--- What the zone's servers say about the name, without recursion: the zone it is in, and
--- the message. SOA is asked for, which tells aliases and cuts whatever else there is.
function Places:ask_zone(zone, name)
  local how = {}
  for key, value in pairs(self.how) do how[key] = value end
  how.recursion = false
  local question = {name = name, type = "SOA"}
  local message = exchange.ask(zone.servers, question, how)
  local cut = cut_in(message, zone.name, name)
  if not cut then return zone, message end
  zone = self:zone_of(cut)
  return zone, exchange.ask(zone.servers, question, how)
end

--- Find the place. Raises dns (ALIAS_LOOP and what servers do).
---@param name string "_acme-challenge.example.com"
---@return dcv.Place
function Places:find(name)
  local seen, aliases = {}, {}
  for _ = 1, ALIASES_MAX do
    seen[name] = true
    aliases[#aliases + 1] = name
    local zone, message = self:ask_zone(self:zone_of(query.parent(name)), name)
    local alias = self.follow and alias_in(message, name)
    if not alias then
      return {name = name, zone = zone.name, servers = zone.servers, aliases = aliases,
        unresolved = zone.unresolved}
    end
    name = alias
    if seen[name] then break end
  end
  aliases[#aliases + 1] = name
  errors.raise("dns", ("%s: the aliases run in a circle or are too many: %s"):format(
    aliases[1], table.concat(aliases, " → ")), {code = "ALIAS_LOOP"})
end

--- How to look: list (servers that find zones), how, port (of authoritative servers), ask
--- (servers to take for every zone's own), fixed (a zone that is not looked up), follow.
---@param options table
---@return dcv.Places
function places.new(options)
  return setmetatable({list = options.list, how = options.how, port = options.port,
    families = options.families, ask = options.ask, fixed = options.fixed,
    follow = options.follow, kept = {}, gate = gate.new()}, Places)
end

return places
