--- Lists of SSL certificates, with every documented filter.
--
-- Without filters a page is read by place. With filters, the ids that match are found once and
-- kept for the pages that follow, as long as nothing changes.

local json = require "json"
local orgs = require "sandbox_orgs"
local task = require "task"
local wire = require "sandbox_wire"

local ssl_list = {}

local KEPT = 4       -- results of filters
local FRESH = 60     -- seconds of the sandbox; expiry moves on without a change
local AT_ONCE = 500 -- records looked at before others get their turn

-- ---------------------------------------------------------------- rows

--- "AA:BB:…" of a hexadecimal serial.
function ssl_list.serial(hex)
  return hex and (hex:upper():gsub("(%x%x)", "%1:"):gsub(":$", ""))
end

--- The names of a record as lists show them: without the common name, unless set otherwise.
function ssl_list.sans(state, record)
  local list = {}
  for _, name in ipairs(record.names) do
    if name ~= record.cn or state.settings.sans_with_cn then list[#list + 1] = name end
  end
  return json.array(list)
end

local function row(state, record)
  local shown = {sslId = record.id, commonName = record.cn}
  if record.serial then
    shown.subjectAlternativeNames = ssl_list.sans(state, record)
    shown.serialNumber = ssl_list.serial(record.serial)
  end
  return shown
end

-- ---------------------------------------------------------------- filters

local VIA = {WEB_FORM = "Enrollment Form", CLIENT_ADMIN = "Client Admin", API = "Web API",
  DISCOVERY = "Discovery", IMPORTED = "Imported", SCEP = "SCEP", CD_AGENT = "CD Agent",
  MS_AGENT = "MS Agent", MS_CA = "MS CA", BULK_REQUEST = "Bulk Request", ACME = "ACME",
  EST = "EST", REST = "REST API"}

local INSTALL = {NONE = "Not configured", NOT_STARTED = "Not started",
  KEY_PROCESSING = "Key processing", KEY_READY = "Key and CSR ready",
  CERT_PROCESSING = "Certificate processing", SCHEDULED = "Installation scheduled",
  INSTALLING = "Installation processing", ACTION_REQUIRED = "Action required",
  READY_FOR_INSTALL = "Ready for install",
    NEED_SERVER_RESTART = "Server restart required",
  COMPLETED = "Completed", INVALID = "Invalid configuration"}

local RENEWAL = {NOT_SCHEDULED = "Not scheduled", SCHEDULED = "Scheduled",
  STARTED = "Started", SUCCESSFUL = "Successful", FAILED = "Failed"}

local STATUS = {}
for _, name in ipairs{"Init", "Requested", "SA Approved", "Approved", "Applied", "Issued",
  "Declined", "Rejected", "Invalid", "Revoked", "Expired", "Replaced", "Unmanaged"} do
  STATUS[name] = name
end

--- The display form of a word given as constant or as display text; -1601 for others.
local function display(words, text, field)
  for constant, shown in pairs(words) do
    if wire.same_word(text, constant) or wire.same_word(text, shown) then return shown end
  end
  wire.fail(-1601, ("Field ''%s'' has invalid value %s"):format(field, text))
end

local function same_hex(a, b)
  return a ~= nil and a:gsub("[^%x]", ""):lower() == b:gsub("[^%x]", ""):lower()
end

local function any(list, word)
  for _, one in ipairs(list) do
    if wire.contains(one, word) then return true end
  end
  return false
end

local function of_cert(read)
  return function(call, record, text)
    return record.serial ~= nil and read(call.state.certs:x509(record), text, record)
  end
end

local function same_digest(name)
  return of_cert(function(cert, text, _)
    return same_hex(ssl_list.hash(cert, name), text)
  end)
end

local digest = require "digest"

--- md5, sha1 or sha256 of a certificate, hexadecimal.
function ssl_list.hash(cert, name) return digest.hex(digest[name](cert:der())) end

--- Filters by query parameter: fn(call, record, text) → whether it matches. What is cheap
--- stands first, what signs last; `prepare` makes the text what the match needs.
local FILTERS = {
  {"orgId", function(call, record, id)
    return orgs.within(call.state, record.org_id, id)
  end,
    prepare = math.tointeger},
  {"sslTypeId", function(_, record, id) return record.profile_id == id end,
    prepare = math.tointeger},
  {"commonName", function(_, record, text) return wire.contains(record.cn, text) end},
  {"subjectAlternativeName", function(_, record, text)
    return any(record.names, text)
  end},
  {"status", function(call, record, text)
    return call.state.certs:status(record) == text
  end, words = STATUS},
  {"requestedVia", function(_, record, text) return record.via == text end, words = VIA},
  {"installStatus", function(_, _, text) return text == "Not configured" end,
    words = INSTALL},
  {"renewalStatus", function(_, record, text) return record.auto_renew.state == text end,
    words = RENEWAL},
  {"discoveryStatus", function(_, record, text)
    return (record.via == "Discovery") == wire.same_word(text, "Deployed")
  end},
  {"requester", function(_, record, text)
    return wire.contains(record.requester, text)
  end},
  {"externalRequester", function(_, record, text)
    return wire.contains(record.external_requester, text)
  end},
  {"vendor", function(_, _, text) return wire.contains("Sectigo Limited", text) end},
  {"serialNumber", function(_, record, text) return same_hex(record.serial, text) end},
  {"issuer", of_cert(function(cert, text)
    return wire.contains(cert.issuer_dn, text)
  end)},
  {"signatureAlgorithm", of_cert(function(cert, text)
    return wire.contains(cert.signature_algorithm, text)
  end)},
  {"keyAlgorithm", of_cert(function(cert, text)
    return wire.same_word(cert.key_algorithm:find "^EC" and "EC" or cert.key_algorithm,
      text)
  end)},
  {"keySize", of_cert(function(cert, text) return tostring(cert.key_bits) == text end)},
  {"keyParam", of_cert(function(cert, text)
    return tostring(cert.key_bits) == text or "P-" .. cert.key_bits == text
  end)},
  {"keyUsage", of_cert(function(cert, text) return any(cert.key_usage, text) end)},
  {"extendedKeyUsage", of_cert(function(cert, text)
    return any(cert.ext_key_usage, text)
  end)},
  {"sha1Hash", same_digest "sha1"}, {"md5Hash", same_digest "md5"},
  {"sha256Hash", same_digest "sha256"},
}

--- The filters a query asks for: {fn, text}; and a key that names them.
local function asked(call)
  local list, key = {}, {}
  for _, filter in ipairs(FILTERS) do
    local name, text = filter[1], wire.text(call, filter[1])
    if text then
      local value = text
      if filter.prepare then value = wire.number(call, name) end
      if filter.words then value = display(filter.words, text, name) end
      list[#list + 1] = {fn = filter[2], value = value}
      key[#key + 1] = name .. "=" .. text
    end
  end
  return list, table.concat(key, "&")
end

local function matches(call, record, filters)
  for _, filter in ipairs(filters) do
    if not filter.fn(call, record, filter.value) then return false end
  end
  return true
end

local function look(call, filters)
  local certs, ids = call.state.certs, {}
  for place = 1, certs:count() do
    local id = certs:id_at(place)
    local record = id and certs:get(id)
    if record and matches(call, record, filters) then ids[#ids + 1] = id end
    if place % AT_ONCE == 0 then task.sleep(0) end
  end
  return ids
end

--- The ids that match, from what was found before if it still holds.
local function found(call, filters, key)
  local certs, now = call.state.certs, call.state.now()
  certs.results = certs.results or {}
  for _, result in ipairs(certs.results) do
    if result.key == key and result.version == certs.version
      and math.abs(now - result.at) < FRESH then
      return result.ids
    end
  end
  local result = {key = key, version = certs.version, at = now, ids = look(call, filters)}
  result.version = certs.version -- looking lets records walk on
  table.insert(certs.results, 1, result)
  certs.results[KEPT + 1] = nil
  return result.ids
end

--- How many match, and the id at a place.
---@param call table
---@return integer count
---@return fun(place: integer): integer?
function ssl_list.select(call)
  local certs = call.state.certs
  local filters, key = asked(call)
  if #filters == 0 then
    return certs:count(), function(place) return certs:id_at(place) end
  end
  local ids = found(call, filters, key)
  return #ids, function(place) return ids[place] end
end

local function list(call)
  local position, size = wire.window(call)
  local count, id_at = ssl_list.select(call)
  local page = {}
  for place = position + 1, math.min(position + size, count) do
    local record = call.state.certs:get(id_at(place))
    if record then page[#page + 1] = row(call.state, record) end
  end
  return 200, json.array(page), {["X-Total-Count"] = count}
end

local function head(call)
  return 200, nil, {["X-Total-Count"] = (ssl_list.select(call))}
end

function ssl_list.routes(routes)
  routes:add("GET", "/api/ssl/v1,v2", list)
  routes:add("HEAD", "/api/ssl/v1,v2", head)
end

return ssl_list
