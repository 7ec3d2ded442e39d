--- The solver for dns-01 (RFC 8555 8.4): a TXT record below the name to be proven.
--
--     local solver = dns01.new{dns = {driver = "rfc2136", server = "192.0.2.53", key = key}}
--     account:issue{names = {"example.com", "*.example.com"}, solver = solver, …}
--
-- The apex and its wildcard are proven at one name with two values: values are added and
-- removed one by one, and only those of ours. An _acme-challenge that is an alias is
-- followed, and the record goes where it leads. Changes to one zone come one after the
-- other, over all tasks and states of the process. wait() returns when every authoritative
-- server shows every value; see dns_propagation.

local args = require "args"
local core = require "dns.core"
local digest = require "digest"
local driver = require "driver"
local encoding = require "encoding"
local errors = require "errors"
local gate = require "gate"
local log = require "log"
local places = require "dns_place"
local propagation = require "dns_propagation"
local servers = require "dns_servers"
local zones = require "dns_zone"

local dns01 = {}

local PREFIX = "_acme-challenge."

---@class dcv.Provider what a DNS driver makes
---@field add fun(self, record: {zone: string, name: string, value: string, ttl: integer})?
---@field remove fun(self, record: {zone: string, name: string, value: string})?
---@field values fun(self, record: {zone: string, name: string}): string[]? where only
---  whole record sets can be written: what is there
---@field replace fun(self, record: {zone: string, name: string, values: string[], ttl: integer})?

---@class dcv.Dns01
---@field type "dns-01"
local Solver = {type = "dns-01"}
Solver.__index = Solver

--- What the TXT record says (RFC 8555 8.4).
---@param key_authorization string
---@return string
function dns01.value(key_authorization)
  return encoding.base64url_encode(digest.sha256(key_authorization))
end

-------------------------------------------------------------------- changes

--- The provider can only write whole record sets: what is there, changed by one value.
local function rewrite(provider, place, value, ttl, there)
  local values = {}
  for _, other in ipairs(provider:values{zone = place.zone, name = place.name}) do
    if other ~= value then values[#values + 1] = other end
  end
  if there then values[#values + 1] = value end
  provider:replace{zone = place.zone, name = place.name, values = values, ttl = ttl}
end

--- Make the value be there or not; one change of a zone at a time.
function Solver:change(place, value, there)
  local provider, ttl = self.provider, self.options.ttl
  local guard <close> = gate.new("dns zone " .. place.zone):enter()
  if provider.replace then return rewrite(provider, place, value, ttl, there) end
  local record = {zone = place.zone, name = place.name, value = value,
    ttl = there and ttl or nil}
  if there then provider:add(record) else provider:remove(record) end
end

--- Run fn, and let its error name the domain it was about.
local function about(name, fn, ...)
  local ok, err = pcall(fn, ...)
  if ok then return err end
  err = errors.object(err)
  err.message = ("dns-01 for %s: %s"):format(name, err.message)
  error(err, 0)
end

-------------------------------------------------------------------- the solver

local function record_name(authorization)
  return core.name(PREFIX .. authorization.identifier.value)
end

local function key_of(authorization, key_authorization)
  local asked, value = record_name(authorization), dns01.value(key_authorization)
  return asked .. " " .. value, asked, value
end

--- Put the value in place. It counts from wait() on.
---@param authorization acme.Authorization
---@param _ acme.Challenge
---@param key_authorization string
function Solver:present(authorization, _, key_authorization)
  local key, asked, value = key_of(authorization, key_authorization)
  about(authorization:name(), function()
    local place = self.places:find(asked)
    local entry = self.entries[key]
    if entry then
      entry.uses = entry.uses + 1
      return
    end
    entry = {uses = 1, asked = asked, name = place.name, value = value, place = place,
      servers = place.servers}
    self.entries[key] = entry
    local ok, err = pcall(self.change, self, place, value, true)
    if not ok then
      self.entries[key] = nil
      error(err, 0)
    end
    log.debug("dns-01: %s TXT %s in the zone %s", place.name, value, place.zone)
  end)
end

--- The entries of what was presented for these, or of all; those not seen before.
function Solver:unseen(presented)
  local items, wanted = {}, nil
  for _, item in ipairs(presented or {}) do
    wanted = wanted or {}
    wanted[key_of(item.authorization, item.challenge.key_authorization)] = true
  end
  for key, entry in pairs(self.entries) do
    if not entry.seen and (not wanted or wanted[key]) then items[#items + 1] = entry end
  end
  table.sort(items, function(a, b) return a.name .. a.value < b.name .. b.value end)
  return items
end

--- Wait until every server of every zone shows what was presented (for these).
--- Raises dns (PROPAGATION: which server says what), and what servers do.
---@param presented {authorization: acme.Authorization, challenge: acme.Challenge}[]?
---@return dcv.State[][]
function Solver:wait(presented)
  local items = self:unseen(presented)
  local options = self.options
  local states = propagation.wait(items, {how = self.how, timeout = options.wait,
    poll = options.poll, tolerate = options.tolerate, resolvers = self.resolvers})
  for _, entry in ipairs(items) do entry.seen = true end
  return states
end

--- Take our value away, and no other; also one that an earlier run left behind.
function Solver:cleanup(authorization, challenge)
  local key, asked, value = key_of(authorization, challenge.key_authorization)
  local entry = self.entries[key]
  if entry and entry.uses > 1 then
    entry.uses = entry.uses - 1
    return
  end
  about(authorization:name(), function()
    self:change(entry and entry.place or self.places:find(asked), value, false)
    self.entries[key] = nil
  end)
end

-------------------------------------------------------------------- options

local OPTIONS = {
  {name = "dns", type = "any", required = true, doc = "{driver =, …}, or a provider"},
  {name = "servers", type = "any", doc = "recursive servers that find zones"},
  {name = "ask", type = "any", doc = "servers to watch instead of the zones' own"},
  {name = "resolvers", type = "any", doc = "recursive servers that must see it, too"},
  {name = "zone", type = "string", nonempty = true, doc = "instead of looking it up"},
  {name = "follow", type = "boolean", doc = "aliases of _acme-challenge, true"},
  {name = "ttl", type = "integer", positive = true, max = 86400, doc = "60"},
  {name = "wait", type = "duration", positive = true, doc = "for all servers, 5m"},
  {name = "poll", type = "duration", positive = true, doc = "first pause, 2s"},
  {name = "tolerate", type = "integer", max = 8, doc = "servers that may be dead, 1"},
  {name = "port", type = "integer", positive = true, max = 65535,
    doc = "of the zones' servers, 53"},
  {name = "families", type = "list", nonempty = true, doc = "{4, 6}"},
  {name = "attempt", type = "duration", positive = true, doc = "of one server, 2s"},
}

local function provider_of(given)
  if type(given) == "string" then given = {driver = given} end
  if type(given) == "table" and given.driver then return driver.open("dns", given) end
  if type(given) == "table" and (given.add and given.remove
    or given.values and given.replace)
  then
    return given
  end
  errors.raise("usage", "dcv: dns must be {driver = name, …} or a table with add and "
    .. "remove (or values and replace)", {code = "BAD_ARGUMENT"})
end

--- A value that stands in a file for a secret becomes text for a check.
local function without_references(settings)
  local copy = {}
  for name, value in pairs(settings) do
    local reference = type(value) == "table" and value["$secret"] ~= nil
    copy[name] = reference and "reference" or value
  end
  return copy
end

--- Whether these are options of a solver, its driver's included, without opening anything;
--- references to secrets ({["$secret"] = …}) pass. Raises usage.
---@param options table
function dns01.check(options)
  args.check("dcv.solver", OPTIONS, options)
  local given = options.dns
  if type(given) == "string" then given = {driver = given} end
  if type(given) ~= "table" or not given.driver then
    errors.raise("usage", "dns must be {driver = name, …}", {code = "BAD_ARGUMENT"})
  end
  driver.check("dns", without_references(given))
end

--- A solver. `dns` says who changes the records: {driver = "rfc2136", …} with that
--- driver's options, or a provider of your own. Split horizon: `ask` names the servers to
--- watch (and to ask for aliases) where the zones' own are not those the CA sees; `zone`
--- skips looking it up; `resolvers` must see the record before the CA is told.
--- Raises usage.
---@param options table
---@return dcv.Dns01
function dns01.new(options)
  options = args.check("dcv.solver", OPTIONS, options)
  local function seconds(value, default)
    return value and args.duration(value) or default
  end
  local how = {timeout = 15, attempt = seconds(options.attempt, 2), tries = 2,
    udp_size = 1232, recursion = true}
  local function lookup(name) return zones.addresses(servers.system(53), name, how) end
  local self = setmetatable({provider = provider_of(options.dns), entries = {}, how = how,
    options = {ttl = options.ttl or 60, wait = seconds(options.wait, 300),
      poll = seconds(options.poll, 2), tolerate = options.tolerate or 1}}, Solver)
  self.resolvers = options.resolvers and servers.list(options.resolvers, 53, lookup)
  self.places = places.new{how = how, port = options.port or 53,
    families = options.families, follow = options.follow ~= false,
    fixed = options.zone and core.name(options.zone),
    ask = options.ask and servers.list(options.ask, 53, lookup),
    list = servers.list(options.servers, 53, lookup)}
  return self
end

return dns01
