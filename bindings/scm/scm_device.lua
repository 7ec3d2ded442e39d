--- c.device: certificates of devices.
--
--     local id = c.device:enroll{org = "Example Corp", profile = "Router", csr = csr}
--     local bundle = c.device:wait{id = id, key = key}

local args = require "args"
local errors = require "errors"
local scm_call = require "scm_call"
local scm_collect = require "scm_collect"
local scm_enroll = require "scm_enroll"
local scm_names = require "scm_names"

local device = {collect = scm_collect.collect, wait = scm_collect.wait}

local ENROLL = {
  {name = "org", type = "any", required = true, doc = "organization or department"},
  {name = "profile", type = "any", required = true, doc = "name or id"},
  {name = "csr", type = "any", required = true, doc = "PEM or x509.csr"},
  {name = "term", type = "integer", positive = true, doc = "days"},
  {name = "comments", type = "string"},
  {name = "custom_fields", type = "table", doc = "{name = value}"},
  {name = "optional_fields", type = "table", doc = "{name = value}, as dnsName"},
}

--- Request a certificate for a device; its id and status.
---@param options table
---@return integer id deviceCertId
---@return table answer
function device:enroll(options)
  options = args.check("c.device:enroll", ENROLL, options)
  local org = scm_names.organization(self.conn, options.org)
  local profile = scm_names.profile(self.conn, options.profile, org, "device")
  local answer = scm_call.run(self.conn, "device.enroll", {
    orgId = org, certType = profile, csr = scm_enroll.read_csr(options.csr):pem(),
    term = options.term, comments = options.comments,
    customFields = scm_enroll.custom_fields(options.custom_fields),
    optionalFields = scm_enroll.custom_fields(options.optional_fields),
  }, {})
  if type(answer) == "table" and math.type(answer.deviceCertId) == "integer" then
    return answer.deviceCertId, answer
  end
  errors.raise("protocol", "device.enroll: answered without an id; look for the "
    .. "certificate before trying again", {code = "BAD_ANSWER", unanswered = true})
end

return device
