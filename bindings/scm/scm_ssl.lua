--- c.ssl: TLS certificates. What the table of operations cannot do by itself.
--
--     for cert in c.ssl:list{status = "Issued", org = "Example Corp"} do … end
--     local id = c.ssl:enroll{org = "Example Corp", profile = "InstantSSL Pro", csr = csr}
--     local bundle = c.ssl:wait{id = id, key = key}       -- .pem, .cert, .chain
--     c.ssl:revoke{id = id, code = "superseded", reason = "replaced by 4712"}

local args = require "args"
local core = require "scm.core"
local errors = require "errors"
local scm_call = require "scm_call"
local scm_collect = require "scm_collect"
local scm_enroll = require "scm_enroll"
local scm_list = require "scm_list"
local scm_names = require "scm_names"

local ssl = {
  enroll = scm_enroll.enroll,
  find_enrolment = scm_enroll.find,
  collect = scm_collect.collect,
  wait = scm_collect.wait,
}

local function call(self, name, parameters, options)
  return scm_call.run(self.conn, name, parameters, options or {})
end

local function camel(name)
  return type(name) == "string" and name:gsub("_(%l)", string.upper) or name
end

--- A filter in SCM's words: org and profile by name.
local function filter_of(self, given)
  local filter = {}
  for name, value in pairs(given or {}) do filter[camel(name)] = value end
  if filter.org ~= nil then
    filter.orgId, filter.org = scm_names.organization(self.conn, filter.org), nil
  end
  if filter.profile ~= nil then
    if math.type(filter.profile) ~= "integer" and not filter.orgId then
      errors.raise("usage", "c.ssl:list: profile by name needs org; names are per "
        .. "organization", {code = "BAD_ARGUMENT"})
    end
    filter.sslTypeId = scm_names.profile(self.conn, filter.profile, filter.orgId or 0)
    filter.profile = nil
  end
  return filter
end

--- Certificates, read while they are walked: {sslId, commonName, subjectAlternativeNames,
--- serialNumber}. Filters as of operation ssl.list, in SCM's or our spelling, and `org`,
--- `profile` by name; size, limit, position.
---@param filter table?
---@param options table?
---@return scm.List
function ssl:list(filter, options)
  return scm_list.open(self.conn, "ssl.list", filter_of(self, filter), options)
end

--- How many certificates there are; filters as of list.
---@param filter table?
---@return integer
function ssl:count(filter)
  local parameters = filter_of(self, filter)
  if self.conn.face == "classic" then return (call(self, "ssl.count", parameters)) end
  parameters.size = 1
  local _, info = call(self, "ssl.list", parameters)
  return info.total or errors.raise("protocol",
    "ssl.list: no X-Total-Count in the answer", {code = "BAD_ANSWER"})
end

local PROFILES = {{name = "org", type = "any", doc = "name or id; all without"},
  {name = "organization_id", type = "integer"},
  {name = "organizationId", type = "integer"}}

--- The profiles that an organization may use: {id, name, terms, keyTypes, …}.
---@param options {org: string|integer?}?
---@return table[]
function ssl:profiles(options)
  options = args.check("c.ssl:profiles", PROFILES, options)
  local org = options.org or options.organization_id or options.organizationId
  return (call(self, "ssl.profiles",
    {organizationId = org and scm_names.organization(self.conn, org)}))
end

-------------------------------------------------------------------- details

local ID = {{name = "id", type = "integer", required = true, positive = true}}

--- 7, {id = 7} or {sslId = 7} → 7
local function id_of(what, given)
  if type(given) == "table" and given.id == nil then given = given.sslId end
  if type(given) == "table" then given = given.id end
  return args.check(what, ID, {id = given}).id
end

--- Everything SCM knows about a certificate, with `state` as scm.status gives it.
---@param given integer|{id: integer}
---@return table
function ssl:get(given)
  local details = call(self, "ssl.get", {sslId = id_of("c.ssl:get", given)})
  if type(details) == "table" and type(details.status) == "string" then
    local _, state = core.status(details.status)
    details.state = state
  end
  return details
end

--- The certificate's own domain validation, as a list whatever the face sends:
--- {{dcvLog = …, instructions = {…}}}.
---@param given integer|{id: integer}
---@return table[]
function ssl:dcv(given)
  local answer = call(self, "ssl.dcv", {sslId = id_of("c.ssl:dcv", given)})
  if answer == true then return {} end
  return answer[1] and answer or next(answer) and {answer} or {}
end

-------------------------------------------------------------------- decisions

local DECISION = {
  {name = "id", type = "integer", required = true, positive = true},
  {name = "message", type = "string", required = true, nonempty = true,
    doc = "why, up to 512 characters"},
}

--- Approve a request; SCM refuses it of whoever made it where it is EV.
---@param options {id: integer, message: string}
function ssl:approve(options)
  return (call(self, "ssl.approve", args.check("c.ssl:approve", DECISION, options)))
end

--- Decline a request.
---@param options {id: integer, message: string}
function ssl:decline(options)
  return (call(self, "ssl.decline", args.check("c.ssl:decline", DECISION, options)))
end

local REASONS = {unspecified = 0, keycompromise = 1, affiliationchanged = 3,
  superseded = 4, cessationofoperation = 5}
local REASON_NAMES = {"unspecified", "keyCompromise", "affiliationChanged", "superseded",
  "cessationOfOperation"}

--- The number of a reason of revocation, by name (RFC 5280) or number.
local function reason_code(given)
  if given == nil then return 0 end
  for _, code in pairs(REASONS) do
    if code == given then return code end
  end
  local word = type(given) == "string" and given:lower():gsub("[^%l]", "")
  if word and REASONS[word] then return REASONS[word] end
  local close = word and args.suggest(given, REASON_NAMES)
  errors.raise("usage", ("c.ssl:revoke: code %s; SCM takes 0 unspecified, "
    .. "1 keyCompromise, 3 affiliationChanged, 4 superseded, "
    .. "5 cessationOfOperation%s"):format(tostring(given),
    close and ("; did you mean %q?"):format(close) or ""),
    {code = "BAD_ARGUMENT"})
end

local REVOKE = {
  {name = "id", type = "integer", positive = true},
  {name = "serial", type = "string", nonempty = true, doc = "instead of id"},
  {name = "reason", type = "string", required = true, nonempty = true,
    doc = "in words, up to 512 characters"},
  {name = "code", type = "any", doc = "reason of RFC 5280 by name or number (0)"},
}

--- Revoke an issued certificate, by id or serial number.
---@param options {id: integer?, serial: string?, reason: string, code: string|integer?}
function ssl:revoke(options)
  options = args.check("c.ssl:revoke", REVOKE, options)
  local body = {reason = options.reason, reasonCode = reason_code(options.code)}
  if (options.id == nil) == (options.serial == nil) then
    errors.raise("usage", "c.ssl:revoke: give either id or serial",
      {code = "BAD_ARGUMENT"})
  end
  if options.id then
    body.id = options.id
    return (call(self, "ssl.revoke", body))
  end
  body.serialNumber = options.serial
  return (call(self, "ssl.revoke_serial", body))
end

-------------------------------------------------------------------- renewal

local RENEW = {
  {name = "id", type = "integer", required = true, positive = true},
  {name = "csr", type = "any", doc = "PEM or x509.csr; that of the old one without"},
  {name = "dcv_mode", type = "string"},
  {name = "dcv_email", type = "string"},
  {name = "auto_renew", type = "enum", choices = "refuse|take_over",
    doc = "where SCM renews it by itself (refuse)"},
}

local SCHEDULED = {scheduled = true, started = true}

local SETTLE = {
  {name = "id", type = "integer", required = true, positive = true},
  {name = "auto_renew", type = "enum", choices = "refuse|take_over", doc = "(refuse)"},
}

--- Where SCM itself is about to renew, only one of the two may: raises conflict (code
--- AUTO_RENEWAL), or with "take_over" switches SCM's off.
---@param options {id: integer, auto_renew: string?}
function ssl:settle_auto_renewal(options)
  options = args.check("c.ssl:settle_auto_renewal", SETTLE, options)
  local id = options.id
  local details = ssl.get(self, id)
  local auto = details.autoRenewDetails or {}
  if not SCHEDULED[(auto.state or ""):lower()] then return end
  if options.auto_renew ~= "take_over" then
    errors.raise("conflict", ("SCM renews certificate %d by itself (%s%s); leave it to "
      .. 'SCM, or give auto_renew = "take_over"'):format(id, auto.state,
      auto.daysBeforeExpiration and (", %d days before it expires"):format(
        auto.daysBeforeExpiration) or ""), {code = "AUTO_RENEWAL"})
  end
  call(self, "ssl.update", {sslId = id, autoRenewDetails = {state = "Not scheduled"}})
end

local function csr_text(csr)
  if csr == nil or type(csr) == "string" then return csr end
  return csr:pem()
end

--- Renew a certificate; the id of the new one. Refused where SCM is about to renew it by
--- itself, unless `auto_renew = "take_over"`, which switches that off first.
---@param options {id: integer, csr: string|x509.csr?, dcv_mode: string?,
---  dcv_email: string?, auto_renew: string?}
---@return integer id
function ssl:renew(options)
  options = args.check("c.ssl:renew", RENEW, options)
  self:settle_auto_renewal{id = options.id, auto_renew = options.auto_renew}
  local answer = call(self, "ssl.renew", {sslId = options.id, csr = csr_text(options.csr),
    dcvMode = options.dcv_mode, dcvEmail = options.dcv_email})
  if type(answer) == "table" and math.type(answer.sslId) == "integer" then
    return answer.sslId
  end
  errors.raise("protocol", ("ssl.renew: answered without the new id; look for a renewal "
    .. "of %d before trying again"):format(options.id), {code = "BAD_ANSWER"})
end

local REPLACE = {
  {name = "id", type = "integer", required = true, positive = true},
  {name = "csr", type = "any", required = true, doc = "PEM or x509.csr"},
  {name = "reason", type = "string", required = true, nonempty = true},
  {name = "common_name", type = "string", nonempty = true},
  {name = "names", type = "list", choices = "string", doc = "alternative names"},
  {name = "dcv_mode", type = "string"},
  {name = "dcv_email", type = "string"},
}

--- Replace a certificate, with a new key or other names. SCM does not say which id the new
--- one has: as a rule the same; read its details, and collect with the new key.
---@param options table
function ssl:replace(options)
  options = args.check("c.ssl:replace", REPLACE, options)
  return (call(self, "ssl.replace", {sslId = options.id, csr = csr_text(options.csr),
    reason = options.reason, commonName = options.common_name,
    subjectAlternativeNames = options.names, dcvMode = options.dcv_mode,
    dcvEmail = options.dcv_email}))
end

-------------------------------------------------------------------- key stores

local KEYSTORE = {
  {name = "id", type = "integer", required = true, positive = true},
  {name = "format", type = "enum", choices = "key|p12|p12aes|jks|pem", required = true},
  {name = "passphrase", type = "secret", doc = "up to 32 characters"},
}

--- A link, good once, to a key that a Private Key Agent holds.
---@param options {id: integer, format: string, passphrase: userdata?}
---@return string link
function ssl:keystore(options)
  options = args.check("c.ssl:keystore", KEYSTORE, options)
  local where = {sslId = options.id, formatType = options.format}
  local ok, answer = pcall(call, self, "ssl.keystore", {sslId = options.id,
    formatType = options.format, passphrase = options.passphrase})
  if not ok then
    local err = errors.object(answer)
    if err.status ~= 405 or self.conn.face ~= "classic" then error(err, 0) end
    answer = call(self, "ssl.keystore_link", where) -- as it was before 25.9
  end
  if type(answer) == "table" and type(answer.link) == "string" then return answer.link end
  errors.raise("protocol", "ssl.keystore: answered without a link", {code = "BAD_ANSWER"})
end

return ssl
