--- The control face: what a test or a person asks the sandbox itself to do.
--
--     POST /control/clock    {"advance": "30d"}
--     POST /control/faults   {"path": "/api/ssl/v1/enroll", "lose": true}
--     POST /control/dcv      {"domain": "new.test", "outcome": "valid"}
--     POST /control/settings {"issue_after": "3d", "stuck": true}
--
-- Only programs of this machine reach it, and it needs no login. The same by name from Lua:
-- server:control("clock", {advance = "30d"}).

local args = require "args"
local dcv = require "sandbox_dcv"
local errors = require "errors"
local json = require "json"
local org_validations = require "sandbox_org_validations"
local sandbox_ca = require "sandbox_ca"
local time = require "time"
local wire = require "sandbox_wire"

local control = {}

local acts = {}

local function checked(name, spec, body)
  return args.check("control/" .. name, spec, body)
end

local CLOCK = {{name = "advance", type = "duration"}, {name = "set", type = "any",
  doc = "an instant: UTC seconds or RFC 3339"}}

function acts.clock(server, body)
  local given, state = checked("clock", CLOCK, body), server.state
  if given.advance then state:advance(args.duration(given.advance)) end
  if given.set then
    local instant = tonumber(given.set) or time.parse(given.set)
      or errors.raise("usage", ("control/clock: set: %s is no instant"):format(given.set))
    state:advance(instant - state.now())
  end
  state.certs.version = state.certs.version + 1
  return {now = time.rfc3339(state.now()), offset = state.offset}
end

function acts.settings(server, body)
  local state, before = server.state, server.state.settings.stuck
  state:set(body)
  if before and not state.settings.stuck then -- what waited goes on from now
    for _, record in pairs(state.certs.kept) do
      if record.status == "Applied" then record.ready = state.now() end
    end
  end
  state.certs.version = state.certs.version + 1
  return state.settings
end

--- One fault, a list of them, or {clear = true}.
function acts.faults(server, body)
  if body.clear then
    server.faults:clear()
  elseif #body > 0 then
    for _, fault in ipairs(body) do server.faults:add(fault) end
  else
    server.faults:add(body)
  end
  return {waiting = #server.faults.list}
end

local DCV = {
  {name = "domain", type = "string"},
  {name = "sslId", type = "integer", doc = "the open domains of a certificate"},
  {name = "outcome", type = "enum", choices = "valid|fail|reject|expire",
    required = true},
}

function acts.dcv(server, body)
  local given, state = checked("dcv", DCV, body), server.state
  if given.sslId then
    local record = state.certs:edit(given.sslId)
      or errors.raise("not_found", ("there is no certificate %d"):format(given.sslId))
    if given.outcome == "valid" then
      require("sandbox_ssl").pass_dcv(state, record)
    elseif given.outcome == "reject" then
      record.status, record.open_dcv = "Rejected", nil
    end
    return {sslId = record.id, status = record.status}
  end
  local domain = state.domain_names[given.domain or ""]
    or errors.raise("not_found", ("there is no domain %q"):format(given.domain or ""))
  dcv.decide(state, domain, given.outcome)
  return {domain = domain.name, record = dcv.record(state, domain)}
end

local VALIDATION = {
  {name = "orgId", type = "integer", required = true},
  {name = "level", type = "enum", choices = "OV_SSL|OV_SMIME|EV_SSL", required = true},
  {name = "outcome", type = "enum", choices = "valid|fail|expire", required = true},
}

acts["org-validation"] = function(server, body)
  local given = checked("org-validation", VALIDATION, body)
  org_validations.decide(server.state, given.orgId, given.level, given.outcome)
  return given
end

local CERTIFICATE = {
  {name = "sslId", type = "integer", required = true},
  {name = "status", type = "enum", choices = "Rejected|Invalid|Init"},
  {name = "stuck", type = "boolean", doc = "stay in Applied"},
  {name = "auto_renew", type = "enum", choices = "Not scheduled|Scheduled|Started"},
}

--- What the CA or SCM itself does to a certificate.
function acts.certificate(server, body)
  local given, state = checked("certificate", CERTIFICATE, body), server.state
  local record = state.certs:edit(given.sslId)
    or errors.raise("not_found", ("there is no certificate %d"):format(given.sslId))
  if given.status then record.status = given.status end
  if given.stuck ~= nil then record.stuck, record.ready = given.stuck, state.now() end
  if given.auto_renew then
    record.auto_renew = {state = given.auto_renew, daysBeforeExpiration = 30}
  end
  return {sslId = record.id, status = state.certs:status(record)}
end

local ADMIN = {
  {name = "login", type = "string", required = true},
  {name = "password", type = "string"},
  {name = "disabled", type = "boolean"},
  {name = "password_expired", type = "boolean"},
  {name = "grant", type = "list", choices = "string"},
  {name = "withdraw", type = "list", choices = "string"},
  {name = "certificate_serial", type = "string"},
}

function acts.admin(server, body)
  local given = checked("admin", ADMIN, body)
  local admin = require("sandbox_auth").find(server.state, given.login)
    or errors.raise("not_found", ("there is no login %q"):format(given.login))
  admin.password = given.password or admin.password
  admin.certificate_serial = given.certificate_serial or admin.certificate_serial
  if given.disabled ~= nil then admin.disabled = given.disabled end
  if given.password_expired ~= nil then
    admin.password_expired = given.password_expired
  end
  for _, name in ipairs(given.grant or {}) do admin.privileges[name] = true end
  for _, name in ipairs(given.withdraw or {}) do admin.privileges[name] = nil end
  return {login = admin.login}
end

--- Bearer tokens end now.
acts["expire-tokens"] = function(server)
  server.state.tokens = {}
  return {}
end

function acts.requests(server)
  return {count = server.count, last = json.array(table.move(server.requests, 1,
    #server.requests, 1, {}))}
end

function acts.status(server)
  local state = server.state
  return {now = time.rfc3339(state.now()), certificates = state.certs:count(),
    requests = server.count, settings = state.settings, faults = #server.faults.list}
end

--- Do what a name stands for. Raises usage for unknown names and wrong bodies.
---@param server table
---@param name string
---@param body table
---@return table
function control.act(server, name, body)
  local act = acts[name]
  if not act then
    local names = {}
    for known in pairs(acts) do names[#names + 1] = known end
    table.sort(names)
    local close = args.suggest(name, names)
    errors.raise("usage", ("control: there is no %q%s; it has %s"):format(name,
      close and ", did you mean " .. close .. "?" or "", table.concat(names, ", ")))
  end
  return act(server, body)
end

local STATUS = {usage = 400, not_found = 404}

--- A request to /control/NAME.
function control.serve(server, req, path)
  local body = {}
  if req.body ~= "" then
    local ok, value = pcall(json.decode, req.body)
    if not ok or type(value) ~= "table" then
      return 400, {error = "the body is no JSON object"}
    end
    body = value
  end
  local ok, result = xpcall(control.act, function(err)
    return getmetatable(err) == wire.Failure and err or errors.object(err)
  end, server, path:match "^/control/(.*)$", body)
  if ok then return 200, result end
  local message = result.description or result.message
  return result.status or STATUS[result.kind] or 500, {error = message}
end

--- Certificates and lists of the CA: /ca/root.pem, /ca/OV.cer, /ca/OV.crl.
function control.ca_file(state, path)
  local name, kind = path:match "^/ca/([%w-]+)%.(%w+)$"
  local ca = state.ca
  if name == "root" and (kind == "pem" or kind == "cer") then
    if kind == "pem" then return 200, ca.root:pem(), {["Content-Type"] = "text/plain"} end
    return 200, ca.root:der(), {["Content-Type"] = "application/pkix-cert"}
  end
  for _, issuer in ipairs(sandbox_ca.ISSUERS) do
    if issuer == name and kind == "cer" then
      return 200, ca:chain(name)[1]:der(), {["Content-Type"] = "application/pkix-cert"}
    elseif issuer == name and kind == "crl" then
      return 200, ca:crl(name):der(), {["Content-Type"] = "application/pkix-crl"}
    end
  end
  return 404, nil
end

return control
