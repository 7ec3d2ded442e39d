--- An estate of any size: certificate i is a function of the sandbox's seed and of i.
--
--     local record = sandbox_estate.make(state, 4711)    -- as sandbox_certs keeps them
--
-- Nothing is kept: what a record says is computed when it is read, and its X.509 is signed
-- again by the CA's older generation, which gives the same bytes.

local profiles = require "sandbox_profiles"
local x509 = require "x509"

local sandbox_estate = {}

--- sslId of certificate i is BASE + i.
sandbox_estate.BASE = 20000

local DAY = 86400
local POOL = 8 -- keys that all certificates share

local WORDS = {"www", "shop", "api", "mail", "login", "vpn", "db", "cdn", "intranet",
  "git",
  "wiki", "build", "files", "chat", "id", "status"}

--- Organization and domain, as the domains are delegated.
local PLACES = {{101, "example.com"}, {102, "example.com"}, {103, "example.com"},
  {101, "example.org"}, {103, "example.org"}, {201, "example.net"}, {202, "example.net"},
  {101, "example.com"}}

--- Profile ids by weight in sixteenths.
local PRODUCTS = {501, 501, 501, 501, 502, 503, 503, 511, 511, 512, 512, 512, 513, 521,
  521, 522}

local VIAS = {"Web API", "Web API", "Web API", "Web API", "Enrollment Form",
  "Client Admin", "ACME", "Discovery"}

local NAMES = {[503] = true, [522] = true} -- profiles with many names

local function names_of(profile_id, word, index, domain, choice)
  local host = ("%s-%06d.%s"):format(word, index, domain)
  if profile_id == 502 or profile_id == 513 then return {"*." .. host, host} end
  if not NAMES[profile_id] then return {host, "www." .. host} end
  local list = {host}
  for i = 1, 1 + choice % 4 do list[#list + 1] = ("%s%d.%s"):format("san", i, host) end
  return list
end

--- The longest usual term of the day of issue.
local function term_at(instant)
  local longest = profiles.limits(instant).term
  return longest == 397 and 365 or longest
end

--- One in sixty-four is revoked, one in 128 waits for approval, one in 256 was declined.
local function status_of(byte)
  if byte < 4 then return "Revoked" end
  if byte < 6 then return "Requested" end
  return byte < 7 and "Declined" or "Issued"
end

local function dates(record, epoch, age, seconds)
  local term = term_at(epoch)
  local issued = epoch - math.floor(age * 1.03 * term) * DAY + seconds - DAY
  record.term = term_at(issued)
  record.requested = issued - 3600
  if record.status == "Issued" or record.status == "Revoked" then
    record.approved, record.issued = issued - 1800, issued
    record.expires = issued + record.term * DAY - 1
  elseif record.status == "Declined" then
    record.declined = issued - 600
  end
  if record.status == "Revoked" then
    record.revoked = math.min(issued + 20 * DAY, epoch)
    record.reason_code = 4
  end
end

--- Certificate `index`, from 1. A new table each time.
---@param state table
---@param index integer
---@return table record
function sandbox_estate.make(state, index)
  local h = state:bytes("estate " .. index)
  local product, place, word, via, status, pick, a1, a2, s1, s2 = h:byte(1, 10)
  local org_id, domain = table.unpack(PLACES[place % #PLACES + 1])
  local profile_id = PRODUCTS[product % #PRODUCTS + 1]
  local names = names_of(profile_id, WORDS[word % #WORDS + 1], index, domain, pick)
  local team = ("team-%d@%s"):format(pick % 20 + 1, domain)
  local record = {id = sandbox_estate.BASE + index, index = index, org_id = org_id,
    profile_id = profile_id, level = state.profiles[profile_id].level, cn = names[1],
    names = names, status = status_of(status), via = VIAS[via % #VIAS + 1],
    requester = "api", requester_id = 1, external_requester = team,
    comments = "", custom_fields = {}, key_index = pick % POOL + 1,
    auto_renew = {state = pick % 32 == 0 and "Scheduled" or "Not scheduled",
      daysBeforeExpiration = pick % 32 == 0 and 30 or nil}}
  dates(record, state.epoch, (a1 * 256 + a2) / 65536, (s1 * 256 + s2) % DAY)
  if record.issued then
    record.serial = state.ca:serial_of("estate " .. index)
    record.issuer = record.level .. "-rsa"
    record.backend_id = tostring(900000000 + index)
  end
  return record
end

--- The key of a record, from the pool.
local function pool_key(state, index)
  state.pool = state.pool or {}
  state.pool[index] = state.pool[index] or x509.key{type = "p256"}
  return state.pool[index]
end

--- A request with the key and names of a record, for what shows one.
---@return any csr x509.csr
function sandbox_estate.csr(state, record)
  return x509.csr{key = pool_key(state, record.key_index), names = record.names}
end

--- The certificate of a record, signed again.
---@param organization table? subject of OV and EV
---@return any cert x509.cert
function sandbox_estate.sign(state, record, organization)
  return state.ca:issue{level = record.level, names = record.names, old = true,
    public_key = pool_key(state, record.key_index), organization = organization,
    not_before = record.issued, days = record.term, serial = record.serial}.cert
end

return sandbox_estate
