--- One SSL certificate: details, update, decisions, revocation, locations and its own DCV.

local auth = require "sandbox_auth"
local custom_fields = require "sandbox_custom_fields"
local dcv = require "sandbox_dcv"
local json = require "json"
local profiles = require "sandbox_profiles"
local request = require "sandbox_request"
local ssl_list = require "sandbox_ssl_list"
local wire = require "sandbox_wire"

local ssl = {}

local MESSAGE = wire.shape "{message!:s(1..512)}"
local REVOKE = wire.shape "{reasonCode:a, reason!:s(1..512)}"
local REVOKE_MANUAL = wire.shape [[{certId:n, serialNumber:a, issuer:a, revokeDate:s,
  reasonCode:a}]]
local UPDATE = wire.shape [[{sslId!:n(>=1), term:n(>=1), certTypeId:n(>=1), orgId:n(>=1),
  commonName:s, csr:s(1..32767), externalRequester:s, comments:s(<=1024),
  subjectAlternativeNames:[s], customFields:[{name!:s(1..256), value!:s(<=256)}],
  autoRenewDetails:{state:s(Not scheduled|Scheduled), daysBeforeExpiration:n(>=1)},
  suspendNotifications:b, requester:s, requesterAdminId:n(>=1), approverAdminId:n(>=-1)}]]
local LOCATION = wire.shape "{details!:o}"

-- ---------------------------------------------------------------- details

local VALIDATION = {DV = "Domain Validation (DV)", OV = "Organization Validation (OV)",
  EV = "Extended Validation (EV)"}

local function signature_word(name)
  local hash = name:upper():match "SHA%d+" or name
  return hash .. (name:lower():find "ecdsa" and "WITHECDSA" or "WITHRSA")
end

local function list_or_nil(words)
  if not words or #words == 0 then return nil end
  return json.array(table.move(words, 1, #words, 1, {}))
end

--- The fields that come from the certificate itself.
local function add_certificate(shown, cert)
  local ec = cert.key_type:find "^p%d" ~= nil
  shown.signatureAlg = signature_word(cert.signature_algorithm)
  shown.keyAlgorithm = ec and "EC" or "RSA"
  shown.keyType, shown.keySize = shown.keyAlgorithm, cert.key_bits
  shown.keyUsages = list_or_nil(cert.key_usage)
  shown.extendedKeyUsages = list_or_nil(cert.ext_key_usage)
  local names = {}
  for i, name in ipairs(cert.names) do names[i] = "dNSName=" .. name end
  shown.certificateDetails = {issuer = cert.issuer_dn, subject = cert.subject_dn,
    subjectAltNames = table.concat(names, ", "),
    md5Hash = ssl_list.hash(cert, "md5"):upper(),
    sha1Hash = ssl_list.hash(cert, "sha1"):upper()}
end

local function add_dates(shown, call, record)
  for field, instant in pairs{requested = record.requested, approved = record.approved,
    issued = record.issued, declined = record.declined, expires = record.expires,
    replaced = record.replaced, revoked = record.revoked,
    renewedDate = record.renewed_date} do
    shown[field] = wire.date(call, instant, "US")
  end
end

--- A record as details show it.
function ssl.details(call, record)
  local state = call.state
  local shown = {id = record.id, sslId = record.id, commonName = record.cn,
    orgId = record.org_id, status = state.certs:status(record),
    backendCertId = record.backend_id, orderNumber = math.tointeger(record.backend_id),
    vendor = "Sectigo Limited", subType = "",
    certType = profiles.show(state, state.profiles[record.profile_id]),
    validationType = VALIDATION[record.level], term = record.term,
    owner = record.owner or record.requester, ownerId = record.requester_id,
    requester = record.requester, requesterId = record.requester_id,
    requestedVia = record.via, externalRequester = record.external_requester,
    comments = record.comments, reasonCode = record.reason_code,
    renewed = record.renewed or false, serialNumber = ssl_list.serial(record.serial),
    subjectAlternativeNames = ssl_list.sans(state, record),
    customFields = custom_fields.show(record.custom_fields),
    autoInstallDetails = {state = "Not configured"}, autoRenewDetails = record.auto_renew,
    suspendNotifications = record.suspended or false}
  add_dates(shown, call, record)
  if record.serial then
    add_certificate(shown, state.certs:x509(record))
  else
    shown.keySize, shown.keyType = 0, "RSA"
  end
  return shown
end

local function existing(call)
  local id = wire.id(call, "sslId", -5101)
  return call.state.certs:get(id) or wire.missing(-5101, "Certificate was not found")
end

local function get(call) return 200, ssl.details(call, existing(call)) end

-- ---------------------------------------------------------------- update

local OPEN = {Requested = true, Declined = true, Rejected = true, Invalid = true}
local REQUEST_FIELDS = {"term", "certTypeId", "orgId", "commonName", "csr",
  "subjectAlternativeNames"}

--- Change what is asked for; a declined request is asked for again.
local function change_request(call, record, body)
  if not OPEN[record.status] then
    wire.fail(-1112, ("The certificate cannot be changed in state %s"):format(
      record.status))
  end
  local profile = request.profile(call, body.certTypeId or record.profile_id)
  local cn = (body.commonName or record.cn):lower()
  local pem = record.csr
  if body.csr then pem, cn = request.csr(body.csr, profile) end
  local new = request.record(call, {orgId = body.orgId or record.org_id, term = body.term
    or record.term, comments = record.comments, customFields = record.custom_fields,
    externalRequester = record.external_requester}, profile, cn,
    body.subjectAlternativeNames or record.names)
  for _, key in ipairs{"org_id", "profile_id", "level", "term", "cn", "names",
    "open_dcv"} do
    record[key] = new[key]
  end
  record.csr, record.status, record.declined = pem, "Requested", nil
end

local function update(call)
  auth.need(call, "sslManage", "SSL update")
  local body = wire.body(call, UPDATE)
  local record = call.state.certs:edit(body.sslId) or wire.fail(-1117, "SSL is null")
  for _, name in ipairs(REQUEST_FIELDS) do
    if body[name] ~= nil then
      change_request(call, record, body)
      break
    end
  end
  if body.customFields then
    record.custom_fields = custom_fields.check(call.state, "SSL", body.customFields)
  end
  record.comments = body.comments or record.comments
  record.external_requester = body.externalRequester or record.external_requester
  record.requester = body.requester or record.requester
  if body.suspendNotifications ~= nil then
    record.suspended = body.suspendNotifications
  end
  local renew = body.autoRenewDetails
  if renew then
    record.auto_renew = {state = renew.state or record.auto_renew.state,
      daysBeforeExpiration = renew.daysBeforeExpiration
        or record.auto_renew.daysBeforeExpiration}
  end
  return 200, ssl.details(call, record)
end

-- ---------------------------------------------------------------- decisions

local function edited(call)
  return call.state.certs:edit(wire.id(call, "sslId", -1117))
    or wire.fail(-1117, "SSL is null")
end

local function waiting(call, action)
  auth.need(call, "sslApprove", "SSL " .. action)
  wire.body(call, MESSAGE)
  local record = edited(call)
  if record.status ~= "Requested" then
    wire.fail(-1112, ("Cannot %s the certificate in state %s"):format(
      action == "approval" and "approve" or "decline", call.state.certs:status(record)))
  end
  return record
end

local function approve(call)
  local record = waiting(call, "approval")
  if record.level == "EV" and record.requester == call.admin.login then
    wire.fail(-1140, "Requester cannot approve own EV request")
  end
  call.state.certs:approve(record, call.admin)
  return 204
end

local function decline(call)
  local record = waiting(call, "decline")
  record.status, record.declined = "Declined", call.state.now()
  return 204
end

-- ---------------------------------------------------------------- revocation

local CODES = {["0"] = 0, ["1"] = 1, ["3"] = 3, ["4"] = 4, ["5"] = 5}

local function reason_code(body)
  if body.reasonCode == nil then return 0 end
  return CODES[tostring(body.reasonCode)]
    or wire.fail(-1601, ("Field ''reasonCode'' has invalid value: %s"):format(
      tostring(body.reasonCode)))
end

local function revoke_record(call, record, code, when)
  local status = call.state.certs:status(record)
  if status == "Revoked" then wire.fail(-159, "The certificate is already revoked") end
  if status ~= "Issued" then
    wire.fail(-102, "Only issued certificates can be revoked")
  end
  call.state.certs:revoke(record, code, when)
  return 204
end

local function revoke(call)
  auth.need(call, "sslRevoke", "SSL revocation")
  local body = wire.body(call, REVOKE)
  return revoke_record(call, edited(call), reason_code(body))
end

local function by_serial(call, serial)
  local id = call.state.certs:find_serial(serial)
  return id and call.state.certs:edit(id)
    or wire.fail(-166, "The data does not match a certificate")
end

local function revoke_serial(call)
  auth.need(call, "sslRevoke", "SSL revocation")
  local body = wire.body(call, REVOKE)
  return revoke_record(call, by_serial(call, call.params.serialNumber), reason_code(body))
end

local function revoke_manual(call)
  auth.need(call, "sslRevoke", "SSL revocation")
  local body = wire.body(call, REVOKE_MANUAL)
  local record
  if body.certId then
    record = call.state.certs:edit(body.certId) or wire.fail(-1117, "SSL is null")
  elseif body.serialNumber and body.issuer then
    record = by_serial(call, tostring(body.serialNumber))
  else
    wire.fail(-951,
      "At least one of the fields is needed: certId, serialNumber and issuer")
  end
  local when = body.revokeDate and (wire.instant(body.revokeDate)
    or wire.fail(-1601, "Field ''revokeDate'' has invalid value"))
  return revoke_record(call, record, reason_code(body), when)
end

local function remove(call)
  auth.need(call, "sslManage", "SSL deletion")
  local record = existing(call)
  if not record.imported and record.via ~= "Imported" and record.via ~= "Discovery" then
    wire.fail(-3, "Only imported or discovered certificates can be deleted.")
  end
  call.state.certs:remove(record)
  return 204
end

-- ---------------------------------------------------------------- DCV of a certificate

local function instruction(state, entry)
  local shown = {domainName = entry.name, dcvMode = entry.mode}
  local c = dcv.challenge(state, entry.name)
  if entry.mode == "EMAIL" then
    shown.dcvEmail = entry.email
  elseif entry.mode == "HTTP" or entry.mode == "HTTPS" then
    shown.url = ("%s://%s/.well-known/pki-validation/%s.txt"):format(entry.mode:lower(),
      entry.name, c.md5:upper())
    shown.file = c.sha256:upper() .. "\nsectigo.com"
  elseif entry.mode == "CNAME" then
    shown.host = ("_%s.%s."):format(c.md5:upper(), entry.name)
    shown.point = ("%s.%s.sectigo.com."):format(c.sha256:sub(1, 32):upper(),
      c.sha256:sub(33):upper())
  else
    shown.host = ("_pki-validation.%s."):format(entry.name)
    shown.point = c.random
  end
  return shown
end

local function show_dcv(call)
  local state, record = call.state, existing(call)
  local rows, instructions, now = {}, {}, state.now()
  for i, entry in ipairs(record.open_dcv or {}) do
    rows[i] = {dcvStatus = "Awaiting Validation", domainName = entry.name,
      dcvDate = json.null, lastCheck = wire.date(call, record.checked or now, "HMS"),
      nextCheck = wire.date(call, (record.checked or now) + 3600, "HMS")}
    instructions[i] = instruction(state, entry)
  end
  for _, entry in ipairs(record.done_dcv or {}) do
    rows[#rows + 1] = {dcvStatus = "Validated", domainName = entry.name,
      dcvDate = wire.date(call, entry.when, "HMS"),
      lastCheck = wire.date(call, entry.when, "HMS")}
  end
  local shown = {dcvLog = {error = {code = 0, description = json.null},
    log = json.array(rows)}, instructions = json.array(instructions)}
  return 200, call.admin_face and json.array{shown} or shown
end

--- The open domains of a certificate are proven.
function ssl.pass_dcv(state, record)
  record.done_dcv = record.done_dcv or {}
  for _, entry in ipairs(record.open_dcv or {}) do
    record.done_dcv[#record.done_dcv + 1] = {name = entry.name, when = state.now()}
  end
  record.open_dcv, record.ready = nil, state.now()
  state.certs.version = state.certs.version + 1
end

local function recheck(call)
  local state = call.state
  local record = state.certs:edit(existing(call).id)
  record.checked = state.now()
  if record.open_dcv and state.settings.dcv == "accept" then
    ssl.pass_dcv(state, record)
  end
  return 202
end

-- ---------------------------------------------------------------- locations

local function location_of(call)
  local record = existing(call)
  local id = wire.id(call, "locationId", -5101)
  for i, location in ipairs(record.locations or {}) do
    if location.id == id then return location, record, i end
  end
  wire.missing(-5101, "Location was not found")
end

local function locations(call)
  local list = existing(call).locations or {}
  return 200, json.array(table.move(list, 1, #list, 1, {}))
end

local function add_location(call)
  auth.need(call, "sslManage", "location management")
  local body, record = wire.body(call, LOCATION), call.state.certs:edit(existing(call).id)
  local location = {id = call.state:next_id "location", locationType = "CUSTOM",
    name = "Custom", details = body.details}
  record.locations = record.locations or {}
  record.locations[#record.locations + 1] = location
  return wire.created(call, ("/api/ssl/v1/%d/location/%d"):format(record.id, location.id))
end

local function change_location(call)
  auth.need(call, "sslManage", "location management")
  location_of(call).details = wire.body(call, LOCATION).details
  return 200
end

local function remove_location(call)
  auth.need(call, "sslManage", "location management")
  local _, record, at = location_of(call)
  table.remove(record.locations, at)
  return 204
end

function ssl.routes(routes)
  local base = "/api/ssl/v1,v2"
  routes:add("PUT", base, update)
  routes:add("GET", base .. "/{sslId}", get)
  routes:add("DELETE", base .. "/{sslId}", remove)
  routes:add("POST", base .. "/approve/{sslId}", approve)
  routes:add("POST", base .. "/decline/{sslId}", decline)
  routes:add("POST", base .. "/revoke/{sslId}", revoke)
  routes:add("POST", base .. "/revoke/serial/{serialNumber}", revoke_serial)
  routes:add("POST", base .. "/revoke/manual", revoke_manual)
  routes:add("GET", base .. "/{sslId}/dcv", show_dcv)
  routes:add("POST", base .. "/{sslId}/dcv/recheck", recheck)
  routes:add("GET", base .. "/{sslId}/location", locations)
  routes:add("POST", base .. "/{sslId}/location", add_location)
  routes:add("GET", base .. "/{sslId}/location/{locationId}", function(call)
    return 200, (location_of(call))
  end)
  routes:add("PUT", base .. "/{sslId}/location/{locationId}", change_location)
  routes:add("DELETE", base .. "/{sslId}/location/{locationId}", remove_location)
end

return ssl
