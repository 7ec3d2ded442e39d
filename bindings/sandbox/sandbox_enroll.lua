--- New SSL certificates: enrolment, renewal, replacement and import.

local auth = require "sandbox_auth"
local json = require "json"
local orgs = require "sandbox_orgs"
local request = require "sandbox_request"
local wire = require "sandbox_wire"
local x509 = require "x509"

local enroll = {}

local DCV = "dcvMode:s(CNAME|EMAIL|HTTP|HTTPS|TXT|AUTO|PERSISTENT_TXT), "
  .. "dcvEmail:s(e-mail)"
local FIELDS = "customFields:[{name:s, value:s}]"
local COMMON = "orgId:n, subjAltNames:a, certType:n, term:n(>=1), comments:s(<=1024), "
  .. FIELDS .. ", externalRequester:s(<=512), " .. DCV

local ENROLL = wire.shape("{csr!:s(1..32767), " .. COMMON .. "}")
local KEYGEN = wire.shape("{commonName!:s(1..64), algorithm:s(RSA|EC), keySize:n, "
  .. "keyParam:s, keyGenerationMethod:s(PK_AGENT|AZURE_KEY_VAULT), passPhrase:s(8..64), "
  .. "azureKeyVault:{azureAccountId:n, vaultKey:s}, reuseKey:b, exportableKey:b, "
  .. "hsmOnly:b, " .. COMMON .. "}")
local RENEW = wire.shape("{csr:s(1..32767), " .. DCV .. "}")
local RENEW_MANUAL = wire.shape "{id:n, orderNumber:s, dcvMode:s, dcvEmail:s}"
local REPLACE = wire.shape("{csr!:s(1..32767), reason!:s(1..512), commonName:s(1..64), "
  .. "subjectAlternativeNames:[s], " .. DCV .. "}")
local IMPORTS = wire.shape("[{orgId:n(>=1), orgID:n(>=1), " .. FIELDS
  .. ", owner:s(<=128), externalRequester:s(<=512), backendCertId:s(<=255), cert:s, "
  .. "csr:s, "
  .. "comments:s(<=1024)}](<=128)")

-- ---------------------------------------------------------------- enrolment

--- Keep a request. Who may approve their own gets it approved at once; EV never.
local function submit(call, record)
  local state = call.state
  state.certs:add(record)
  local auto = state.settings.approval == "auto" and record.level ~= "EV"
    and call.admin.privileges.autoApproveCertificates
  if auto then state.certs:approve(record, call.admin) end
  return record
end

local function enrolled(record)
  return 200, {sslId = record.id, renewId = record.renew_id}
end

--- A comma-separated text; anything else is lost, as it is in SCM.
local function sans_of(body)
  return request.split(type(body.subjAltNames) == "string" and body.subjAltNames or nil)
end

local function enroll_csr(call)
  auth.need(call, "sslRequest", "SSL request")
  local body = wire.body(call, ENROLL)
  request.org(call, body.orgId)
  local profile = request.profile(call, body.certType)
  local pem, cn = request.csr(body.csr, profile)
  local record = request.record(call, body, profile, cn, sans_of(body))
  record.csr = pem
  return enrolled(submit(call, record))
end

local CURVES = {["P-256"] = "p256", ["P-384"] = "p384"}

local function key_type(body)
  if (body.algorithm or "RSA"):upper() == "EC" then
    return CURVES[body.keyParam or "P-256"]
      or wire.fail(-13, ("Key parameter %s is not supported"):format(body.keyParam))
  end
  local size = body.keyParam or tostring(body.keySize or 2048)
  if size ~= "2048" and size ~= "3072" and size ~= "4096" then
    wire.fail(-13, ("Key size %s is not supported"):format(size))
  end
  return "rsa" .. size
end

local function enroll_keygen(call)
  auth.need(call, "sslRequest", "SSL request")
  local body = wire.body(call, KEYGEN)
  request.org(call, body.orgId)
  local profile, kind = request.profile(call, body.certType), key_type(body)
  local record = request.record(call, body, profile, body.commonName:lower(),
    sans_of(body))
  record.key = x509.key{type = kind}
  record.csr = x509.csr{key = record.key, names = record.names}:pem()
  record.passphrase = body.passPhrase
  return enrolled(submit(call, record))
end

-- ---------------------------------------------------------------- renewal

local function by_id(call, id)
  return call.state.certs:edit(id) or wire.fail(-1117, "SSL is null")
end

local function ssl_id(call) return by_id(call, wire.id(call, "sslId", -1117)) end

--- A new record that follows an old one; a request of its own, or the old one's.
local function follow(call, old, body)
  local state, status = call.state, call.state.certs:status(old)
  if status ~= "Issued" and status ~= "Expired" then
    wire.fail(-105, ("Renew failed: the certificate has status %s"):format(status))
  end
  local profile = request.profile(call, old.profile_id)
  local pem, cn = nil, old.cn
  if body.csr then
    pem, cn = request.csr(body.csr, profile)
  elseif state.settings.renew_needs_csr then
    wire.fail(-1001, "Value of 'csr' must not be null.")
  end
  if cn ~= old.cn then
    wire.fail(-166, "The common name of the CSR does not match the certificate")
  end
  local record = request.record(call, {orgId = old.org_id, comments = old.comments,
    customFields = old.custom_fields, externalRequester = old.external_requester,
    dcvMode = body.dcvMode, dcvEmail = body.dcvEmail}, profile, old.cn, old.names)
  record.csr = pem or state.certs:csr(old)
  record.renews = old.id
  submit(call, record)
  old.renewed, old.renewed_date = true, state.now()
  return record
end

local function renew_by_id(call)
  auth.need(call, "sslRenew", "SSL renewal")
  local body = wire.body(call, RENEW, true)
  return 200, {sslId = follow(call, ssl_id(call), body).id}
end

local function find_renew_id(call, renew_id)
  for id, record in pairs(call.state.certs.kept) do
    if record.renew_id == renew_id then return by_id(call, id) end
  end
  wire.fail(-123, "The certificate to renew is invalid")
end

local function renew(call)
  auth.need(call, "sslRenew", "SSL renewal")
  local body = wire.body(call, RENEW, true)
  follow(call, find_renew_id(call, call.params.renewId), body)
  return 204
end

--- Only marks the certificate as renewed.
local function renew_manual(call)
  auth.need(call, "sslRenew", "SSL renewal")
  local body, old = wire.body(call, RENEW_MANUAL, true), ssl_id(call)
  if body.id and not call.state.certs:get(body.id) then
    wire.fail(-124, "The SSL id is wrong")
  end
  old.renewed, old.renewed_date, old.renewed_by = true, call.state.now(), body.id
  return 204
end

-- ---------------------------------------------------------------- replacement

local function replace(call)
  auth.need(call, "sslReplace", "SSL replacement")
  local state, body = call.state, wire.body(call, REPLACE)
  local old = ssl_id(call)
  if state.certs:status(old) ~= "Issued" then
    wire.fail(-130, "The certificate state is not ISSUED")
  end
  local profile = request.profile(call, old.profile_id)
  local pem, cn = request.csr(body.csr, profile)
  if body.commonName then cn = body.commonName:lower() end
  local names = request.names(profile, cn, body.subjectAlternativeNames or old.names)
  local org = request.org(call, old.org_id)
  local open = request.domains(call, org, names, body)
  if state.settings.replace == "new_id" then
    local new = {}
    for _, key in ipairs{"org_id", "profile_id", "level", "term", "custom_fields", "via",
      "comments", "requester", "requester_id", "external_requester"} do
      new[key] = old[key]
    end
    new.csr, new.cn, new.names, new.open_dcv, new.status = pem, cn, names, open,
      "Requested"
    state.certs:approve(state.certs:add(new), call.admin)
    old.status, old.replaced = "Replaced", state.now()
  else
    old.csr, old.cn, old.names, old.open_dcv = pem, cn, names, open
    old.replaced, old.replace_reason = state.now(), body.reason
    state.certs:reissue(old)
  end
  return 204
end

-- ---------------------------------------------------------------- import

local LEVEL_PROFILE = {dv = 501, ov = 511, ev = 521}

local function organization_of(state, cert)
  for _, attribute in ipairs(cert.subject) do
    if attribute.type == "O" then
      for _, org in pairs(state.orgs) do
        if org.name == attribute.value then return org end
      end
    end
  end
end

local function import_one(call, entry)
  local state = call.state
  local org = orgs.of_body(state, entry.orgID or entry.orgId or -1)
  local cert, why = try(x509.read, entry.cert)
  if not cert then return {errorMessage = tostring(why.message)} end
  local known = state.certs:find_serial(cert.serial)
  local names = cert.names[1] and cert.names or {cert.subject_dn}
  if not known then
    local level = cert.validation or "dv"
    local record = state.certs:add{org_id = (organization_of(state, cert) or org).id,
      profile_id = LEVEL_PROFILE[level] or 501, level = level:upper(), cn = names[1],
      names = names, status = "Issued", via = "Imported", pem = cert:pem(),
      serial = cert.serial, issuer = "imported", issued = cert.not_before,
      expires = cert.not_after, requested = state.now(), requester = call.admin.login,
      requester_id = call.admin.id, comments = entry.comments or "",
      external_requester = entry.externalRequester or call.admin.email,
      custom_fields = entry.customFields or {}, csr = entry.csr, owner = entry.owner,
      backend_id = entry.backendCertId, imported = true,
      term = math.floor((cert.not_after - cert.not_before) / 86400 + 0.5)}
    known = record.id
    return {created = true, cert = {id = known, subject = cert.subject_dn,
      serialNumber = cert.serial:upper()}}
  end
  return {created = false, cert = {id = known, subject = cert.subject_dn,
    serialNumber = cert.serial:upper()}}
end

--- A list of certificates as JSON. Archives (v1 of the call) are not read here.
local function import(call)
  auth.need(call, "sslManage", "SSL import")
  local media = (call.req.headers["content-type"] or ""):lower()
  if not media:find("json", 1, true) then
    wire.fail(-1, "The sandbox reads no archives: use the JSON form of POST "
      .. "/api/ssl/v2/import")
  end
  local results = {}
  for i, entry in ipairs(wire.body(call, IMPORTS)) do
    if not entry.cert then wire.fail(-1001, "Value of 'cert' must not be null.") end
    results[i] = import_one(call, entry)
  end
  return 200, json.array(results)
end

function enroll.routes(routes)
  local base = "/api/ssl/v1,v2/"
  routes:add("POST", base .. "enroll", enroll_csr)
  routes:add("POST", base .. "enroll-keygen", enroll_keygen)
  routes:add("POST", base .. "renewById/{sslId}", renew_by_id)
  routes:add("POST", base .. "renew/{renewId}", renew)
  routes:add("POST", base .. "renew/manual/{sslId}", renew_manual)
  routes:add("POST", base .. "replace/{sslId}", replace)
  routes:add("POST", base .. "import", import)
end

return enroll
