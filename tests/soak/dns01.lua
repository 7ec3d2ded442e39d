--- COUNT names in 20 zones proven at once by dns-01 over RFC 2136: one change of a zone at
--- a time, memory that does not grow with the number of rounds.  dns01.lua COUNT

local dcv = require "dcv"
local digest = require "digest"
local dns = require "dns"
local dns_server = require "dns_server"
local driver = require "driver"
local encoding = require "encoding"
local task = require "task"
local time = require "time"

local ZONES, ROUNDS = 20, 3
local count = tonumber(arg[1])

local key = dns.key{name = "update.test",
  secret = encoding.base64_encode(digest.random(32))}

local function serve()
  local zones = {}
  for z = 1, ZONES do
    zones[("z%d.test"):format(z)] = {ns = {"ns.z1.test"}, keys = {key}}
  end
  local server = dns_server.start{zones = zones}
  server:set("ns.z1.test", "A", "127.0.0.1")
  return server
end

--- The driver, watched: how many changes are under way, in a zone and in all.
local function watched(server)
  local inner = driver.open("dns", {driver = "rfc2136", server = server.address,
    key = key})
  local seen = {now = {}, all = 0, most = 0}
  local function watch(method)
    return function(_, record)
      local zone = record.zone
      seen.now[zone], seen.all = (seen.now[zone] or 0) + 1, seen.all + 1
      seen.most = math.max(seen.most, seen.all)
      assert(seen.now[zone] == 1, "two changes of one zone at once")
      inner[method](inner, record)
      seen.now[zone], seen.all = seen.now[zone] - 1, seen.all - 1
    end
  end
  return {add = watch "add", remove = watch "remove"}, seen
end

local function prove(solver, name)
  local authorization = {identifier = {type = "dns", value = name},
    name = function() return name end}
  local item = {authorization = authorization, challenge = {key_authorization = name}}
  solver:present(authorization, item.challenge, name)
  solver:wait{item}
  solver:cleanup(authorization, item.challenge)
end

local function kilobytes()
  collectgarbage()
  collectgarbage()
  return collectgarbage "count"
end

local server <close> = serve()
local provider, seen = watched(server)
local solver = dcv.solver{dns = provider, servers = server.address, port = server.port,
  families = {4}, attempt = "20s"}
local names = {}
for i = 1, count do names[i] = ("h%d.z%d.test"):format(i, i % ZONES + 1) end
local started, first = time.mono(), nil
for _ = 1, ROUNDS do
  local _, failed = task.each(names, {limit = 200}, function(name)
    prove(solver, name)
  end)
  if #failed > 0 then error(select(2, next(failed)), 0) end
  server.log = {}
  first = first or kilobytes()
end
local grown = kilobytes() - first
assert(grown < 1024, ("memory grew by %.0f KiB"):format(grown))
for _, name in ipairs(names) do
  assert(#server:values("_acme-challenge." .. name, "TXT") == 0, name .. " is left")
end
print(("%d × %d names, at most %d changes at once, %.0f names/s, grown %.0f KiB"):format(
  ROUNDS, count, seen.most, ROUNDS * count / (time.mono() - started), grown))
