--- c.smime: certificates of persons.
--
--     local id = c.smime:enroll{org = "Example Corp", profile = "S/MIME", csr = csr,
--       email = "ann@example.com", first_name = "Ann", last_name = "Example"}
--     local bundle = c.smime:wait{id = id, key = key}
--
-- The id here is SCM's backendCertId, a text: what collect, renew and revoke want.

local args = require "args"
local errors = require "errors"
local scm_call = require "scm_call"
local scm_collect = require "scm_collect"
local scm_enroll = require "scm_enroll"
local scm_names = require "scm_names"

local smime = {collect = scm_collect.collect, wait = scm_collect.wait}

local ENROLL = {
  {name = "org", type = "any", required = true, doc = "organization or department"},
  {name = "profile", type = "any", required = true, doc = "name or id"},
  {name = "csr", type = "any", required = true, doc = "PEM or x509.csr"},
  {name = "email", type = "string", required = true, nonempty = true},
  {name = "first_name", type = "string"},
  {name = "middle_name", type = "string"},
  {name = "last_name", type = "string"},
  {name = "common_name", type = "string"},
  {name = "secondary_emails", type = "list", choices = "string"},
  {name = "phone", type = "string"},
  {name = "eppn", type = "string"},
  {name = "upn", type = "string"},
  {name = "term", type = "integer", positive = true, doc = "days"},
  {name = "comments", type = "string"},
  {name = "custom_fields", type = "table", doc = "{name = value}"},
}

--- Request a certificate for a person, who is created or updated by the address.
---@param options table
---@return string id backendCertId
---@return table answer
function smime:enroll(options)
  options = args.check("c.smime:enroll", ENROLL, options)
  local org = scm_names.organization(self.conn, options.org)
  local profile = scm_names.profile(self.conn, options.profile, org, "smime")
  local answer = scm_call.run(self.conn, "smime.enroll", {
    orgId = org, certType = profile, csr = scm_enroll.read_csr(options.csr):pem(),
    email = options.email, firstName = options.first_name,
    middleName = options.middle_name, lastName = options.last_name,
    commonName = options.common_name, secondaryEmails = options.secondary_emails,
    phone = options.phone, eppn = options.eppn, upn = options.upn, term = options.term,
    comments = options.comments,
    customFields = scm_enroll.custom_fields(options.custom_fields),
  }, {})
  local id = type(answer) == "table" and (answer.backendCertId or answer.orderNumber)
  if id then return tostring(id), answer end
  errors.raise("protocol", "smime.enroll: answered without an id; look for the "
    .. "certificate of this person before trying again",
    {code = "BAD_ANSWER", unanswered = true})
end

return smime
