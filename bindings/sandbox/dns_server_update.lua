--- The server's side of UPDATE (RFC 2136) with TSIG (RFC 8945), for the sandbox.
--
--     local bytes, rcode = update.answer(zone, wire, message, fault)
--
-- Without prerequisites, which our clients do not send: a message that has some gets
-- NOTIMP. Keys are those of the zone; a zone without keys takes no updates.

local core = require "dns.core"
local query = require "dns_query"

local update = {}

local function reply(message, rcode)
  return core.encode{id = message.id, response = true, opcode = "UPDATE",
    question = message.question, rcode = rcode}
end

--- Do one change (RFC 2136 3.4.2).
local function apply(zone, record)
  local value = record.text or record.value
  if record.class == "IN" then
    zone:add(record.name, record.type, value, record.ttl)
  elseif record.class == "NONE" then
    zone:remove(record.name, record.type, value)
  elseif record.type == "ANY" then
    zone:remove(record.name)
  else
    zone:remove(record.name, record.type)
  end
end

local function run(zone, message)
  if #message.answer > 0 then return "NOTIMP" end
  for _, record in ipairs(message.authority) do
    if not query.within(record.name, zone.name) then return "NOTZONE" end
  end
  for _, record in ipairs(message.authority) do apply(zone, record) end
  return "NOERROR"
end

local function key_of(zone, name)
  for _, key in ipairs(zone.keys or {}) do
    if key.name == name then return key end
  end
end

--- The bytes to answer an UPDATE with, and the code in them.
---@param zone sandbox.Zone?
---@param wire string
---@param message dns.Message
---@param fault table?
---@return string bytes, string rcode
function update.answer(zone, wire, message, fault)
  if not zone then return reply(message, "NOTAUTH"), "NOTAUTH" end
  local signature = core.signature(wire)
  if not signature then return reply(message, "REFUSED"), "REFUSED" end
  local key = key_of(zone, signature.key)
  local forced = fault and fault.kind == "tsig" and fault.error
  if not key then
    local stranger = core.key{name = signature.key, secret = "AAAA"}
    local bytes = core.sign(reply(message, "NOTAUTH"), stranger, signature.mac, nil,
      "BADKEY")
    return bytes, "BADKEY"
  end
  local ok, err = try(core.verify, wire, key, nil, "the client")
  local code = forced or not ok and err.code
  if code then
    local at = code == "BADTIME" and signature.signed_at or nil
    local bytes = core.sign(reply(message, "NOTAUTH"), key, signature.mac, at, code)
    return bytes, code
  end
  local rcode = run(zone, message)
  return core.sign(reply(message, rcode), key, signature.mac), rcode
end

return update
