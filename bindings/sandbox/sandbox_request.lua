--- What may be asked for: the checks that stand between a request and its certificate.
--
--     local csr, cn = request.csr(call, body.csr, profile)
--     local names = request.names(call, profile, cn, sans)
--     request.domains(call, org, names, body)

local custom_fields = require "sandbox_custom_fields"
local domains = require "sandbox_domains"
local encoding = require "encoding"
local org_validations = require "sandbox_org_validations"
local orgs = require "sandbox_orgs"
local profiles = require "sandbox_profiles"
local wire = require "sandbox_wire"
local x509 = require "x509"

local request = {}

local KINDS = {RSA = "RSA", EC = "EC"}

local function invalid(field, value)
  wire.fail(-1601, ("Field ''%s'' has invalid value: %s"):format(field, value))
end

-- ---------------------------------------------------------------- the request

--- PEM of a request given as PEM or as bare base64.
local function pem_of(text)
  if text:find "%-%-%-%-%-BEGIN" then return text end
  local der = try(encoding.base64_decode, (text:gsub("%s", "")))
  if not der or der == "" then wire.fail(-9, "CSR is not a valid base-64 string") end
  return "-----BEGIN CERTIFICATE REQUEST-----\n" .. encoding.base64_encode(der)
    :gsub(("."):rep(64), "%0\n") .. "\n-----END CERTIFICATE REQUEST-----\n"
end

local function key_of(csr)
  local kind = csr.key_type:find "^rsa" and "RSA" or csr.key_type:find "^p%d" and "EC"
  return kind, kind == "EC" and "P-" .. csr.key_bits or tostring(csr.key_bits)
end

--- Refuse keys that the profile does not take.
local function check_key(csr, profile)
  local kind, size = key_of(csr)
  local sizes = kind and profile.key_types[KINDS[kind]]
  if not sizes then wire.fail(-11, "CSR algorithm is not supported") end
  for _, one in ipairs(sizes) do
    if one == size then return end
  end
  wire.fail(-13, ("CSR key size %s is not supported"):format(size))
end

local function common_name(csr)
  for _, attribute in ipairs(csr.subject) do
    if attribute.type == "CN" then return attribute.value end
  end
  return csr.names[1]
end

--- Read and check a request; its common name, or its first name when it has none.
---@return string pem
---@return string cn
function request.csr(text, profile)
  local pem = pem_of(text)
  local csr = try(x509.read_csr, pem) or wire.fail(-10, "CSR decode error")
  if not csr:verify() then wire.fail(-138, "The CSR is not valid") end
  check_key(csr, profile)
  local cn = common_name(csr)
  if not cn or cn == "" then wire.fail(-10, "The CSR has no common name") end
  return pem, cn:lower()
end

-- ---------------------------------------------------------------- names

local function check_form(name)
  local bare = name:gsub("^%*%.", "")
  local good = #bare <= 253 and bare:find "^[%w_.-]+%.[%w-]+$" and not bare:find "%.%."
  if not good or bare:find "^%d+%.%d+%.%d+%.%d+$" then invalid("subjAltNames", name) end
end

local function check_wildcards(profile, cn, names)
  for _, name in ipairs(names) do
    local wild = name:find "^%*%." ~= nil
    if wild and profile.wildcard == "none" then
      wire.fail(-1601, ("Wildcard name %s is not allowed for profile ''%s''"):format(name,
        profile.name))
    end
  end
  if profile.wildcard == "only" and not cn:find "^%*%." then
    wire.fail(-1601, ("Profile ''%s'' needs a wildcard common name"):format(profile.name))
  end
end

--- Names that come with another for nothing: www. of a name, the name under a wildcard.
local function counted(profile, cn, names)
  local free = {["www." .. cn] = true, [cn:gsub("^www%.", "")] = true}
  if profile.wildcard == "only" then free[cn:gsub("^%*%.", "")] = true end
  local n = 1
  for _, name in ipairs(names) do
    if name ~= cn and not free[name] then n = n + 1 end
  end
  return n
end

--- "a, b" → {"a", "b"}.
function request.split(text)
  local list = {}
  for name in (text or ""):gmatch "[^,%s]+" do list[#list + 1] = name end
  return list
end

--- All names of the certificate, the common name first.
---@param profile table
---@param cn string
---@param sans string[]
---@return string[]
function request.names(profile, cn, sans)
  local names, seen = {}, {}
  for i = 0, #sans do
    local name = (i == 0 and cn or sans[i]):lower()
    if not seen[name] then
      check_form(name)
      seen[name], names[#names + 1] = true, name
    end
  end
  check_wildcards(profile, cn, names)
  if counted(profile, cn, names) > profile.names then
    wire.fail(-1601,
      ("Too many names for profile ''%s'': at most %d"):format(profile.name,
      profile.names))
  end
  return names
end

-- ---------------------------------------------------------------- who and what

--- The organization of a request, which must be open to the API.
function request.org(call, id)
  if not id then wire.fail(-1001, "Value of 'orgId' must not be null.") end
  local org = orgs.of_body(call.state, id)
  if not org.sslCertsApiEnabled then
    wire.fail(-37, "Access denied: the API is not enabled for the organization")
  end
  return org
end

--- The profile of a request.
function request.profile(call, id)
  if not id then wire.fail(-1001, "Value of 'certType' must not be null.") end
  return call.state.profiles[id]
    or wire.fail(-111, ("Profile with id %d was not found"):format(id))
end

--- The term, which must be one the profile offers today; the longest without.
function request.term(call, term)
  local terms = profiles.terms(call.state)
  if not term then return terms[#terms] end
  for _, one in ipairs(terms) do
    if one == term then return term end
  end
  wire.fail(-36, ("The term %d is not valid for the profile"):format(term))
end

--- Every domain delegated, and validated unless the certificate is to prove it itself. Returns
--- the domains that are not: {name, mode}, nil when there are none.
---@return table[]?
function request.domains(call, org, names, body)
  local state, open, seen = call.state, {}, {}
  for _, name in ipairs(names) do
    local domain = domains.covering(state, name)
    if not domain or not domains.allows(domain, org.id, name) then
      wire.fail(-1010, ("Domain ''%s'' is not allowed for the organization"):format(name))
    end
    if domains.status(state, domain) ~= "VALIDATED" and not seen[domain.name] then
      if state.settings.prevalidation then
        wire.fail(-107, ("DCV is not completed or expired for domain ''%s''"):format(
          domain.name))
      end
      seen[domain.name] = true
      open[#open + 1] = {name = domain.name, mode = body.dcvMode or "CNAME",
        email = body.dcvEmail}
    end
  end
  if body.dcvMode == "EMAIL" and #open > 0 and not body.dcvEmail then
    wire.fail(-951, "At least one of the fields is needed: dcvEmail")
  end
  return #open > 0 and open or nil
end

--- Everything about a request that does not depend on its key. Returns the fields of the new
--- record.
---@return table record
function request.record(call, body, profile, cn, sans)
  local state, org = call.state, request.org(call, body.orgId)
  local term = request.term(call, body.term)
  local names = request.names(profile, cn, sans)
  local open = request.domains(call, org, names, body)
  if profile.level ~= "DV" and not org_validations.valid(state, org, profile.level) then
    wire.fail(-843,
      ("The SSL request is blocked by the validation status of organization "
      .. "''%s''"):format(orgs.top(state, org).name))
  end
  local fields = custom_fields.check(state, "SSL", body.customFields)
  local external = body.externalRequester
  return {org_id = org.id, profile_id = profile.id, level = profile.level, term = term,
    cn = cn, names = names, open_dcv = open, custom_fields = fields, via = "Web API",
    status = "Requested", comments = body.comments or "", requester = call.admin.login,
    requester_id = call.admin.id,
    external_requester = external and external ~= "" and external or call.admin.email}
end

return request
