--- Reports: everything in one answer.
--
-- The report of SSL certificates can hold the whole estate, so its body is made piece by piece
-- while it is sent. Digests of seeded certificates are left out: each would have to be signed.

local domains = require "sandbox_domains"
local json = require "json"
local orgs = require "sandbox_orgs"
local ssl_list = require "sandbox_ssl_list"
local task = require "task"
local wire = require "sandbox_wire"

local reports = {}

local SSL = wire.shape [[{organizationIds:[n], commonName:s(<=256),
  externalRequester:s(<=512), certificateStatus:n(0..4), certificateDateAttribute:n,
  from:s, to:s, certificateRequestSource:n, serialNumberFormat:s, includeIpAddresses:b}]]
local OTHER = wire.shape [[{organizationIds:[n], certificateStatus:n,
  certificateDateAttribute:n, from:s, to:s, serialNumberFormat:s}]]
local ACTIVITY = wire.shape "{from:s, to:s}"

local STATUS = {"Requested", "Issued", "Revoked", "Expired"}
local DATES = {[2] = "revoked", [3] = "expires", [4] = "requested", [5] = "issued"}
local SOURCE = {[0] = "Enrollment Form", "Client Admin", "Web API", "Discovery",
  "Imported",
  "SCEP", [7] = "MS Agent", [9] = "Bulk Request", [10] = "ACME", [11] = "EST",
  [12] = "REST API"}

local AT_ONCE = 200 -- records looked at before others get their turn

local function headers(kind)
  return {["Content-Type"] = "application/json;charset=UTF-8",
    ["Content-Disposition"] = ('attachment; filename="rest_api_%s.json"'):format(kind)}
end

-- ---------------------------------------------------------------- filters

local function instant(body, name)
  if not body[name] then return nil end
  local at = wire.instant(body[name])
    or wire.fail(-1601, ("Field ''%s'' has invalid value: %s"):format(name, body[name]))
  if name == "to" and not body.to:find "T" then at = at + 86399 end
  return at
end

local function of_orgs(state, record, ids)
  if not ids or #ids == 0 then return true end
  for _, id in ipairs(ids) do
    if orgs.within(state, record.org_id, id) then return true end
  end
  return false
end

--- fn(record) → whether the body's filters let it pass.
local function ssl_filter(call, body)
  local state, from, to = call.state, instant(body, "from"), instant(body, "to")
  local wanted = STATUS[body.certificateStatus or 0]
  local attribute = DATES[body.certificateDateAttribute or 4]
    or wire.fail(-1601, "Field ''certificateDateAttribute'' has invalid value")
  local source = body.certificateRequestSource
  if source and not SOURCE[source] then
    wire.fail(-1601, "Field ''certificateRequestSource'' has invalid value")
  end
  return function(record)
    local at = record[attribute]
    return (not wanted or state.certs:status(record) == wanted)
      and (not source or record.via == SOURCE[source])
      and (not from or at ~= nil and at >= from) and (not to or at ~= nil and at <= to)
      and of_orgs(state, record, body.organizationIds)
      and wire.contains(record.cn, body.commonName)
      and wire.contains(record.external_requester, body.externalRequester)
  end
end

-- ---------------------------------------------------------------- SSL certificates

local function ssl_row(call, record)
  local state = call.state
  local org, profile = state.orgs[record.org_id], state.profiles[record.profile_id]
  local function day(at) return wire.date(call, at, "ISO_HMS") end
  local row = {id = record.id, commonName = record.cn, orgId = record.org_id,
    organizationName = orgs.top(state, org).name, city = org.city,
    state = org.stateOrProvince, country = org.country,
    status = state.certs:status(record), backendCertId = record.backend_id,
    orderNumber = math.tointeger(record.backend_id), serverType = "OTHER", servers = 1,
    typeId = profile.id, type = profile.name, term = record.term,
    requester = record.requester, approver = record.approver or record.requester,
    externalRequester = record.external_requester, comments = record.comments,
    requested = day(record.requested), approved = day(record.approved),
    declined = day(record.declined), expires = day(record.expires),
    revoked = day(record.revoked), replaced = day(record.replaced),
    subjAltNames = table.concat(record.names, "; "), serialNumber = record.serial or "",
    requestedVia = record.via, customFields = json.array(table.move(record.custom_fields,
      1,
      #record.custom_fields, 1, {}))}
  if record.serial then row.issuer = ("secrun sandbox %s CA"):format(record.level) end
  if record.pem then
    local cert = state.certs:x509(record)
    row.issuer = cert.issuer_dn
    row.sha1, row.md5 = ssl_list.hash(cert, "sha1"), ssl_list.hash(cert, "md5")
    row.publicKeyAlg = cert.key_type:find "^p%d" and "EC" or "RSA"
    row.publicKeyType, row.publicKeySize = row.publicKeyAlg, tostring(cert.key_bits)
  end
  return row
end

--- The rows of the report from place `place` on: their JSON, and where to go on.
local function piece(call, fits, place)
  local certs, rows = call.state.certs, {}
  local count = certs:count()
  local last = math.min(place + AT_ONCE - 1, count)
  for at = place, last do
    local record = certs:get(certs:id_at(at))
    if record and fits(record) then
      rows[#rows + 1] = json.encode(ssl_row(call, record))
    end
  end
  task.sleep(0)
  return rows, last < count and last + 1 or nil
end

local function ssl(call)
  local body = wire.body(call, SSL)
  if next(body) == nil then
    wire.fail(-951, "At least one of the fields is needed: from, to, certificateStatus")
  end
  local fits, place, before = ssl_filter(call, body), 1, '{"statusCode":0,"reports":['
  return 200, function()
    if not place then return nil end
    local rows = {}
    while #rows == 0 and place do rows, place = piece(call, fits, place) end
    local text = #rows > 0 and before .. table.concat(rows, ",") or ""
    if not place then return (#rows == 0 and before ~= "," and before or text) .. "]}" end
    before = ","
    return text
  end, headers "ssl_certificates"
end

-- ---------------------------------------------------------------- the others

local function domain_row(call, domain)
  local words = {NOT_VALIDATED = domain.order.status == "NOT_INITIATED"
    and "Not Initiated"
    or "Action Required", VALIDATED = "Validated", EXPIRED = "Expired"}
  return {id = domain.id, name = domain.name,
    status = domain.state == "ACTIVE" and "Active" or "Suspended",
    requested = wire.date(call, domain.requested, "ISO_HMS"),
    stickyUntil = wire.date(call, domain.expires, "ISO_HMS"),
    dcvStatus = words[domains.status(call.state, domain)]}
end

local function report(rows) return {statusCode = 0, reports = json.array(rows)} end

local function all_domains(call)
  local rows = {}
  for _, id in ipairs(call.state.domain_order) do
    rows[#rows + 1] = domain_row(call, call.state.domains[id])
  end
  return 200, report(rows), headers "domains"
end

--- What the sandbox saw: one row a call that changed something.
local function activity(call)
  local body = wire.body(call, ACTIVITY)
  local from, to, rows = instant(body, "from"), instant(body, "to"), {}
  for i, seen in ipairs(call.state.activity) do
    if (not from or seen.at >= from) and (not to or seen.at <= to) then
      rows[#rows + 1] = {id = i, guid = call.state:uuid("activity " .. i),
        accessMethod = "REST API", date = wire.date(call, seen.at, "ISO_HMS"),
        address = seen.address, description = seen.method .. " " .. seen.path,
        action = {id = 1, actionName = seen.path:match "^/api/(%w+)" or "other"},
        admin = {login = seen.admin.login, fullName = seen.admin.name,
          email = seen.admin.email}}
    end
  end
  return 200, report(rows), headers "activity"
end

--- Client and device certificates are not part of this sandbox, so there are none.
local function empty(kind)
  return function(call)
      wire.body(call, OTHER)
    return 200, report{}, headers(kind)
  end
end

function reports.seed(state) state.activity = {} end

function reports.routes(routes)
  local base = "/api/report/v1/"
  routes:add("POST", base .. "ssl-certificates", ssl)
  routes:add("POST", base .. "client-certificates", empty "client_certificates")
  routes:add("POST", base .. "device-certificates", empty "device_certificates")
  routes:add("POST", base .. "domains", all_domains)
  routes:add("POST", base .. "activity", activity)
end

return reports
