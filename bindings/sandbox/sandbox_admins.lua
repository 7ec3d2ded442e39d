--- Administrators, and the caller's own password.

local auth = require "sandbox_auth"
local json = require "json"
local wire = require "sandbox_wire"

local admins = {}

local FIELDS = [[type:s(STANDARD|API|IDP|SAS), login:s(3..128), password:s(<=64),
  certificateSerialNumber:s, forename:s(<=64), surname:s(<=64), title:s(<=64),
  telephone:s(<=32), relationship:s(<=256), privileges:[s],
  credentials:[{role:s, orgId:n}], activeStatus:s(ACTIVE|SUSPENDED)]]
local CREATE = wire.shape("{email!:s(<=128, e-mail), " .. FIELDS .. "}")
local UPDATE = wire.shape("{email:s(<=128, e-mail), " .. FIELDS .. "}")
local CHANGE = wire.shape "{newPassword!:s(1..64)}"
local LASTS = 90 * 86400 -- a password

local ROLES = {"MRAO", "RAO_SSL", "RAO_SMIME", "RAO_DEVICE", "RAO_CS", "DRAO_SSL",
  "DRAO_SMIME", "DRAO_DEVICE", "DRAO_CS"}

local function names_of(admin) return admin.name:match "^(%S*)%s*(.*)$" end

local function short(_, admin)
  local forename, surname = names_of(admin)
  return {id = admin.id, type = admin.type or "API", login = admin.login,
    email = admin.email, forename = forename, surname = surname}
end

local function full(call, admin)
  local shown, privileges = short(call, admin), {}
  for name in pairs(admin.privileges) do privileges[#privileges + 1] = name end
  table.sort(privileges)
  shown.privileges = json.array(privileges)
  shown.credentials = json.array{{role = admin.role, orgId = admin.org_id}}
  shown.passwordState = admin.password_expired and "EXPIRED" or "ALIVE"
  shown.passwordExpiryDate = wire.date(call, call.state.started + LASTS, "ISO")
  shown.lastPasswordChange = wire.date(call, admin.changed or call.state.started, "ISO")
  shown.created = wire.date(call, call.state.started, "ISO")
  shown.modified = wire.date(call, admin.changed or call.state.started, "ISO")
  shown.authCert = admin.certificate_serial
  shown.failedAttempts = 0
  local word = admin.disabled and "Suspended" or "Active"
  shown.status, shown.activeState, shown.activeStatus = word, word, word:upper()
  return shown
end

local function list(call)
  local found, login, email = {}, wire.text(call, "login"), wire.text(call, "email")
  local kind, role = wire.text(call, "type"), wire.text(call, "role")
  for _, admin in ipairs(call.state.admins) do
    if wire.contains(admin.login, login) and wire.contains(admin.email, email)
      and (not kind or wire.same_word(kind, "API"))
      and (not role or wire.same_word(role, admin.role)) then
      found[#found + 1] = admin
    end
  end
  table.sort(found, function(a, b) return a.id > b.id end)
  return wire.list(call, found, short)
end

local function find(call)
  local id = wire.id(call, "id", -16)
  for i, admin in ipairs(call.state.admins) do
    if admin.id == id then return admin, i end
  end
  wire.missing(-16, "Unknown user")
end

local function get(call) return 200, full(call, (find(call))) end

-- ---------------------------------------------------------------- changing

local function privileges_of(names)
  local set = {}
  for _, name in ipairs(names) do
    local known = false
    for _, one in ipairs(auth.PRIVILEGES) do known = known or one == name end
    if not known then
      wire.fail(-1601, ("Field ''privileges'' has invalid value: %s"):format(name))
    end
    set[name] = true
  end
  return set
end

local function role_of(credentials)
  local first = credentials[1]
  for _, role in ipairs(ROLES) do
    if first and first.role == role then return role, first.orgId end
  end
  wire.fail(-1601, "Field ''credentials'' has invalid value")
end

local function take(call, admin, body)
  for _, other in ipairs(call.state.admins) do
    if other ~= admin and other.login == body.login then
      wire.fail(-1601, ("Login ''%s'' is in use"):format(body.login))
    end
  end
  local forename, surname = (admin.name or ""):match "^(%S*)%s*(.*)$"
  local privileges = body.privileges and privileges_of(body.privileges)
  local role, org_id
  if body.credentials then role, org_id = role_of(body.credentials) end
  admin.name = ("%s %s"):format(body.forename or forename, body.surname or surname)
  admin.type, admin.email = body.type or admin.type, body.email or admin.email
  admin.login, admin.password = body.login or admin.login, body.password or admin.password
  admin.certificate_serial = body.certificateSerialNumber or admin.certificate_serial
  admin.privileges = privileges or admin.privileges or {}
  if role then admin.role, admin.org_id = role, org_id end
  if body.activeStatus then admin.disabled = body.activeStatus:upper() == "SUSPENDED" end
  admin.changed = call.state.now()
end

local function create(call)
  auth.need_master(call, "administrator creation")
  local state, body, admin = call.state, wire.body(call, CREATE), {role = "RAO_SSL"}
  if not body.login then wire.fail(-1001, "Value of 'login' must not be null.") end
  take(call, admin, body)
  admin.id = state:next_id "admin"
  admin.password = admin.password or state:token("admin " .. admin.id, 20)
  admin.client_id = "sandbox-" .. admin.login
  admin.client_secret = state:token("client " .. admin.id, 32)
  state.admins[#state.admins + 1] = admin
  return wire.created(call, "/api/admin/v1/" .. admin.id)
end

local function update(call)
  auth.need_master(call, "administrator update")
  take(call, (find(call)), wire.body(call, UPDATE))
  return 200
end

local function remove(call)
  auth.need_master(call, "administrator deletion")
  local admin, at = find(call)
  if admin == call.admin then
    wire.fail(-3, "You are not authorized to delete yourself.")
  end
  table.remove(call.state.admins, at)
  return 204
end

-- ---------------------------------------------------------------- passwords, words

local function password(call)
  local expired = call.admin.password_expired
  local ends = expired and call.state.now() - 86400 or call.state.started + LASTS
  return 200, {state = expired and "EXPIRED" or "ALIVE",
    expirationDate = wire.date(call, ends, "ISO")}
end

local function change_password(call)
  local new = wire.body(call, CHANGE).newPassword
  local good = #new >= 8 and new:find "%l" and new:find "%u" and new:find "%d"
  if not good then
    wire.fail(-7306,
      "The password must have at least 8 characters, among them a lower-case "
      .. "and an upper-case letter and a digit")
  end
  if new:find(call.admin.login, 1, true) then
    wire.fail(-982, "The password must not contain the login")
  end
  call.admin.password, call.admin.password_expired = new, nil
  call.admin.changed = call.state.now()
  return 204
end

local function privileges(_)
  local rows = {}
  for i, name in ipairs(auth.PRIVILEGES) do rows[i] = {name = name,
    description = name} end
  return 200, json.array(rows)
end

function admins.routes(routes)
  local base = "/api/admin/v1"
  routes:add("GET", base, list)
  routes:add("GET", base .. "/roles", function()
    return 200, json.array(table.move(ROLES, 1, #ROLES, 1, {}))
  end)
  routes:add("GET", base .. "/privileges", privileges)
  routes:add("GET", base .. "/password", password)
  routes:add("POST", base .. "/changepassword", change_password)
  routes:add("GET", base .. "/idp", function() return 200, json.array{} end)
  routes:add("POST", base, create)
  routes:add("GET", base .. "/{id}", get)
  routes:add("PUT", base .. "/{id}", update)
  routes:add("DELETE", base .. "/{id}", remove)
end

return admins
