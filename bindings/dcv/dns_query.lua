--- The answer to a question, aliases followed to their end.
--
--     local answer = query.run(servers, "www.example.com", "A", how)
--     for _, value in ipairs(answer:values()) do print(value) end
--
-- A recursive server gives the whole chain in one message; where a server stops in the
-- middle, the rest is asked for. A chain that comes back to itself, or is longer than 16,
-- is an error that shows it.

local errors = require "errors"
local exchange = require "dns_exchange"

local query = {}

local CHAIN_MAX = 16

---@class dns.Answer: dns.Message
---@field name string as asked
---@field type string as asked
---@field canonical string the name at the end of the aliases
---@field aliases dns.Record[] CNAME and DNAME records followed, in order
---@field records dns.Record[] of the type asked, at the canonical name
---@field exists boolean false: NXDOMAIN
---@field ttl integer? the lowest TTL on the way to the records
---@field negative_ttl integer? how long the absence may be remembered (RFC 2308)
---@field soa dns.Record? the SOA record of an answer without records
local Answer = {}
Answer.__index = Answer

--- The values alone: addresses, names, the text of TXT records.
---@return string[]
function Answer:values()
  local list = {}
  for i, record in ipairs(self.records) do list[i] = record.text or record.value end
  return list
end

--- Whether `name` is `zone` or below it. A dot after a backslash is part of a label.
---@param name string
---@param zone string
---@return boolean
function query.within(name, zone)
  if zone == "." or name == zone then return true end
  if name:sub(-#zone - 1) ~= "." .. zone then return false end
  return #name:sub(1, -#zone - 2):match "\\*$" % 2 == 0
end

--- The name above; nil above the root.
---@param name string
---@return string?
function query.parent(name)
  if name == "." then return nil end
  local at = 1
  while true do
    local dot = name:find(".", at, true)
    if not dot then return "." end
    local slashes = #name:sub(1, dot - 1):match "\\*$"
    if slashes % 2 == 0 then return name:sub(dot + 1) end
    at = dot + 1
  end
end

local function find(records, name, kind)
  for _, record in ipairs(records) do
    if record.name == name and record.type == kind then return record end
  end
end

--- The DNAME above a name, and what the name becomes.
local function renamed(records, name)
  for _, record in ipairs(records) do
    local below = name ~= record.name and query.within(name, record.name)
    if record.type == "DNAME" and below then
      local front = record.name == "." and name or name:sub(1, -#record.name - 2)
      return record, record.target == "." and front or front .. "." .. record.target
    end
  end
end

local function chain_error(answer, what, code)
  local names = {answer.name}
  for _, alias in ipairs(answer.aliases) do names[#names + 1] = alias.target end
  errors.raise("dns", ("%s %s: the aliases %s: %s"):format(answer.name, answer.type, what,
    table.concat(names, " → ")), {code = code})
end

--- Go from the name on along the aliases of one message. Returns the name at the end.
local function follow(answer, records, name, seen)
  while not find(records, name, answer.type) or answer.type == "CNAME" do
    local alias = answer.type ~= "CNAME" and find(records, name, "CNAME") or nil
    local target = alias and alias.target
    local dname, made = renamed(records, name)
    if dname and (not alias or alias.target == made) then alias, target = dname, made end
    if not alias then return name end
    answer.aliases[#answer.aliases + 1] = {name = name, type = alias.type,
      target = target, ttl = alias.ttl, class = alias.class, value = alias.value}
    if seen[target] then chain_error(answer, "run in a circle", "ALIAS_LOOP") end
    if #answer.aliases > CHAIN_MAX then
      chain_error(answer, ("are more than %d"):format(CHAIN_MAX), "ALIAS_CHAIN")
    end
    seen[target] = true
    name = target
  end
  return name
end

--- The SOA record that an answer without records carries, and for how long it holds.
---@param message dns.Message
---@return dns.Record? soa, integer? negative_ttl
function query.negative(message)
  for _, record in ipairs(message.authority) do
    if record.type == "SOA" then return record, math.min(record.ttl, record.minimum) end
  end
end

local function low_ttl(answer)
  local low
  for _, list in ipairs{answer.aliases, answer.records} do
    for _, record in ipairs(list) do low = math.min(low or record.ttl, record.ttl) end
  end
  return low
end

--- Take over what the last message said.
local function settle(answer, message, name)
  for key, value in pairs(message) do answer[key] = value end
  answer.canonical, answer.records = name, {}
  for _, record in ipairs(message.answer) do
    if record.name == name and (record.type == answer.type or answer.type == "ANY") then
      answer.records[#answer.records + 1] = record
    end
  end
  answer.exists = message.rcode ~= "NXDOMAIN"
  answer.ttl = low_ttl(answer)
  if #answer.records == 0 then
    answer.soa, answer.negative_ttl = query.negative(message)
  end
  return answer
end

--- Ask and follow. Raises dns, denied, cancelled.
---@param list dns.Server[]
---@param name string canonical
---@param kind string
---@param how dns.How
---@param chase boolean?
---@return dns.Answer
function query.run(list, name, kind, how, chase)
  local answer = setmetatable({name = name, type = kind, aliases = {}}, Answer)
  local at, seen, ms, tries = name, {[name] = true}, 0, {}
  while true do
    local message = exchange.ask(list, {name = at, type = kind}, how)
    table.move(message.tries, 1, #message.tries, #tries + 1, tries)
    ms = ms + message.ms
    local last = chase == false and at or follow(answer, message.answer, at, seen)
    local moved = last ~= at and not find(message.answer, last, kind)
      and message.rcode == "NOERROR" and not query.negative(message)
      and not message.flags.ra
    at = last
    if not moved then
      settle(answer, message, last)
      answer.ms, answer.tries = ms, tries
      return answer
    end
  end
end

return query
