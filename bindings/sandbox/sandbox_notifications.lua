--- Notifications: who is told of what. The sandbox keeps them; it sends none.

local auth = require "sandbox_auth"
local json = require "json"
local wire = require "sandbox_wire"

local notifications = {}

local TYPES = {}
for word in ([[ClientCertExpiration ClientCertRevoked SSLApproved SSLAwaitingApproval
  SSLDeclined SSLExpiration SSLIssuanceFailed SSLRevoked DiscoveryScanSummary
  SSLSAApprovedToRA AdminCreation DomainAwaitingApproval DomainApproved SSLEnrolled
  CSCertInvitation CSCertIssued CSCertDownloaded CSCertRevoked CSCertExpiration
  CSCertRequested EmailValidation EmailInvitation DCVExpiration DCVValidated DCVNeeded
  ExSSLCertificateInstalled ExSSLInstallationFailed IdPLoginEmailInvitation
  CsRequestDeclined CsRequestSigned DeveloperCreated DeveloperResetPassword
  DeveloperNewEmail CsRequestCreated CsCsfRevoke DeviceExpiration DeviceRevoked
  DeviceAwaitingApproval ArFailed ManualInstallReady DeviceEnrolled DeviceApproved
  DeviceDeclined AdminChangePasswordByApi SSLBulkAwaitingApproval SSLBulkEnrollCompleted
  SSLEnrolledDl SMIMEEnrolledDl DeviceEnrolledDl CsEnrolledDl MsAgentChangeStatus
  NetworkAgentDisconnected WebFormLogin WebFormInvitation DomainAwaitingApprovalMrao
  ReportGenerated DcvAutoRenewFailed SasLoginEmailInvitation]]):gmatch "%a+" do
  TYPES[#TYPES + 1] = word
end

local FIELDS = [[description:s(3..256), orgData:{selectedOrgType:s(ANY|ANYDEPT|SELECTED),
  orgDelegations:[n]}, recipientData!:{notifyRoles:[s], recipients:[{type!:s, value!:s}]},
  additionalData:{revokedByAdmin:b, revokedByUser:b, certTypeId:n, days:n,
  freq:s(ONCE|DAILY)}, active:b]]
local CREATE = wire.shape("{type!:s, " .. FIELDS .. "}")
local UPDATE = wire.shape("{type:s, " .. FIELDS .. "}")

function notifications.seed(state)
  state.notifications = {{id = state:next_id "notification", type = "SSLExpiration",
    description = "Certificates about to expire", by = "api", created = state.started,
    modified = state.started, active = true, org = {selectedOrgType = "ANY",
      orgDelegations = {}}, recipients = {notifyRoles = {"REQUESTER"}, recipients = {
      {type = "EMAIL", value = "pki@example.com"}}}, more = {days = 30, freq = "ONCE"}}}
end

local function copy(list) return json.array(table.move(list, 1, #list, 1, {})) end

local function show(call, one)
  return {id = one.id, description = one.description, type = one.type,
    created = wire.date(call, one.created, "ISO_HMS"), createdBy = one.by,
    modified = wire.date(call, one.modified, "ISO_HMS"),
    modifiedBy = one.changed_by or one.by, active = one.active,
    orgData = {selectedOrgType = one.org.selectedOrgType,
      orgDelegations = copy(one.org.orgDelegations or {})},
    recipientData = {notifyRoles = copy(one.recipients.notifyRoles or {}),
      recipients = copy(one.recipients.recipients or {})},
    additionalData = one.more}
end

local function type_of(text)
  for _, word in ipairs(TYPES) do
    if wire.same_word(word, text) then return word end
  end
  wire.fail(-9, ("Unknown notification type: %s"):format(text))
end

local function of_org(one, id)
  if not id or one.org.selectedOrgType ~= "SELECTED" then return true end
  for _, org in ipairs(one.org.orgDelegations or {}) do
    if org == id then return true end
  end
  return false
end

local function list(call)
  local found, id, org = {}, wire.number(call, "id"), wire.number(call, "orgId")
  local text, kind = wire.text(call, "description"), wire.text(call, "type")
  local selected, profile = wire.text(call, "selectedOrgType"),
    wire.number(call, "certTypeId")
  for _, one in ipairs(call.state.notifications) do
    if (not id or one.id == id) and wire.contains(one.description, text)
      and (not kind or one.type == type_of(kind)) and of_org(one, org)
      and (not selected or wire.same_word(selected, one.org.selectedOrgType))
      and (not profile or one.more.certTypeId == profile) then
      found[#found + 1] = one
    end
  end
  return wire.list(call, found, show)
end

local function may(call)
  auth.need_master(call, "notification management")
end

local function find(call)
  local id = wire.id(call, "id", -9)
  for i, one in ipairs(call.state.notifications) do
    if one.id == id then return one, i end
  end
  wire.fail(-9, ("Notification with id %d was not found"):format(id))
end

local function take(one, body)
  one.description = body.description or one.description or ""
  one.org = body.orgData or one.org or {selectedOrgType = "ANY", orgDelegations = {}}
  one.recipients = body.recipientData
  one.more = body.additionalData or one.more or {}
  if body.active ~= nil then one.active = body.active end
end

local function create(call)
  may(call)
  local body, now = wire.body(call, CREATE), call.state.now()
  local one = {type = type_of(body.type), created = now, modified = now, active = true,
    by = call.admin.login}
  take(one, body)
  one.id = call.state:next_id "notification"
  call.state.notifications[#call.state.notifications + 1] = one
  return wire.created(call, "/api/notification/v1/" .. one.id)
end

local function update(call)
  may(call)
  local one, body = find(call), wire.body(call, UPDATE)
  if body.type and type_of(body.type) ~= one.type then
    wire.fail(-1601, "Field ''type'' cannot be changed")
  end
  take(one, body)
  one.modified, one.changed_by = call.state.now(), call.admin.login
  return 200, show(call, one)
end

local function remove(call)
  may(call)
  local _, at = find(call)
  table.remove(call.state.notifications, at)
  return 200
end

function notifications.routes(routes)
  local base = "/api/notification/v1"
  routes:add("GET", base, list)
  routes:add("POST", base, create)
  routes:add("GET", base .. "/types", function() return 200, copy(TYPES) end)
  routes:add("PUT", base .. "/{id}", update)
  routes:add("DELETE", base .. "/{id}", remove)
end

return notifications
