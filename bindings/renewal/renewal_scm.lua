--- The SCM channel of a renewal: OV and EV certificates, by people's and the CA's leave.
--
--     local enrolled = renewal_scm.enroll(input, csr, key)      -- {id =, at =}
--     local issued = renewal_scm.collect(input, enrolled, private_key)
--
-- A request is sent once: its idempotency key travels in SCM's comments field, and an answer
-- that got lost is looked for before anything is sent again.

local args = require "args"
local deploy = require "deploy"
local digest = require "digest"
local errors = require "errors"
local estate = require "estate"
local json = require "json"
local products = require "products"
local scm_estate = require "scm_estate"
local time = require "time"
local x509 = require "x509"

local renewal_scm = {}

-- Seconds between two looks at what waits: a quarter of the time since it began.
local SOONEST, LATEST, SHARE = 2, 4 * 3600, 4

local open = {} -- connections by their settings as text

--- The connection of these settings: `scm` of an estate file. One for all in this state.
---@param settings table
---@return scm.Connection
function renewal_scm.connect(settings)
  local id = json.encode(settings)
  if open[id] then return open[id] end
  open[id] = scm_estate.connect(settings, estate.secret)
  return open[id]
end

--- SCM's profile for a certificate: its own, or what the organization maps its product to.
---@return string
function renewal_scm.profile(settings, certificate)
  return certificate.profile or products.profile(certificate.product, settings.products)
end

--- Where SCM is about to renew the certificate in service by itself, one of us only may.
local function settle(connection, input)
  local now = deploy.current(input.certificate.install.dir)
  if not (now and now.leaf) then return end
  local serial = now.leaf.serial:upper():gsub("%x%x", "%0:"):gsub(":$", "")
  for known in connection.ssl:list{serialNumber = serial} do
    connection.ssl:settle_auto_renewal{id = known.sslId,
      auto_renew = input.scm.auto_renew}
  end
end

--- The flow's idempotency key in the letters that SCM's comments field carries.
local function mark(key)
  local text = key:gsub("[^%w._:-]", ":")
  return #text <= 128 and text or digest.hex(digest.sha256(key))
end

local function identity(input, csr)
  return {org = input.scm.org or input.certificate.org, csr = csr,
    profile = renewal_scm.profile(input.scm, input.certificate)}
end

--- Whether a request with this key arrived: the enrolment, or nil. It is looked for until
--- it must be seen, however SCM's lists lag.
---@param key string
---@param sent_at number? when it may have been sent (now)
---@return {id: integer, at: number}?
function renewal_scm.find(input, csr, key, sent_at)
  local wanted = identity(input, csr)
  local lag = args.duration(input.scm.lag or 30)
  wanted.key = mark(key)
  wanted.wait = math.max(0, (sent_at or time.now()) + lag - time.now())
  local found = renewal_scm.connect(input.scm).ssl:find_enrolment(wanted)
  return found and {id = found.id, at = time.now()} or nil
end

--- Send the request. An answer that gets lost is looked for; if nothing is there the error
--- is raised, to be tried again.
---@return {id: integer, at: number}
function renewal_scm.enroll(input, csr, key)
  local certificate, connection = input.certificate, renewal_scm.connect(input.scm)
  settle(connection, input)
  local request = identity(input, csr)
  request.term, request.product = certificate.term, certificate.product
  request.comments, request.idempotency_key = input.scm.comments, mark(key)
  request.external_requester = input.scm.external_requester
  request.server_type = input.scm.server_type
  local id, err = try(connection.ssl.enroll, connection.ssl, request)
  if id then return {id = id, at = time.now()} end
  if not err.unanswered then error(err, 0) end
  local found = renewal_scm.find(input, csr, key)
  if found then return found end
  err.retryable = true -- it was looked for, and is not there
  error(err, 0)
end

--- The chain as PEM and what is worth knowing of its leaf.
local function issued_of(input, bundle)
  local leaf = bundle.cert
  for _, name in ipairs(input.certificate.domains) do
    if not leaf:covers(name) then
      errors.raise("protocol", ("certificate %s from SCM does not cover %s"):format(
        leaf.serial, name), {code = "NAMES"})
    end
  end
  return {pem = bundle.pem, sha256 = leaf.sha256, serial = leaf.serial,
    not_before = leaf.not_before, not_after = leaf.not_after}
end

--- The issued certificate, checked against our key and names. Raises pending, with a pause
--- that grows, while people or the CA have not decided; conflict when they declined.
---@param enrolled {id: integer, at: number}
---@param key x509.key
function renewal_scm.collect(input, enrolled, key)
  local ssl = renewal_scm.connect(input.scm).ssl
  local bundle, err = try(ssl.collect, ssl, {id = enrolled.id, key = key})
  if bundle then return issued_of(input, bundle) end
  if err.kind == "pending" then
    local pause = (time.now() - enrolled.at) / SHARE
    err.retry_after = err.retry_after or math.min(LATEST, math.max(SOONEST, pause))
  end
  error(err, 0)
end

--- The signing request for the renewal's key.
---@return string pem
function renewal_scm.csr(input, key)
  local names = input.certificate.domains
  return x509.csr{key = key, names = names, subject = {CN = names[1]}}:pem()
end

return renewal_scm
