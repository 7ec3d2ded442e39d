--- Who calls: the header login, its client-certificate form, and OAuth2 bearer tokens.
--
-- The classic face takes headers (login, password, customerUri; under /private a client
-- certificate instead of the password). The face for administrators takes bearer tokens of
-- the token endpoint, and its 401 names that endpoint.

local digest = require "digest"
local encoding = require "encoding"
local wire = require "sandbox_wire"
local x509 = require "x509"

local auth = {}

auth.TOKEN_PATH = "/auth/realms/apiclients/protocol/openid-connect/token"

--- Privileges, as SCM names them.
auth.PRIVILEGES = {"allowDCV", "autoApproveCertificates", "allowMsAdDiscovery",
  "approveDomainDelegation", "allowManageDomains", "sslRequest", "sslRenew", "sslReplace",
  "sslRevoke", "sslApprove", "sslManage", "clientCertManage",
  "editOrganizationAndDepartment", "addOrganizationAndDepartments", "addDepartments",
  "editDepartments", "orgValidationManager"}

local function without(list, ...)
  local left = {}
  for _, name in ipairs(list) do left[name] = true end
  for _, name in ipairs{...} do left[name] = nil end
  return left
end

--- The logins a sandbox begins with: one that requests and cannot approve, one that approves,
--- one that may only look.
function auth.seed(state)
  local requests = without(auth.PRIVILEGES, "sslApprove",
    "approveDomainDelegation")
  state.admins = {
    {id = 1, login = "api", password = "api-password", email = "api@example.com",
      name = "Ada Request", role = "MRAO", privileges = requests,
      client_id = "sandbox-api", client_secret = "sandbox-api-secret"},
    {id = 2, login = "approver", password = "approver-password",
      email = "approver@example.com", name = "Alan Approver", role = "MRAO",
      privileges = without(auth.PRIVILEGES, "autoApproveCertificates"),
      client_id = "sandbox-approver", client_secret = "sandbox-approver-secret"},
    {id = 3, login = "viewer", password = "viewer-password",
      email = "viewer@example.com", name = "Vera Viewer", role = "RAO_SSL", org_id = 101,
        privileges = {},
      client_id = "sandbox-viewer", client_secret = "sandbox-viewer-secret"},
  }
  state.tokens = {}
end

--- The administrator of a login, or nil.
function auth.find(state, login)
  for _, admin in ipairs(state.admins) do
    if admin.login == login then return admin end
  end
end

--- Raise -3 unless the caller has the privilege.
function auth.need(call, privilege, action)
  if call.admin.privileges[privilege] then return end
  wire.fail(-3, ("You are not authorized to perform %s."):format(action))
end

--- Raise -3 unless the caller administers the whole customer.
function auth.need_master(call, action)
  if call.admin.role == "MRAO" then return end
  wire.fail(-3, ("You are not authorized to perform %s."):format(action))
end

-- ---------------------------------------------------------------- header login

local function unknown_user() wire.fail(-16, "Unknown user", 401) end

local function plain_hex(serial)
  return (serial:gsub("[^%x]", ""):lower():gsub("^0+", ""))
end

--- The login of a client certificate: the TLS layer verified it against our CA, and the
--- administrator's record holds its serial number.
local function by_certificate(state, req)
  local admin = auth.find(state, req.headers.login)
  local shown = req.client_cert
  if not admin or not admin.certificate_serial or not shown or not shown.verified then
    unknown_user()
  end
  local serial = plain_hex(x509.read(shown.pem).serial)
  if serial ~= plain_hex(admin.certificate_serial) then unknown_user() end
  return admin
end

local function by_password(state, req)
  local admin = auth.find(state, req.headers.login)
  local given = req.headers.password
  if not admin or not given then unknown_user() end
  if state.settings.any_password or digest.equal(given, admin.password) then
    return admin
  end
  unknown_user()
end

local function by_headers(state, req, private)
  if req.headers.customeruri ~= state.settings.customer_uri then unknown_user() end
  local admin = (private and by_certificate or by_password)(state, req)
  if admin.disabled then unknown_user() end
  return admin
end

-- ---------------------------------------------------------------- OAuth2

local function by_token(state, req)
  local token = (req.headers.authorization or ""):match "^[Bb]earer%s+(%S+)$"
  local known = token and state.tokens[token]
  if known and state.now() < known.ends and not known.admin.disabled then
    return known.admin
  end
  local why = token and ', error="invalid_token"' or ""
  error(setmetatable({code = -16, description = "Unauthorized", status = 401, headers = {
    ["WWW-Authenticate"] = ('Bearer realm="apiclients", authorization_uri="%s"%s'):format(
      state.token_url, why)}}, wire.Failure), 0)
end

local function token_error(status, name, text)
  return status, {error = name, error_description = text}
end

local function drop_old(state)
  for token, known in pairs(state.tokens) do
    if state.now() >= known.ends then state.tokens[token] = nil end
  end
end

--- The token endpoint: client credentials in the form, or as Basic.
function auth.token(state, req)
  local ok, form = pcall(req.form, req)
  if not ok then return token_error(400, "invalid_request", "a form is needed") end
  if form.grant_type ~= "client_credentials" then
    return token_error(400, "unsupported_grant_type", "Unsupported grant_type")
  end
  local id, secret = form.client_id, form.client_secret
  local basic = (req.headers.authorization or ""):match "^[Bb]asic%s+(%S+)$"
  if basic then
    id, secret = (try(encoding.base64_decode, basic) or ""):match "^([^:]*):(.*)$"
  end
  for _, admin in ipairs(state.admins) do
    if id == admin.client_id and secret and (state.settings.any_password
      or digest.equal(secret, admin.client_secret)) then
      drop_old(state)
      local token = encoding.base64url_encode(digest.random(32))
      local lifetime = state.settings.token_lifetime
      state.tokens[token] = {admin = admin, ends = state.now() + lifetime}
      return 200, {access_token = token, expires_in = lifetime, refresh_expires_in = 0,
        token_type = "Bearer", scope = "email profile"}
    end
  end
  return token_error(401, "unauthorized_client",
    "Invalid client or Invalid client credentials")
end

-- ---------------------------------------------------------------- calls

--- The administrator who calls; raises 401.
---@param state table
---@param req table
---@param face "classic"|"admin"
---@param private boolean the path begins with /private
---@return table admin
function auth.caller(state, req, face, private)
  local admin
  if face == "admin" then
    admin = by_token(state, req)
  else
    admin = by_headers(state, req, private)
  end
  if admin.password_expired and not req.raw_path:find "/api/admin/v1/%a*password" then
    unknown_user()
  end
  return admin
end

return auth
