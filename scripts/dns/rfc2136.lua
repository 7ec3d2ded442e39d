--- Any server that takes DNS UPDATE (RFC 2136): BIND, Knot DNS, PowerDNS, Windows Server.
--
--     dns = {driver = "rfc2136", server = "192.0.2.53", key_file = "/etc/secrun/tsig.key"}
--
-- Each change is one message over TCP, signed by TSIG (RFC 8945). Records are added and
-- removed one by one, so those of others stay as they are.

local dns = require "dns"
local errors = require "errors"

local Provider = {}
Provider.__index = Provider

local function change(self, action, record)
  dns.update{server = self.server, zone = record.zone, key = self.key,
    timeout = self.timeout, changes = {{action = action, name = record.name, type = "TXT",
      text = record.value, ttl = action == "add" and record.ttl or nil}}}
end

--- Add one TXT value to those there are; doing it twice is doing it once.
---@param record {zone: string, name: string, value: string, ttl: integer}
function Provider:add(record) change(self, "add", record) end

--- Remove this value and no other; that it is gone already is fine.
---@param record {zone: string, name: string, value: string}
function Provider:remove(record) change(self, "remove", record) end

local function key_of(options)
  if options.key_file then return dns.key{file = options.key_file} end
  if not options.key_name then return options.key end
  if not options.key_secret then
    errors.raise("usage", "dns driver rfc2136: key_name needs key_secret",
      {code = "BAD_ARGUMENT"})
  end
  return dns.key{name = options.key_name, algorithm = options.key_algorithm,
    secret = options.key_secret}
end

return {
  description = "Servers that take DNS UPDATE, signed by TSIG",
  options = {
    {name = "server", type = "string", required = true, nonempty = true,
      doc = "the primary server of the zones, host or host:port"},
    {name = "key", type = "any", doc = "from dns.key"},
    {name = "key_file", type = "string", nonempty = true, doc = "of BIND or Knot"},
    {name = "key_name", type = "string", nonempty = true, doc = "as on the server"},
    {name = "key_algorithm", type = "string", nonempty = true, doc = "hmac-sha256"},
    {name = "key_secret", type = "secret", doc = "base64"},
    {name = "timeout", type = "duration", positive = true, doc = "of a change, 10s"},
  },
  new = function(options)
    local given = 0
    for _, name in ipairs{"key", "key_file", "key_name"} do
      if options[name] then given = given + 1 end
    end
    if given > 1 then
      errors.raise("usage",
        "dns driver rfc2136: give one of key, key_file and key_name with key_secret",
        {code = "BAD_ARGUMENT"})
    end
    return setmetatable({server = options.server, key = key_of(options),
      timeout = options.timeout}, Provider)
  end,
}
