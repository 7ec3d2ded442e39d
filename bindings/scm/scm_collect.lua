--- Certificates out of SCM: collected in any format, put in order, checked against the key.
--
--     local bundle = c.ssl:collect{id = 7, key = key}
--     bundle.cert, bundle.chain           -- x509 objects; the chain without the leaf
--     bundle.pem                          -- leaf and intermediates, as servers want it
--
-- SCM's formats differ in order and in what they hold; x509 has the root first. What comes
-- is parsed and sorted here whatever was asked for. "Not ready yet" comes as 400 or 404
-- with one of six codes, as a file that holds no certificate, or as an error that only the
-- certificate's status explains: all of that raises pending.

local args = require "args"
local core = require "scm.core"
local errors = require "errors"
local scm_call = require "scm_call"
local task = require "task"
local time = require "time"
local x509 = require "x509"

local scm_collect = {}

-- How the resources differ: the id's parameter, where the status stands, SCM's own default.
local RESOURCES = {
  ssl = {parameter = "sslId", details = "ssl.get", format = "x509"},
  smime = {parameter = "backendCertId", format = "base64"},
  device = {parameter = "deviceCertId", details = "device.get", format = "base64"},
}

-- Formats that have no leaf in them.
local ISSUERS_ONLY = {x509IO = true, x509IOR = true}

local function pending(name, id, why)
  errors.raise("pending", ("%s.collect: certificate %s is not ready: %s"):format(name, id,
    why), {code = "NOT_READY", retryable = true})
end

local MENDS = {
  Declined = "a person declined the request; correct and resubmit it, or enrol again",
  Rejected = "the CA rejected it; see its comments in SCM",
  Invalid = "the request's data are not valid; see its comments in SCM",
}

--- SCM refused and no code says "later": its status decides. Raises.
local function judge(self, id, err)
  local resource = RESOURCES[self.name]
  if not resource.details then error(err, 0) end
  local ok, details = pcall(scm_call.run, self.conn, resource.details,
    {[resource.parameter] = id}, {})
  if not ok or type(details) ~= "table" then error(err, 0) end
  local status, state = core.status(tostring(details.status))
  if state == "open" or state == "issued" then
    pending(self.name, id, ("its status is %s (SCM: %s)"):format(status, err.message))
  elseif state then
    errors.raise("conflict", ("%s.collect: certificate %s is %s; %s"):format(self.name,
      id, status, MENDS[status] or "it is not given out"), {code = status, cause = err})
  end
  error(err, 0)
end

local function fetch(self, id, format)
  local parameters = {[RESOURCES[self.name].parameter] = id, format = format}
  local ok, body = pcall(scm_call.run, self.conn, self.name .. ".collect", parameters, {})
  if ok then return body end
  local err = errors.object(body)
  if err.kind ~= "pending" and (err.status == 400 or err.status == 404) then
    judge(self, id, err)
  end
  error(err, 0)
end

--- The certificates of a file in any of SCM's formats, the leaf first.
local function parse(name, id, body)
  local ok, chain = pcall(x509.read_chain, body)
  if not ok or #chain == 0 then
    pending(name, id, "the file holds no certificate yet: "
      .. core.redact(body:sub(1, 60)):gsub("[%c%s]+", " "))
  end
  return x509.order(chain)
end

local function is_root(cert) return cert:issued_by(cert) end

local function pem_of(certs)
  local texts = {}
  for i, cert in ipairs(certs) do texts[i] = cert:pem() end
  return table.concat(texts)
end

local function check_key(name, id, cert, key)
  if key == nil or cert:matches(key) then return end
  errors.raise("protocol", ("%s.collect: certificate %s (serial %s) is not for our key; "
    .. "do not install it, and find out whose request it was"):format(name, id,
    cert.serial), {code = "WRONG_KEY"})
end

---@class scm.Bundle
---@field cert x509.cert? the leaf; absent in formats that have none
---@field chain x509.cert[] issuers, in order, the root last if it came along
---@field pem string leaf and intermediates, without the root
---@field complete boolean whether the chain reaches a root
---@field raw string as it came

local function bundle_of(name, id, format, body, key)
  local path, gap = parse(name, id, body)
  local cert, chain, served = nil, {}, {}
  for i, one in ipairs(path) do
    if i == 1 and not ISSUERS_ONLY[format] then
      cert = one
    else
      chain[#chain + 1] = one
    end
    if i == 1 and cert or not is_root(one) then served[#served + 1] = one end
  end
  if cert then check_key(name, id, cert, key) end
  return {cert = cert, chain = chain, pem = pem_of(served), complete = gap.complete,
    raw = body}
end

local FORMATS = "x509|x509R|x509CO|x509IO|x509IOR|base64|bin|pem|pemco|pemia"

local COLLECT = {
  {name = "id", type = "any", required = true},
  {name = "format", type = "enum", choices = FORMATS,
    doc = "(x509; S/MIME and devices base64)"},
  {name = "key", type = "any", doc = "x509 key or csr that it must be for"},
}

--- An id: a number, and for S/MIME the text that SCM gives.
local function check_id(self, id)
  local text = type(id) == "string" and id ~= "" and self.name == "smime"
  if text or (math.type(id) == "integer" and id > 0) then return end
  errors.raise("usage", ("c.%s:collect: id: expected %s, got %s"):format(self.name,
    self.name == "smime" and "a backendCertId" or "a positive integer", type(id)),
    {code = "BAD_ARGUMENT"})
end

--- Collect an issued certificate. Raises pending while there is none, conflict when there
--- will be none (declined, rejected, revoked), protocol when it is not for our key.
---@param given integer|{id: integer|string, format: string?, key: x509.key|x509.csr?}
---@return scm.Bundle
function scm_collect.collect(self, given)
  if type(given) ~= "table" then given = {id = given} end
  local options = args.check("c." .. self.name .. ":collect", COLLECT, given)
  local id, format = options.id, options.format or RESOURCES[self.name].format
  check_id(self, id)
  return bundle_of(self.name, id, format, fetch(self, id, format), options.key)
end

local WAIT = {
  {name = "id", type = "any", required = true},
  {name = "format", type = "enum", choices = FORMATS},
  {name = "key", type = "any"},
  {name = "timeout", type = "duration", positive = true, doc = "(10m)"},
}

--- Collect, and ask again more and more slowly while it is not ready: after 2 seconds at
--- first, every minute in the end. Raises pending when the time is over.
---@param given {id: integer|string, format: string?, key: any, timeout: number|string?}
---@return scm.Bundle
function scm_collect.wait(self, given)
  local options = args.check("c." .. self.name .. ":wait", WAIT, given)
  local deadline = time.mono() + args.duration(options.timeout or "10m")
  local pause = 2
  while true do
    local ok, bundle = pcall(scm_collect.collect, self,
      {id = options.id, format = options.format, key = options.key})
    if ok then return bundle end
    local err = errors.object(bundle)
    if err.kind ~= "pending" or time.mono() + pause > deadline then error(err, 0) end
    task.sleep(pause)
    pause = math.min(pause * 1.5, 60)
  end
end

return scm_collect
