--- The walk from the root down to the servers that answer for a name.
--
--     local walk = trace.run("www.example.com", "A", {roots = roots, how = how, port = 53})
--     for _, step in ipairs(walk.steps) do print(step.server, step.outcome, step.detail) end
--     print(walk.outcome, walk.why)
--
-- Nothing is asked of a recursive server: each zone's servers are asked in turn until one
-- gives a referral or an answer, and every one that does not is a step of its own. Servers
-- whose address no referral brought along are found by a walk of their own.

local errors = require "errors"
local exchange = require "dns_exchange"
local query = require "dns_query"
local servers = require "dns_servers"

local trace = {}

local REFERRALS_MAX, ALIASES_MAX, DEPTH_MAX = 32, 8, 4

--- The root servers: IANA's root hints, as every resolver carries them.
local ROOTS = {
  {"a.root-servers.net", "198.41.0.4", "2001:503:ba3e::2:30"},
  {"b.root-servers.net", "170.247.170.2", "2801:1b8:10::b"},
  {"c.root-servers.net", "192.33.4.12", "2001:500:2::c"},
  {"d.root-servers.net", "199.7.91.13", "2001:500:2d::d"},
  {"e.root-servers.net", "192.203.230.10", "2001:500:a8::e"},
  {"f.root-servers.net", "192.5.5.241", "2001:500:2f::f"},
  {"g.root-servers.net", "192.112.36.4", "2001:500:12::d0d"},
  {"h.root-servers.net", "198.97.190.53", "2001:500:1::53"},
  {"i.root-servers.net", "192.36.148.17", "2001:7fe::53"},
  {"j.root-servers.net", "192.58.128.30", "2001:503:c27::2:30"},
  {"k.root-servers.net", "193.0.14.129", "2001:7fd::1"},
  {"l.root-servers.net", "199.7.83.42", "2001:500:9f::42"},
  {"m.root-servers.net", "202.12.27.33", "2001:dc3::35"},
}

--- The root servers as dns.Server, IPv4 before IPv6, each family unless left out.
---@param port integer
---@param families integer[]?
---@return dns.Server[]
function trace.roots(port, families)
  local list = {}
  for _, family in ipairs(families or {4, 6}) do
    for _, root in ipairs(ROOTS) do
      list[#list + 1] = servers.new(root[family == 6 and 3 or 2], port, root[1])
    end
  end
  return list
end

---@class dns.Step
---@field zone string whose server this is
---@field name string what was asked
---@field server string
---@field ns string?
---@field ms number
---@field transport string?
---@field rcode string?
---@field outcome "referral"|"answer"|"alias"|"nxdomain"|"nodata"|"lame"|"error"
---@field detail string

---@class dns.Walk
---@field steps dns.Step[]
---@field outcome "answer"|"nxdomain"|"nodata"|"broken"
---@field why string where it stopped, and why
---@field records dns.Record[] at the end of the aliases
---@field canonical string
---@field zone string the last zone
---@field soa dns.Record? of an absence

--- The records of one owner and type among these.
local function pick(records, name, kind)
  local list = {}
  for _, record in ipairs(records) do
    if record.name == name and record.type == kind then list[#list + 1] = record end
  end
  return list
end

local function values(records)
  local list = {}
  for i, record in ipairs(records) do list[i] = record.value end
  return table.concat(list, ", ")
end

--- The zone cut that a message refers to, below `zone` and above `name`: its name and the
--- names of its servers.
local function referral(message, zone, name)
  local cut, list = nil, {}
  for _, record in ipairs(message.authority) do
    if record.type == "NS" and query.within(name, record.name)
      and query.within(record.name, zone) and record.name ~= zone
    then
      cut = cut or record.name
      if record.name == cut then list[#list + 1] = record.target end
    end
  end
  table.sort(list)
  return cut, list
end

--- Addresses that came along. Only those of names within the zone that referred: about
--- others it has nothing to say (RFC 2181 5.4.1).
local function glue(message, zone, ns, families)
  local list = {}
  for _, family in ipairs(families) do
    for _, record in ipairs(message.additional) do
      if record.name == ns and record.type == (family == 6 and "AAAA" or "A")
        and query.within(ns, zone)
      then
        list[#list + 1] = record.address
      end
    end
  end
  return list
end

--- What a message means on the way: outcome, detail, and what goes with it.
local function judge(message, zone, name, kind)
  if message.rcode ~= "NOERROR" and message.rcode ~= "NXDOMAIN" then
    return "error", message.rcode
  end
  local records = pick(message.answer, name, kind)
  if #records > 0 then return "answer", values(records), records end
  local alias = kind ~= "CNAME" and pick(message.answer, name, "CNAME")[1]
  if alias then return "alias", "→ " .. alias.target, alias.target end
  local cut, ns = referral(message, zone, name)
  if cut then return "referral", ("%s is at %s"):format(cut, table.concat(ns, ", ")),
    {cut = cut, ns = ns} end
  local soa = query.negative(message)
  if message.rcode == "NXDOMAIN" then
    return "nxdomain", ("%s does not exist (SOA %s)"):format(name, soa and soa.name or
      "missing"), soa
  end
  if soa and query.within(name, soa.name) then
    return "nodata", ("%s exists, but has no %s"):format(name, kind), soa
  end
  return "lame", "neither an answer nor a way on: it does not serve " .. zone
end

local Walk = {}
Walk.__index = Walk

function Walk:note(step)
  if not self.quiet then self.steps[#self.steps + 1] = step end
end

--- Ask one server; the step, and what the outcome carries.
function Walk:ask(server, zone, name, kind)
  local tries = {}
  local message, err = exchange.once(server, {name = name, type = kind}, self.how,
    self.how.attempt, tries)
  local step = {zone = zone, name = name, server = server.text, ns = server.ns}
  local found
  if message then
    step.ms, step.transport, step.rcode = message.ms, message.transport, message.rcode
    step.authoritative = message.flags.aa
    step.outcome, step.detail, found = judge(message, zone, name, kind)
  else
    local last = tries[#tries]
    step.outcome, step.ms, step.transport = "error", last and last.ms or 0,
      last and last.transport
    step.detail = last and last.error or err.message
  end
  self:note(step)
  return step, found, message
end

local USEFUL = {answer = true, alias = true, referral = true, nxdomain = true,
  nodata = true}

--- Ask a zone's servers until one is of use; with `all`, the others of the last zone too.
function Walk:zone(list, zone, name, kind)
  for i, server in ipairs(list) do
    local step, found, message = self:ask(server, zone, name, kind)
    if USEFUL[step.outcome] then
      if self.all and step.outcome ~= "referral" then
        for k = i + 1, #list do self:ask(list[k], zone, name, kind) end
      end
      return step.outcome, found, message
    end
  end
end

--- The servers of a cut: glue first, else a walk for each name until one has an address.
function Walk:servers(message, zone, found, depth)
  local list = {}
  for _, ns in ipairs(found.ns) do
    for _, address in ipairs(glue(message, zone, ns, self.families)) do
      list[#list + 1] = servers.new(address, self.port, ns)
    end
  end
  if #list > 0 or depth >= DEPTH_MAX then return list end
  for _, ns in ipairs(found.ns) do
    local inner = setmetatable({quiet = true, steps = {}, roots = self.roots,
      how = self.how, port = self.port, families = self.families}, Walk)
    for _, family in ipairs(self.families) do
      local end_ = inner:descend(ns, family == 6 and "AAAA" or "A", depth + 1)
      for _, record in ipairs(end_.records or {}) do
        list[#list + 1] = servers.new(record.address, self.port, ns)
      end
    end
    if #list > 0 then break end
  end
  return list
end

local function broken(zone, why)
  return {outcome = "broken", zone = zone, why = why, records = {}}
end

--- Walk down for one name; aliases are followed by walks from the root.
function Walk:descend(name, kind, depth)
  local zone, list, aliases = ".", self.roots, 0
  for _ = 1, REFERRALS_MAX do
    local outcome, found, message = self:zone(list, zone, name, kind)
    if outcome == "referral" then
      list = self:servers(message, zone, found, depth)
      if #list == 0 then
        return broken(found.cut, ("it stops at %s: none of its servers (%s) has an "
          .. "address"):format(found.cut, table.concat(found.ns, ", ")))
      end
      zone = found.cut
    elseif outcome == "alias" then
      aliases = aliases + 1
      if aliases > ALIASES_MAX then
        return broken(zone, ("it stops at %s: more than %d aliases, or a circle of them")
          :format(name, ALIASES_MAX))
      end
      name, zone, list = found, ".", self.roots
    elseif outcome == "answer" then
      return {outcome = outcome, records = found, canonical = name, zone = zone,
        why = ("%s of the zone %s answered"):format(message.server, zone)}
    elseif outcome then
      return {outcome = outcome, records = {}, canonical = name, zone = zone, soa = found,
        why = outcome == "nxdomain"
          and ("the zone %s says that %s does not exist"):format(zone, name)
          or ("the zone %s says that %s has no %s record"):format(zone, name, kind)}
    else
      return broken(zone, ("it stops at %s: none of its %d server addresses answers for "
        .. "it"):format(zone == "." and "the root" or zone, #list))
    end
  end
  return broken(zone, ("more than %d referrals"):format(REFERRALS_MAX))
end

--- Walk. roots: the servers to begin with; port: of the servers found on the way; all: at
--- the last zone, ask every server and not only the first that answers.
--- Raises denied, cancelled; what servers do is part of the result.
---@param name string canonical
---@param kind string
---@param options {roots: dns.Server[], how: dns.How, port: integer, families: integer[], all: boolean?}
---@return dns.Walk
function trace.run(name, kind, options)
  local how = {}
  for key, value in pairs(options.how) do how[key] = value end
  how.recursion = false
  if #options.roots == 0 then errors.raise("usage", "dns.trace: roots is empty") end
  local walk = setmetatable({steps = {}, roots = options.roots, how = how,
    port = options.port, families = options.families, all = options.all}, Walk)
  local result = walk:descend(name, kind, 0)
  result.steps, result.name, result.type = walk.steps, name, kind
  return result
end

return trace
