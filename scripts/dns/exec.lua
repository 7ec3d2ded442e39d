--- Any program that can change a TXT record: one call a change.
--
--     dns = {driver = "exec", command = {"/usr/local/bin/dns-hook"},
--       env = {API_TOKEN = secret "file:/etc/secrun/token"}}
--
-- It is run as  COMMAND… add ZONE NAME VALUE TTL  and  COMMAND… remove ZONE NAME VALUE, without
-- a shell. It must leave other values of the name alone, take a repeated add for one, and a
-- remove of what is gone for done. Another exit status than 0 is a failure; what it wrote to
-- standard error is in the message.

local errors = require "errors"
local process = require "process"

local Provider = {}
Provider.__index = Provider

local function run(self, ...)
  local argv = table.move(self.command, 1, #self.command, 1, {})
  for _, word in ipairs{...} do argv[#argv + 1] = tostring(word) end
  process.run{argv = argv, timeout = self.timeout, env = self.env}
end

--- Add one TXT value to those there are.
---@param record {zone: string, name: string, value: string, ttl: integer}
function Provider:add(record)
  run(self, "add", record.zone, record.name, record.value, record.ttl)
end

--- Remove this value and no other.
---@param record {zone: string, name: string, value: string}
function Provider:remove(record)
  run(self, "remove", record.zone, record.name, record.value)
end

return {
  description = "Any program: COMMAND add|remove ZONE NAME VALUE [TTL]",
  options = {
    {name = "command", type = "list", choices = "string", required = true,
      nonempty = true, doc = "argv, {\"/usr/local/bin/dns-hook\", \"--quiet\"}"},
    {name = "env", type = "table", doc = "variables for it, values may be secrets"},
    {name = "timeout", type = "duration", positive = true, doc = "of a change, 60s"},
  },
  new = function(options)
    if not options.command[1]:find "^/" then
      errors.raise("usage", ("dns driver exec: the program is an absolute path, got %q")
        :format(options.command[1]), {code = "BAD_ARGUMENT"})
    end
    return setmetatable({command = options.command, env = options.env,
      timeout = options.timeout or "60s"}, Provider)
  end,
}
