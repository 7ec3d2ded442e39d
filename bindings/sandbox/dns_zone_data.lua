--- A zone in memory: records that come and go, and what an authoritative server finds
--- there (RFC 1034 4.3.2, wildcards of RFC 4592, DNAME of RFC 6672).
--
--     local zone = zone_data.new("example.test", {ns = {"ns1.example.test"}})
--     zone:set("www.example.test", "A", {"192.0.2.1"}, 60)
--     zone:lookup("www.example.test", "A")

local query = require "dns_query"

local zone_data = {}

---@class sandbox.Zone
---@field name string
---@field serial integer goes up with every change
---@field nodes table<string, table<string, {ttl: integer, values: string[]}>>
local Zone = {}
Zone.__index = Zone

local ABSENT = {}

--- A value as a record: text for TXT, zone-file words for the rest.
local function record(name, kind, ttl, value)
  if kind == "TXT" then return {name = name, type = kind, ttl = ttl, text = value} end
  return {name = name, type = kind, ttl = ttl, value = value}
end

--- All records of one name and type, shown as those of `owner` (for wildcards).
function Zone:records(name, kind, owner)
  local set = (self.nodes[name] or ABSENT)[kind]
  local list = {}
  for i, value in ipairs(set and set.values or ABSENT) do
    list[i] = record(owner or name, kind, set.ttl, value)
  end
  return list
end

--- The SOA record; `ttl` of a negative answer is the zone's negative TTL.
function Zone:soa(negative)
  local ttl = negative and self.negative_ttl or self.ttl
  return {name = self.name, type = "SOA", ttl = ttl,
    value = ("%s %s %d 3600 600 86400 %d"):format(self.primary, self.mail, self.serial,
      self.negative_ttl)}
end

--- Names count for all names above them, so that empty ones in between exist.
local function count(self, name, change)
  while name and name ~= self.name do
    name = query.parent(name)
    if name then self.below[name] = (self.below[name] or 0) + change end
  end
end

local function exists(self, name)
  return name == self.name or self.nodes[name] ~= nil or (self.below[name] or 0) > 0
end

--- Put these records in the place of all of that name and type; none: remove them.
---@param name string canonical
---@param kind string
---@param values string[]
---@param ttl integer?
function Zone:set(name, kind, values, ttl)
  local node = self.nodes[name]
  self.serial = self.serial + 1
  if #values > 0 then
    if not node then
      node = {}
      self.nodes[name] = node
      count(self, name, 1)
    end
    node[kind] = {ttl = ttl or self.ttl, values = table.move(values, 1, #values, 1, {})}
  elseif node and node[kind] then
    node[kind] = nil
    if not next(node) then
      self.nodes[name] = nil
      count(self, name, -1)
    end
  end
end

--- Add one value to those of that name and type, unless it is there.
function Zone:add(name, kind, value, ttl)
  local set = (self.nodes[name] or ABSENT)[kind]
  local old = set and set.values or ABSENT
  local values = table.move(old, 1, #old, 1, {})
  for _, other in ipairs(values) do
    if other == value then return end
  end
  values[#values + 1] = value
  self:set(name, kind, values, ttl or set and set.ttl)
end

--- Remove one value, all of a type, or all of a name.
function Zone:remove(name, kind, value)
  local node = self.nodes[name]
  if not node then return end
  if not kind then
    local kinds = {}
    for each in pairs(node) do kinds[#kinds + 1] = each end
    for _, each in ipairs(kinds) do self:set(name, each, {}) end
  elseif node[kind] then
    local left = {}
    for _, other in ipairs(value and node[kind].values or ABSENT) do
      if other ~= value then left[#left + 1] = other end
    end
    self:set(name, kind, left, node[kind].ttl)
  end
end

--- The zone cut between the apex and the name, if there is one.
local function cut_above(self, name)
  local found
  while name ~= self.name do
    local node = self.nodes[name]
    if node and node.NS then found = name end
    name = query.parent(name)
  end
  return found
end

--- The DNAME record at a name above.
local function dname_above(self, name)
  local above = query.parent(name)
  while above and query.within(above, self.name) do
    local node = self.nodes[above]
    if node and node.DNAME then return above end
    above = query.parent(above)
  end
end

--- The node that answers for a name: its own, or the wildcard of the closest name above
--- that exists (and of no other).
local function source_of(self, name)
  if exists(self, name) then return name end
  local above = query.parent(name)
  while not exists(self, above) do above = query.parent(above) end
  local wildcard = above == "." and "*" or "*." .. above
  return self.nodes[wildcard] and wildcard or nil
end

local function join(list, more) table.move(more, 1, #more, #list + 1, list) end

local function refer(self, result, cut)
  join(result.authority, self:records(cut, "NS"))
  for _, ns in ipairs(self:records(cut, "NS")) do
    join(result.additional, self:records(ns.value, "A"))
    join(result.additional, self:records(ns.value, "AAAA"))
  end
  result.authoritative = #result.answer > 0
  return result
end

local function absent(self, result, rcode)
  result.rcode = rcode
  result.authority[1] = self:soa(true)
  return result
end

--- What the zone says to a question: {rcode=, authoritative=, answer=, authority=,
--- additional=, alias=}; alias is where the answer goes on, outside this zone.
---@param name string canonical, in the zone
---@param kind string
---@return table
function Zone:lookup(name, kind)
  local result = {rcode = "NOERROR", authoritative = true, answer = {}, authority = {},
    additional = {}}
  for _ = 1, 8 do
    local cut = cut_above(self, name)
    if cut then return refer(self, result, cut) end
    local dname = dname_above(self, name)
    local target
    if dname then
      local set = self:records(dname, "DNAME")[1]
      local front = name:sub(1, -#dname - 1)
      target = front .. set.value
      join(result.answer, {set, record(name, "CNAME", set.ttl, target)})
    else
      local source = source_of(self, name)
      if not source then return absent(self, result, "NXDOMAIN") end
      if kind == "SOA" and source == self.name then
        result.answer[#result.answer + 1] = self:soa()
        return result
      end
      local found = self:records(source, kind, name)
      if #found > 0 then
        join(result.answer, found)
        return result
      end
      local alias = self:records(source, "CNAME", name)[1]
      if not alias then return absent(self, result, "NOERROR") end
      result.answer[#result.answer + 1] = alias
      target = alias.value
    end
    name = target
    if not query.within(name, self.name) then
      result.alias = name
      return result
    end
  end
  return result
end

--- A zone. options: ns (its servers' names), ttl (of records, 300), negative_ttl (60),
--- serial (1), mail.
---@param name string canonical
---@param options {ns: string[]?, ttl: integer?, negative_ttl: integer?, serial: integer?, mail: string?}?
---@return sandbox.Zone
function zone_data.new(name, options)
  options = options or {}
  local below = name == "." and "" or "." .. name
  local ns = options.ns or {"ns1" .. below}
  local zone = setmetatable({name = name, nodes = {}, below = {},
    ttl = options.ttl or 300, negative_ttl = options.negative_ttl or 60,
    serial = (options.serial or 1) - 1, primary = ns[1],
    mail = options.mail or "hostmaster" .. below}, Zone)
  zone:set(name, "NS", ns)
  return zone
end

return zone_data
