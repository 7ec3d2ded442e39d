--- Domain control validation: challenges, orders, states and their expiry.
--
-- A domain has a validation (until a day) and at most one open order. Whether a submitted
-- order passes is decided by setting `dcv`: "request" waits for the control face to say so,
-- "accept" passes it after a moment, as if the record had been found.

local auth = require "sandbox_auth"
local digest = require "digest"
local domains = require "sandbox_domains"
local json = require "json"
local profiles = require "sandbox_profiles"
local wire = require "sandbox_wire"

local dcv = {}

local CHECK_EVERY = 2 * 3600 -- seconds between two checks of the CA

local ONE = wire.shape "{domain!:s(3..255)}"
local CONNECTOR = wire.shape "{domain!:s(3..255), dnsAgentUUID:s, dnsProviderName:s}"
local EMAIL_START = wire.shape "{domain:s(3..255), domains:[s]}"
local EMAIL = wire.shape "{domain!:s(<=255), email!:s(e-mail)}"
local EMAIL_BULK = wire.shape "{domains!:[s], email!:s(e-mail)}"
local TXT_BULK = wire.shape "{domains!:[s]}"

local METHODS = {EMAIL = "EMAIL", CNAME = "CNAME_CSR_HASH", HTTP = "HTTP_CSR_HASH",
  HTTPS = "HTTPS_CSR_HASH", TXT = "DNSTXT_RANDOM_VALUE", AUTO = "CNAME_CSR_HASH",
  PERSISTENT_TXT = "DNSTXT_PERSISTENT_VALUE"}

local DISPLAY = {NOT_VALIDATED = "Not validated", VALIDATED = "Validated",
  EXPIRED = "Expired", NOT_INITIATED = "Not initiated", SUBMITTED = "Submitted",
  AWAITING_SUBMIT = "Awaiting submission", REJECTED = "Rejected"}

--- A state as this sandbox spells it.
local function word(state, constant)
  return state.settings.dcv_words == "display" and DISPLAY[constant] or constant
end

-- ---------------------------------------------------------------- challenges

--- What to publish for a domain: the same for each of its orders.
---@return {md5: string, sha256: string, random: string}
function dcv.challenge(state, name)
  local bytes = state:bytes("dcv " .. name)
  local marks = "+/-_=!#$%&*;:?@^~\\\"'"
  local random = bytes:sub(33, 64):gsub(".", function(byte)
    local n = byte:byte()
    if n % 4 == 0 then return marks:sub(n // 4 % #marks + 1, n // 4 % #marks + 1) end
    return ("abcdefghijklmnopqrstuvwxyz0123456789"):sub(n % 36 + 1, n % 36 + 1)
  end)
  return {md5 = digest.hex(bytes:sub(1, 16)), sha256 = digest.hex(digest.sha256(bytes)),
    random = random}
end

local function http_record(state, name, scheme)
  local c = dcv.challenge(state, name)
  return {url = ("%s://%s/.well-known/pki-validation/%s.txt"):format(scheme, name,
    c.md5:upper()), firstLine = c.sha256, secondLine = "sectigo.com"}
end

local function cname_record(state, name)
  local c = dcv.challenge(state, name)
  return {host = ("_%s.%s."):format(c.md5, name),
    point = ("%s.%s.sectigo.com."):format(c.sha256:sub(1, 32), c.sha256:sub(33))}
end

local function txt_record(state, name)
  return {host = ("_pki-validation.%s."):format(name),
    point = dcv.challenge(state, name).random}
end

local function persistent_record(state, name)
  return {host = ("_validation-persist.%s."):format(name),
    point = ("sectigo.com; accounturi=https://acme.sandbox.test/v2/OV/account/%s")
      :format(state:token("persistent account", 22))}
end

local RECORDS = {
  HTTP = function(state, name) return http_record(state, name, "http") end,
  HTTPS = function(state, name) return http_record(state, name, "https") end,
  CNAME = cname_record, TXT = txt_record, PERSISTENT_TXT = persistent_record,
}

--- What an open order asks to be published, or nil.
function dcv.record(state, domain)
  local make = RECORDS[domain.order.mode]
  return make and make(state, domain.name)
end

local MAILBOXES = {"admin", "administrator", "hostmaster", "postmaster", "webmaster"}

local function mailboxes(name)
  local list = {}
  for i, box in ipairs(MAILBOXES) do list[i] = box .. "@" .. name end
  return json.array(list)
end

-- ---------------------------------------------------------------- states

--- The check of the CA passed: the domain is valid from now on.
function dcv.pass(state, domain, when)
  local order = domain.order
  when = when or state.now()
  domain.validated, domain.method = when, METHODS[order.mode or "CNAME"]
  local days = profiles.limits(when).dcv
  if order.mode == "PERSISTENT_TXT" then days = math.min(days, 10) end -- SC-088v3
  domain.expires = when + days * 86400
  domain.order = {status = "NOT_INITIATED", mode = order.mode}
end

--- Let time do what it does to an order.
function dcv.refresh(state, domain)
  local order, now = domain.order, state.now()
  if order.status ~= "SUBMITTED" then return end
  local accepts = state.settings.dcv == "accept" and not order.failing
  if accepts and now >= order.submitted + state.settings.issue_after then
    return dcv.pass(state, domain, order.submitted + state.settings.issue_after)
  end
  while order.next <= now do order.last, order.next = order.next,
    order.next + CHECK_EVERY end
end

--- What the control face asks for: valid, fail, reject or expire.
function dcv.decide(state, domain, outcome)
  dcv.refresh(state, domain)
  local order = domain.order
  if outcome == "valid" then
    dcv.pass(state, domain)
  elseif outcome == "expire" then
    domain.validated = domain.validated or state.now() - 86400
    domain.expires = state.now()
    domain.method = domain.method or METHODS.CNAME
  elseif order.status ~= "SUBMITTED" then
    wire.fail(-724, ("%s has no submitted order"):format(domain.name))
  elseif outcome == "reject" then
    order.status = "REJECTED"
  else
    order.failing, order.last, order.next = true, state.now(), state.now() + CHECK_EVERY
  end
end

local function find(call, name)
  auth.need(call, "allowDCV", "DCV validation")
  name = name:lower()
  if name:find "^%*%." or domains.registrable(name) ~= name then
    wire.fail(-723, "Only high level domains can be validated")
  end
  local domain = call.state.domain_names[name]
    or wire.missing(-727, ("Domain ''%s'' does not exist"):format(name))
  if domain.state ~= "ACTIVE" then wire.fail(-715, "The domain is inactive") end
  dcv.refresh(call.state, domain)
  return domain
end

-- ---------------------------------------------------------------- showing

local function details(call, domain)
  local state, order = call.state, domain.order
  local shown = {status = word(state, domains.status(state, domain)),
    orderStatus = word(state, order.status),
    validationDate = wire.date(call, domain.validated, "ISO"),
    expirationDate = wire.date(call, domain.expires, "ISO")}
  if call.version < 2 then return shown end
  shown.orderMode = order.mode
  if order.status == "NOT_INITIATED" then return shown end
  for key, value in pairs(dcv.record(state, domain) or {}) do shown[key] = value end
  shown.validationEmail = order.email
  shown.emailValidationReferenceNumber = order.reference
  shown.orderBackendId = order.backend_id
  shown.submittedDate = wire.date(call, order.submitted, "ISO")
  shown.lastCheck = wire.date(call, order.last, "ISO_HMS")
  shown.nextCheck = wire.date(call, order.next, "ISO_HMS")
  return shown
end

local function status(call)
  return 200, details(call, find(call, wire.body(call, ONE).domain))
end

local function sync(call)
  local domain = find(call, wire.body(call, ONE).domain)
  if domain.order.status == "SUBMITTED" then domain.order.last = call.state.now() end
  return 200, details(call, domain)
end

local function row(call, domain)
  local state = call.state
  return {domain = domain.name, dcvStatus = word(state, domains.status(state, domain)),
    dcvOrderStatus = word(state, domain.order.status), dcvOrderMethod = domain.order.mode,
    dcvMethod = domain.method or nil,
    expirationDate = wire.date(call, domain.expires, "ISO")}
end

local function expires_within(domain, now, days)
  return domain.expires ~= nil and domain.expires >= now
    and domain.expires - now <= days * 86400
end

local function to_org(domain, org_id)
  for _, delegation in ipairs(domain.delegations) do
    if delegation.org_id == org_id then return true end
  end
  return false
end

local function list(call)
  auth.need(call, "allowDCV", "DCV validation")
  local state, found = call.state, {}
  local name, days = wire.text(call, "domain"), wire.number(call, "expiresIn")
  local wanted, order = wire.text(call, "dcvStatus"), wire.text(call, "orderStatus")
  local org = wire.number(call, "department") or wire.number(call, "org")
  for _, id in ipairs(state.domain_order) do
    local domain = state.domains[id]
    dcv.refresh(state, domain)
    if wire.contains(domain.name, name) and (not org or to_org(domain, org))
      and (not wanted or wire.same_word(wanted, domains.status(state, domain)))
      and (not order or wire.same_word(order, domain.order.status)
        or wire.same_word(order, DISPLAY[domain.order.status]))
      and (not days or expires_within(domain, state.now(), days)) then
      found[#found + 1] = domain
    end
  end
  return wire.list(call, found, row)
end

-- ---------------------------------------------------------------- orders

local function open_order(domain, mode)
  if domain.order.status == "SUBMITTED" and domain.order.mode ~= mode then
    wire.fail(-724, "The request is not possible with the current validation status")
  end
  if domain.order.status ~= "SUBMITTED" then
    domain.order = {status = "AWAITING_SUBMIT", mode = mode}
  end
end

local function start(mode)
  return function(call)
    local domain = find(call, wire.body(call, ONE).domain)
    open_order(domain, mode)
    return 200, RECORDS[mode](call.state, domain.name)
  end
end

local function start_txt(call)
  open_order(find(call, wire.body(call, ONE).domain), "TXT")
  return 200, {message = "DCV started"}
end

local function start_email(call)
  local body = wire.body(call, EMAIL_START)
  local names = body.domains or {body.domain}
  if #names == 0 then wire.fail(-1001, "Value of 'domain' must not be null.") end
  local rows, first = {}, nil
  for i, name in ipairs(names) do
    local domain = find(call, name)
    open_order(domain, "EMAIL")
    first = first or domain.name
    rows[i] = {domainName = domain.name, adminEmails = mailboxes(domain.name),
      whoisEmails = json.array{}, dnsTxtEmails = json.array{}}
  end
  return 200, {emails = #names == 1 and mailboxes(first) or json.array{},
    dcvEmails = json.array(rows)}
end

local function submit_order(call, domain, mode, started)
  local state, order = call.state, domain.order
  if started and (order.status ~= "AWAITING_SUBMIT" or order.mode ~= mode)
    and order.status ~= "SUBMITTED" then
    wire.fail(-724, "The request is not possible with the current validation status")
  end
  local now = state.now()
  domain.order = {status = "SUBMITTED", mode = mode, submitted = now, last = now,
    next = now + CHECK_EVERY, backend_id = tostring(state:next_id "dcv order")}
  return domain.order
end

local function submitted(call, domain)
  return {status = word(call.state, domains.status(call.state, domain)),
    orderStatus = word(call.state, "SUBMITTED"), message = "Submitted successfully",
    orderBackendId = domain.order.backend_id}
end

local function submit(mode)
  return function(call)
    local domain = find(call, wire.body(call, ONE).domain)
    submit_order(call, domain, mode, true)
    return 200, submitted(call, domain)
  end
end

local function submit_cname(call)
  local body = wire.body(call, CONNECTOR)
  local domain, automatic = find(call, body.domain), body.dnsAgentUUID ~= nil
  submit_order(call, domain, automatic and "AUTO" or "CNAME", not automatic)
  return 200, submitted(call, domain)
end

--- TXT needs no start: the record comes with the answer.
local function submit_txt(mode)
  return function(call)
    local domain = find(call, wire.body(call, CONNECTOR).domain)
    submit_order(call, domain, mode, false)
    local shown = submitted(call, domain)
    for key, value in pairs(dcv.record(call.state, domain)) do shown[key] = value end
    return 200, shown
  end
end

local function submit_persistent_bulk(call)
  local rows = {}
  for i, name in ipairs(wire.body(call, TXT_BULK).domains) do
    local domain = find(call, name)
    submit_order(call, domain, "PERSISTENT_TXT", false)
    rows[i] = submitted(call, domain)
    rows[i].domain = domain.name
    for key, value in pairs(dcv.record(call.state, domain)) do rows[i][key] = value end
  end
  return 200, json.array(rows)
end

local function check_mailbox(name, email)
  for _, box in ipairs(mailboxes(name)) do
    if box == email:lower() then return end
  end
  wire.fail(-1603,
    ("Error validating domain: ''%s'' is not possible for %s"):format(email,
    name))
end

local function mail_order(call, name, email)
  local domain = find(call, name)
  check_mailbox(domain.name, email)
  local order = submit_order(call, domain, "EMAIL", true)
  order.email, order.reference = email, tostring(call.state:next_id "dcv mail")
  return domain
end

local function submit_email(call)
  local body = wire.body(call, EMAIL)
  local domain = mail_order(call, body.domain, body.email)
  local shown = submitted(call, domain)
  shown.emailValidationReferenceNumber = domain.order.reference
  return 200, shown
end

local function submit_email_bulk(call)
  local body, last = wire.body(call, EMAIL_BULK), nil
  for _, name in ipairs(body.domains) do last = mail_order(call, name, body.email) end
  if not last then wire.fail(-1001, "Value of 'domains' must not be empty.") end
  local shown = submitted(call, last)
  shown.status = nil
  return 200, shown
end

--- Back to the start; a valid validation stays.
local function clear(call)
  local domain = find(call, wire.body(call, ONE).domain)
  domain.order = {status = "NOT_INITIATED"}
  return 200, {status = word(call.state, domains.status(call.state, domain)),
    orderStatus = word(call.state, "NOT_INITIATED"), message = "Cleared successfully"}
end

local function delete(call)
  local domain = find(call, wire.body(call, ONE).domain)
  domain.validated, domain.expires, domain.method = nil, nil, nil
  domain.order = {status = "NOT_INITIATED"}
  return 200
end

function dcv.routes(routes)
  local base = "/api/dcv/v1,v2/validation"
  routes:add("GET", base, list)
  for name, handler in pairs{status = status, sync = sync, clear = clear,
    delete = delete} do
    routes:add("POST", base .. "/" .. name, handler)
  end
  for path, mode in pairs{http = "HTTP", https = "HTTPS", cname = "CNAME"} do
    routes:add("POST", base .. "/start/domain/" .. path, start(mode))
  end
  routes:add("POST", base .. "/submit/domain/http", submit "HTTP")
  routes:add("POST", base .. "/submit/domain/https", submit "HTTPS")
  routes:add("POST", base .. "/submit/domain/cname", submit_cname)
  routes:add("POST", base .. "/start/domain/txt", start_txt)
  routes:add("POST", base .. "/submit/domain/txt", submit_txt "TXT")
  routes:add("POST", base .. "/submit/domain/persistent-txt", submit_txt "PERSISTENT_TXT")
  routes:add("POST", base .. "/submit-bulk/domain/persistent-txt", submit_persistent_bulk)
  routes:add("POST", base .. "/start/domain/email", start_email)
  routes:add("POST", base .. "/submit/domain/email", submit_email)
  routes:add("POST", base .. "/submit-bulk/domain/email", submit_email_bulk)
end

return dcv
