--- Whom to ask: server addresses as people write them, and those of this machine.
--
--     servers.list({"192.0.2.53", "[2001:db8::53]:5353"})
--     servers.list()                        -- the nameserver lines of /etc/resolv.conf
--
-- A server is {host = address, port =, text = "192.0.2.53:53"}.

local core = require "dns.core"
local errors = require "errors"
local fs = require "fs"

local servers = {}

servers.FILE = "/etc/resolv.conf"

---@class dns.Server
---@field host string an address, no name
---@field port integer
---@field text string as shown
---@field ns string? the name it was found by

local function is_v4(text)
  local parts = {text:match "^(%d+)%.(%d+)%.(%d+)%.(%d+)$"}
  for _, part in ipairs(parts) do
    if tonumber(part) > 255 then return false end
  end
  return #parts == 4
end

local function is_v6(text)
  return text:find ":.*:" ~= nil and text:find "^[%x:]+[%x:.]*%%?[%w]*$" ~= nil
end

--- Whether the text is an address, and of which family: 4, 6 or nil.
---@param text string
---@return integer?
function servers.family(text)
  return is_v4(text) and 4 or is_v6(text) and 6 or nil
end

--- A server from its address.
---@param host string
---@param port integer
---@param ns string?
---@return dns.Server
function servers.new(host, port, ns)
  local shown = is_v6(host) and ("[%s]:%d"):format(host, port) or host .. ":" .. port
  return {host = host, port = port, text = shown, ns = ns}
end

--- "host:port", "[v6]:port", "v6" or "host" → host, port.
local function split(text, port)
  local host, given = text:match "^%[([%x:.%%%w]+)%]:?(%d*)$"
  if not host and not is_v6(text) then host, given = text:match "^([^:]+):?(%d*)$" end
  if not host and is_v6(text) then host, given = text, "" end
  local number = given ~= "" and math.tointeger(tonumber(given)) or port
  if not host or not number or number < 1 or number > 65535 then
    errors.raise("usage", ("%q is no DNS server; write 192.0.2.53, 192.0.2.53:5353, "
      .. "2001:db8::53, [2001:db8::53]:5353 or a host name"):format(text),
      {code = "BAD_SERVER"})
  end
  return host, number
end

--- The nameserver lines of resolv.conf(5) and what it says of patience.
---@param text string
---@return {hosts: string[], timeout: integer?, attempts: integer?}
function servers.parse(text)
  local found = {hosts = {}}
  for line in text:gmatch "[^\r\n]+" do
    local host = line:match "^%s*nameserver%s+(%S+)"
    if host then found.hosts[#found.hosts + 1] = host end
    local rest = line:match "^%s*options%s+(.*)$"
    if rest then
      found.timeout = tonumber(rest:match "timeout:(%d+)") or found.timeout
      found.attempts = tonumber(rest:match "attempts:(%d+)") or found.attempts
    end
  end
  return found
end

--- The servers that this machine is set up with.
---@param port integer
---@return dns.Server[]
function servers.system(port)
  local text, err = try(fs.read, servers.FILE)
  if not text then
    err.message = ("which DNS servers to ask: %s; give servers = {\"address\"} (@address "
      .. "on the command line)"):format(err.message)
    error(err, 0)
  end
  local list = {}
  for _, host in ipairs(servers.parse(text).hosts) do
    if servers.family(host) then list[#list + 1] = servers.new(host, port) end
  end
  if #list > 0 then return list end
  errors.raise("dns", ("%s names no DNS server (nameserver lines); give servers = "
    .. "{\"address\"} (@address on the command line)"):format(servers.FILE),
    {code = "NO_SERVERS"})
end

--- The servers of an option: a text, a list of texts or of dns.Server, nil for those of
--- this machine. lookup(name) finds the addresses of a host name.
---@param given string|table|nil
---@param port integer?
---@param lookup fun(name: string): string[]
---@return dns.Server[]
function servers.list(given, port, lookup)
  port = port or 53
  if given == nil then return servers.system(port) end
  if type(given) == "string" then given = {given} end
  if type(given) ~= "table" or #given == 0 then
    errors.raise("usage", "dns: servers must be an address or a list of them",
      {code = "BAD_ARGUMENT"})
  end
  local list = {}
  for _, item in ipairs(given) do
    if type(item) == "table" and item.host then
      list[#list + 1] = item
    else
      local host, number = split(tostring(item), port)
      local addresses = servers.family(host) and {host} or lookup(core.name(host))
      for _, address in ipairs(addresses) do
        list[#list + 1] = servers.new(address, number,
          not servers.family(host) and host or nil)
      end
    end
  end
  return list
end

return servers
