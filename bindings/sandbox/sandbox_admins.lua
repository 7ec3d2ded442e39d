--- Administrators: reading them, and the caller's own password.

local auth = require "sandbox_auth"
local json = require "json"
local wire = require "sandbox_wire"

local admins = {}

local CHANGE = wire.shape "{newPassword!:s(1..64)}"
local LASTS = 90 * 86400 -- a password

local ROLES = {"MRAO", "RAO_SSL", "RAO_SMIME", "RAO_DEVICE", "RAO_CS", "DRAO_SSL",
  "DRAO_SMIME", "DRAO_DEVICE", "DRAO_CS"}

local function names_of(admin) return admin.name:match "^(%S+)%s+(.*)$" end

local function short(_, admin)
  local forename, surname = names_of(admin)
  return {id = admin.id, type = "API", login = admin.login, email = admin.email,
    forename = forename, surname = surname}
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

local function get(call)
  local id = wire.id(call, "id", -16)
  for _, admin in ipairs(call.state.admins) do
    if admin.id == id then return 200, full(call, admin) end
  end
  wire.missing(-16, "Unknown user")
end

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
  routes:add("GET", base .. "/{id}", get)
end

return admins
