--- The certificates of a sandbox: what is kept of them, and how they come to be issued.
--
--     Requested -> Approved -> Applied -> Issued -> Expired, Revoked, Replaced
--
-- A record walks on by the sandbox's clock: whoever reads it first lets it do the steps that
-- are due. Seeded certificates are made when read, and kept only once they change.

local estate = require "sandbox_estate"
local orgs = require "sandbox_orgs"
local x509 = require "x509"

local sandbox_certs = {}

local Certs = {}
Certs.__index = Certs

local CACHED = 256 -- signed certificates of the seeded estate

function sandbox_certs.seed(state)
  state.certs = setmetatable({state = state, kept = {}, made = {}, gone = {},
    gone_count = 0,
    version = 0, by_serial = {}, cache = {}, cache_order = {}}, Certs)
  state.ids.ssl = estate.BASE + state.certificates
end

-- ---------------------------------------------------------------- life

--- The record's status now: an issued certificate expires by itself.
function Certs:status(record)
  if record.status == "Issued" and self.state.now() > record.expires then
    return "Expired"
  end
  return record.status
end

local function sign(certs, record, when)
  local state = certs.state
  local org = orgs.subject(state, state.orgs[record.org_id])
  local made = state.ca:issue{level = record.level, csr = x509.read_csr(record.csr),
    names = record.names, organization = org, days = record.term,
    not_before = math.floor(when)}
  record.pem, record.issuer, record.serial = made.cert:pem(), made.issuer, made.serial
  record.issued, record.expires = when, made.cert.not_after
  record.backend_id = record.backend_id or tostring(state:next_id "ca order")
  certs.by_serial[record.serial] = record.id
end

local steps = {}

function steps.Approved(certs, record)
  return record.approved + certs.state.settings.apply_after, "Applied"
end

--- Applied certificates wait while they are stuck, and for the domains they cannot do
--- without.
function steps.Applied(certs, record)
  local settings = certs.state.settings
  if settings.stuck or record.stuck or record.open_dcv then return nil end
  return math.max(record.applied, record.ready or 0) + settings.issue_after, "Issued"
end

local function enter(certs, record, status, when)
  record.status = status
  if status == "Applied" then
    record.applied = when
    record.backend_id = tostring(certs.state:next_id "ca order")
  else
    sign(certs, record, when)
  end
  certs.version = certs.version + 1
end

--- Let a record do what is due.
local function advance(certs, record)
  local step = steps[record.status]
  while step do
    local when, status = step(certs, record)
    if not when or when > certs.state.now() then return end
    enter(certs, record, status, when)
    step = steps[status]
  end
end

-- ---------------------------------------------------------------- reading

local function hidden(certs, record)
  return record.visible ~= nil and certs.state.now() < record.visible
end

--- A record by id, as it is now; nil when there is none (or not yet, with a lag).
---@param id integer
---@return table?
function Certs:get(id)
  if self.gone[id] then return nil end
  local record = self.kept[id]
  if record then
    if hidden(self, record) then return nil end
    advance(self, record)
    return record
  end
  local index = id - estate.BASE
  if index >= 1 and index <= self.state.certificates then
    return estate.make(self.state, index)
  end
end

--- The same, to be changed: a seeded one is kept from now on.
function Certs:edit(id)
  local record = self:get(id)
  if not record then return nil end
  self.kept[id] = record
  self.version = self.version + 1
  return record
end

--- How many there are, hidden ones left out.
function Certs:count()
  local n = #self.made
  while n > 0 and hidden(self, self.kept[self.made[n]]) do n = n - 1 end
  return self.state.certificates + n - self.gone_count
end

--- The id at a place (from 1) when they are ordered by id.
function Certs:id_at(place)
  if self.gone_count == 0 then
    local seeded = self.state.certificates
    return place <= seeded and estate.BASE + place or self.made[place - seeded]
  end
  if self.order_version ~= self.gone_count then
    self.order, self.order_version = {}, self.gone_count
    for i = 1, self.state.certificates do
      local id = estate.BASE + i
      if not self.gone[id] then self.order[#self.order + 1] = id end
    end
    self.order_seeded = #self.order
  end
  return self.order[place] or self.made[place - self.order_seeded]
end

--- The id of a serial number, in any notation; nil when it is unknown.
function Certs:find_serial(serial)
  local hex = serial:gsub("[^%x]", ""):lower()
  local id = self.by_serial[hex]
  if id then return id end
  for index = 1, self.state.certificates do -- seeded serials are a function of the index
    if self.state.ca:serial_of("estate " .. index) == hex then
      return estate.BASE + index
    end
  end
end

--- Whether there is a certificate for a name in a domain.
function Certs:any_under(domain)
  for _, id in ipairs(self.made) do
    local record = self.kept[id]
    for _, name in ipairs(record and record.names or {}) do
      if name == domain or name:sub(-#domain - 1) == "." .. domain then return true end
    end
  end
  local seeded = {["example.com"] = true, ["example.org"] = true, ["example.net"] = true}
  return self.state.certificates > 0 and seeded[domain] == true
end

-- ---------------------------------------------------------------- X.509

local function remember(certs, id, cert)
  certs.cache[id] = cert
  certs.cache_order[#certs.cache_order + 1] = id
  if #certs.cache_order > CACHED then
    certs.cache[table.remove(certs.cache_order, 1)] = nil
  end
end

--- The X.509 certificate of an issued record.
---@return any cert x509.cert
function Certs:x509(record)
  if self.cache[record.id] and not record.pem then return self.cache[record.id] end
  if record.pem then return x509.read(record.pem) end
  local org = self.state.orgs[record.org_id]
  local cert = estate.sign(self.state, record, orgs.subject(self.state, org))
  remember(self, record.id, cert)
  return cert
end

--- The request of a record as PEM.
function Certs:csr(record)
  if record.csr or not record.key_index then return record.csr end
  return estate.csr(self.state, record):pem()
end

-- ---------------------------------------------------------------- changing

--- Keep a new record; it gets its id and is hidden as long as the lag lasts.
---@param record table
---@return table record
function Certs:add(record)
  local state = self.state
  record.id = state:next_id "ssl"
  record.requested = record.requested or state.now()
  record.auto_renew = record.auto_renew or {state = "Not scheduled"}
  record.renew_id = state:token("renew " .. record.id, 20)
  if state.settings.lag > 0 then record.visible = state.now() + state.settings.lag end
  self.kept[record.id], self.made[#self.made + 1] = record, record.id
  if record.serial then self.by_serial[record.serial] = record.id end
  self.version = self.version + 1
  return record
end

--- Approve a record, whoever did it; it walks on from there.
function Certs:approve(record, admin)
  record.status, record.approved = "Approved", self.state.now()
  record.approver = admin and admin.login
  self.version = self.version + 1
  if not hidden(self, record) then advance(self, record) end
end

--- Sign a record anew under the same id, for another request.
function Certs:reissue(record)
  record.status, record.applied, record.pem = "Applied", self.state.now(), nil
  record.key_index = nil
  self.version = self.version + 1
end

local REASONS = {[0] = "unspecified", [1] = "keyCompromise", [3] = "affiliationChanged",
  [4] = "superseded", [5] = "cessationOfOperation"}

--- Revoke an issued record.
function Certs:revoke(record, code, when)
  record.status, record.revoked = "Revoked", when or self.state.now()
  record.reason_code = code or 0
  local reason = REASONS[record.reason_code]
  self.state.ca:revoke(record.issuer, record.serial,
    reason ~= "unspecified" and reason or nil, math.floor(record.revoked))
  self.version = self.version + 1
end

--- Forget a record for good.
function Certs:remove(record)
  local id = record.id
  self.kept[id] = nil
  if id > estate.BASE + self.state.certificates then
    for i, one in ipairs(self.made) do
      if one == id then table.remove(self.made, i) break end
    end
  else
    self.gone[id], self.gone_count = true, self.gone_count + 1
  end
  self.version = self.version + 1
end

return sandbox_certs
