--- Validations of organizations for OV, EV and S/MIME (v2 of the resource).

local auth = require "sandbox_auth"
local json = require "json"
local orgs = require "sandbox_orgs"
local wire = require "sandbox_wire"

local org_validations = {}

local GENERAL = [[generalDetails!:{legalName!:s(<=64), assumedName:s(<=256),
  address1:s(<=128), address2:s(<=128), address3:s(<=128), city:s(<=32),
  stateProvince:s(<=32), postalCode:s(<=10), country!:s(2..2)}]]
local EV = [[evDetails:{registrationAgency:{dunAndBradstreetNumber:s(<=20),
  registrationNumber:s(<=256), city:s(<=128), state:s(<=128), country!:s(2..2),
  dateOfIncorporation:s, businessCategory:s(PrivateOrganization|GovernmentEntity|
  BusinessEntity|NonCommercialEntity)}, contractSigner:{forename!:s(<=64),
  surname!:s(<=64), email!:s(<=255), phoneNumber:s(<=32)}}]]
local DETAILS = "{" .. GENERAL .. ", " .. EV .. ", organizationIdentifier:s(<=128)}"
local LEVEL = "validationLevel!:s(OV_SSL|OV_SMIME|EV_SSL)"
local SUBMIT = wire.shape("{organizationDetails!:" .. DETAILS .. ", alternative:b, "
  .. "overwriteIfExists:b, backendId!:n, " .. LEVEL .. "}")
local REVALIDATE = wire.shape("{organizationDetails:" .. DETAILS .. "}")
local VALIDATOR = wire.shape "{adminId!:n}"
local ASSIGN = wire.shape("{alternative:b, overwriteIfExists:b, caBackendId:n, "
  .. "externalOrgId:s, externalOrgName:s, " .. LEVEL .. "}")
local REASSIGN = wire.shape "{externalOrgId:s, externalOrgName:s}"

local DAY, LASTS = 86400, 398 -- days (ballot SC-081v3)

local function details_of(org)
  return {generalDetails = {legalName = org.name, address1 = org.address1,
    city = org.city,
    stateProvince = org.stateOrProvince, postalCode = org.postalCode,
    country = org.country}}
end

local function add(state, org, level, more)
  local validation = {id = state:next_id "org validation", org_id = org.id, level = level,
    backend_id = 1, alternative = false, details = details_of(org),
    tracking = state:token("tracking " .. org.id .. level, 10)}
  for key, value in pairs(more) do validation[key] = value end
  state.org_validations[#state.org_validations + 1] = validation
  return validation
end

function org_validations.seed(state)
  state.org_validations = {}
  local function valid(id, level)
    local from = state.started - 40 * DAY
    add(state, state.orgs[id], level, {submitted = from, validated = from + DAY,
      expires = from + (LASTS + 1) * DAY})
  end
  valid(101, "OV_SSL")
  valid(101, "EV_SSL")
  valid(201, "OV_SSL")
  add(state, state.orgs[301], "OV_SSL", {submitted = state.started - 2 * DAY})
end

-- ---------------------------------------------------------------- states

local function status(state, validation)
  if validation.failed then return "FAILED" end
  if not validation.validated then return "PENDING" end
  return state.now() < validation.expires and "VALIDATED" or "EXPIRED"
end

--- Whether an organization (of a department) may have certificates of a level.
---@param level "OV"|"EV"
function org_validations.valid(state, org, level)
  local top = orgs.top(state, org).id
  for _, validation in ipairs(state.org_validations) do
    if validation.org_id == top and validation.level == level .. "_SSL"
      and status(state, validation) == "VALIDATED" then
      return true
    end
  end
  return false
end

--- What the control face asks for: valid, fail or expire; made when there is none yet.
function org_validations.decide(state, org_id, level, outcome)
  local org, found = orgs.top(state, orgs.of_body(state, org_id)), nil
  for _, validation in ipairs(state.org_validations) do
    if validation.org_id == org.id and validation.level == level then
      found = validation
    end
  end
  found = found or add(state, org, level, {submitted = state.now()})
  found.background = nil
  if outcome == "valid" then
    found.validated, found.failed = state.now(), nil
    found.expires = state.now() + LASTS * DAY
  elseif outcome == "expire" then
    found.validated, found.expires = found.validated or state.now(), state.now()
  else
    found.failed = "The organization could not be verified"
  end
end

-- ---------------------------------------------------------------- showing

local function short(call, validation)
  return {id = validation.id, validationLevel = validation.level,
    status = status(call.state, validation), backgroundStatus = validation.background
      or "",
    submitted = wire.date(call, validation.submitted, "ISO_HMS"),
    expires = wire.date(call, validation.expires, "ISO_HMS"),
    alternative = validation.alternative, backendId = validation.backend_id,
    backendType = validation.external and "EXTERNAL" or "SASP"}
end

local function full(call, validation)
  local shown, admin = short(call, validation), nil
  for _, one in ipairs(call.state.admins) do
    if one.id == validation.validator then admin = one end
  end
  shown.validator = admin and {id = admin.id, name = admin.name}
  shown.settings = {TRACKING_ID = validation.tracking,
    EXTERNAL_ORG_ID = validation.external and validation.external.id,
    EXTERNAL_ORG_NAME = validation.external and validation.external.name,
    LAST_ERR_MSG_FROM_CA = validation.failed}
  shown.organizationDetails = validation.details
  return shown
end

local function org_of(call)
  local org = call.state.orgs[wire.id(call, "orgId", -1023)]
    or wire.missing(-1023, "Organization was not found")
  if org.parent then wire.fail(-1021, "The operation is impossible for a department") end
  return org
end

local function find(call)
  local org, id = org_of(call), wire.id(call, "validationId", -1023)
  for i, validation in ipairs(call.state.org_validations) do
    if validation.org_id == org.id and validation.id == id then return validation, i end
  end
  wire.missing(-1023, "Organization validation was not found")
end

local function list(call)
  local org, found = org_of(call), {}
  for _, validation in ipairs(call.state.org_validations) do
    if validation.org_id == org.id then found[#found + 1] = validation end
  end
  return wire.all(call, found, short)
end

local function get(call) return 200, full(call, (find(call))) end

-- ---------------------------------------------------------------- changing

local function may(call)
  auth.need(call, "orgValidationManager", "organization validation")
end

--- Make room for a validation of a level; -1021 when there is one that may not go.
local function make_room(call, org, body)
  local validations = call.state.org_validations
  for i, validation in ipairs(validations) do
    if validation.org_id == org.id and validation.level == body.validationLevel
      and validation.alternative == (body.alternative or false) then
      if not body.overwriteIfExists then
        wire.fail(-1021, "There is a validation of that level already")
      end
      table.remove(validations, i)
      return
    end
  end
end

local function created(call, org, validation)
  return wire.created(call, ("/api/organization/v2/%d/validations/%d"):format(org.id,
    validation.id))
end

local function submit(call)
  may(call)
  local org, body = org_of(call), wire.body(call, SUBMIT)
  make_room(call, org, body)
  return created(call, org, add(call.state, org, body.validationLevel, {
    submitted = call.state.now(), details = body.organizationDetails,
    backend_id = body.backendId, alternative = body.alternative or false,
    validator = call.admin.id}))
end

--- A valid one stays valid while the new check goes on behind it.
local function revalidate(call)
  may(call)
  local validation, body = find(call), wire.body(call, REVALIDATE, true)
  validation.details = body.organizationDetails or validation.details
  if status(call.state, validation) == "VALIDATED" then
    validation.background = "PENDING"
  else
    validation.validated, validation.expires, validation.failed = nil, nil, nil
    validation.submitted = call.state.now()
  end
  return 200, full(call, validation)
end

local function change_validator(call)
  may(call)
  local validation, body = find(call), wire.body(call, VALIDATOR)
  for _, admin in ipairs(call.state.admins) do
    if admin.id == body.adminId then
      validation.validator = admin.id
      return 202
    end
  end
  wire.fail(-16, "Unknown user")
end

local function reset(call)
  may(call)
  local _, at = find(call)
  table.remove(call.state.org_validations, at)
  return 204
end

local function assign(call)
  may(call)
  local org, body = org_of(call), wire.body(call, ASSIGN)
  make_room(call, org, body)
  return created(call, org, add(call.state, org, body.validationLevel, {
    submitted = call.state.now(), validated = call.state.now(),
    expires = call.state.now() + LASTS * DAY, backend_id = body.caBackendId or 1,
    external = {id = body.externalOrgId, name = body.externalOrgName}}))
end

local function reassign(call)
  may(call)
  local validation, body = find(call), wire.body(call, REASSIGN)
  validation.external = {id = body.externalOrgId, name = body.externalOrgName}
  return 202
end

local function backends(_)
  return 200, json.array{{id = 1, name = "Sectigo", type = "SASP", public = true,
    connectorBackendType = "SASP"}}
end

function org_validations.routes(routes)
  local base = "/api/organization/v2/{orgId}/validations"
  routes:add("GET", base, list)
  routes:add("POST", base .. "/submit", submit)
  routes:add("POST", base .. "/assignment", assign)
  routes:add("PUT", base .. "/assignment/{validationId}", reassign)
  routes:add("GET", base .. "/{validationId}", get)
  routes:add("DELETE", base .. "/{validationId}", reset)
  routes:add("PUT", base .. "/{validationId}/revalidate", revalidate)
  routes:add("PUT", base .. "/{validationId}/validator", change_validator)
  routes:add("POST", base .. "/{validationId}/sync", get)
  routes:add("GET", "/api/ca-backend/v1", backends)
end

return org_validations
