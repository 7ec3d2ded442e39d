--- Changes to a zone: UPDATE (RFC 2136), signed by TSIG (RFC 8945).
--
--     update.run(server, "example.com", {
--       {action = "add", name = "_acme-challenge.example.com", type = "TXT", text = "…",
--        ttl = 60}}, {key = key, how = how})
--
-- TCP by default: the answer to a change must not be lost, forged or cut short. A signed
-- request takes signed answers only, except that a server may say without signature that
-- it does not know our key or could not verify it.

local core = require "dns.core"
local errors = require "errors"
local exchange = require "dns_exchange"

local update = {}

---@class dns.Change
---@field action "add"|"remove" remove: the record with this value, without a value all of
---  this type, without a type all of this name
---@field name string
---@field type string?
---@field value string? as in a zone file
---@field text string? of TXT
---@field ttl integer? of add, seconds

--- One change as the record of an UPDATE message (RFC 2136 2.5).
local function record_of(change)
  local record = {name = change.name, type = change.type or "ANY", value = change.value,
    text = change.text, ttl = change.ttl or 0}
  local has_value = change.value ~= nil or change.text ~= nil
  if change.action == "add" then
    if not change.type or not has_value then
      errors.raise("usage", "dns.update: add needs type and value (text for TXT)",
        {code = "BAD_ARGUMENT"})
    end
  elseif change.action == "remove" then
    record.ttl = 0
    record.class = has_value and "NONE" or "ANY"
  else
    errors.raise("usage", ("dns.update: action must be add or remove, got %s"):format(
      tostring(change.action)), {code = "BAD_ARGUMENT"})
  end
  return record
end

--- What a server means by its response code, and what helps.
local MEANING = {
  REFUSED = {"denied", "it refuses the change: this key (or address) may not change "
    .. "these records; see its update policy"},
  NOTAUTH = {"denied", "it is not the primary server of the zone, or does not accept "
    .. "the signature"},
  NOTZONE = {"usage", "a name lies outside the zone"},
  NOTIMP = {"protocol", "it does not take updates"},
  SERVFAIL = {"dns", "it failed, and its log says why; often it cannot write "
    .. "the zone file"},
  FORMERR = {"protocol", "it finds the message malformed"},
  NXDOMAIN = {"conflict", "a name that must exist does not"},
  YXDOMAIN = {"conflict", "a name that must not exist does"},
  NXRRSET = {"conflict", "records that must exist do not"},
  YXRRSET = {"conflict", "records that must not exist do"},
}

local function refuse(zone, server, rcode)
  local meaning = MEANING[rcode] or {"dns", "it answered " .. rcode}
  errors.raise(meaning[1], ("update of %s at %s: %s [%s]"):format(zone, server.text,
    meaning[2], rcode), {code = rcode, retryable = rcode == "SERVFAIL"})
end

local function verify(wire, key, mac, zone, server)
  local ok, err = try(core.verify, wire, key, mac, server.text)
  if ok then return end
  err.message = ("update of %s: %s"):format(zone, err.message)
  error(err, 0)
end

--- Send the changes to one server. Raises auth (BADKEY, BADSIG, BADTIME, BADTRUNC,
--- UNSIGNED), denied, conflict, dns, connect, timeout, protocol, usage.
---@param server dns.Server the primary
---@param zone string
---@param changes dns.Change[]
---@param options {key: userdata?, how: dns.How}
---@return dns.Message
function update.run(server, zone, changes, options)
  local records = {}
  for i, change in ipairs(changes) do records[i] = record_of(change) end
  local wire = core.encode{opcode = "UPDATE", question = {name = zone, type = "SOA"},
    authority = records}
  local key, mac = options.key, nil
  if key then wire, mac = core.sign(wire, key) end
  local transport = options.how.transport or "tcp"
  local data, err = try(exchange.send, server, wire, transport, options.how.attempt)
  if not data then
    if type(err) ~= "table" then
      errors.raise("protocol", ("update of %s at %s: %s"):format(zone, server.text, err),
        {code = "DOUBT", retryable = true})
    end
    err.message = ("update of %s at %s: %s"):format(zone, server.text, err.message)
    error(err, 0)
  end
  local answer = core.decode(data)
  if key and (answer.signed or answer.rcode == "NOERROR") then
    verify(data, key, mac, zone, server)
  end
  if answer.rcode ~= "NOERROR" then refuse(zone, server, answer.rcode) end
  answer.server = server.text
  return answer
end

return update
