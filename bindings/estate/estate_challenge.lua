--- How names are proven, as an estate file says it: `challenge = {…}`.
--
--     challenge = {webroot = "/var/www/html"}                       -- http-01
--     challenge = {listen = "0.0.0.0:80"}                           -- http-01
--     challenge = {dns = {driver = "rfc2136", server = "192.0.2.53",
--       key_file = "/etc/secrun/tsig.key"}, wait = "5m"}            -- dns-01, see dcv

local args = require "args"
local dcv = require "dcv"

local challenge = {}

local HTTP01 = {
  {name = "webroot", type = "string", doc = "folder that serves the names over http"},
  {name = "listen", type = "string", doc = 'address:port of our server, "0.0.0.0:80"'},
}

local WAYS = {"webroot", "listen", "dns"}

--- What is wrong with it: nil, or a line that begins with its place.
---@param place string
---@param given any
---@return string?
function challenge.mistake(place, given)
  if type(given) ~= "table" then return place .. ": challenge is a table" end
  local ways = 0
  for _, name in ipairs(WAYS) do
    if given[name] ~= nil then ways = ways + 1 end
  end
  if given.dns ~= nil then
    local _, err = try(dcv.check, given)
    if err then return place .. ": " .. err.message:gsub("^dcv%.solver: ", "") end
  else
    local _, err = try(args.check, place, HTTP01, given)
    if err then return err.message end
  end
  if ways ~= 1 then
    return place .. ': give webroot = "/folder" or listen = "0.0.0.0:80" or '
      .. "dns = {driver = …}, one of them"
  end
  if given.webroot and not given.webroot:find("^/") then
    return ("%s: webroot is an absolute path, got %q"):format(place, given.webroot)
  end
end

--- Whether it can prove a wildcard.
---@param given table?
---@return boolean
function challenge.proves_wildcards(given)
  return type(given) == "table" and given.dns ~= nil
end

--- In a few words, for tables.
---@param given table
---@return string
function challenge.shown(given)
  if given.webroot then return "http-01 by " .. given.webroot end
  if given.listen then return "http-01 on " .. given.listen end
  local dns = given.dns
  return "dns-01 by " .. (type(dns) == "table" and dns.driver or dns)
end

return challenge
