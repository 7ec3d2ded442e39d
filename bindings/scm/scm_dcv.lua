--- c.dcv: validation of domains, whatever the method.
--
--     local challenge = c.dcv:start{domain = "example.com", method = "cname"}
--     print(challenge.host, challenge.point)
--     c.dcv:submit{domain = "example.com", method = "cname"}
--     c.dcv:status("example.com").status            -- "VALIDATED"
--
-- Statuses come in two spellings by face and age of the call; here they are constants:
-- NOT_VALIDATED, VALIDATED, EXPIRED; NOT_INITIATED, AWAITING_SUBMIT, SUBMITTED, REJECTED.

local args = require "args"
local core = require "scm.core"
local errors = require "errors"
local scm_call = require "scm_call"

local dcv = {}

-- Where a status stands, and the list of its words.
local WORDS = {status = "dcv.dcvStatus", dcvStatus = "dcv.dcvStatus",
  orderStatus = "dcv.orderStatus", dcvOrderStatus = "dcv.orderStatus"}

--- The answer with its statuses as constants; words we do not know stay as they are.
local function spelt(answer)
  if type(answer) ~= "table" then return answer end
  for field, words in pairs(WORDS) do
    local ok, word = pcall(core.word, words, tostring(answer[field]), false)
    if answer[field] ~= nil and ok then answer[field] = word end
  end
  return answer
end

local function run(self, name, parameters)
  return spelt((scm_call.run(self.conn, name, parameters, {})))
end

local METHODS = {
  {name = "domain", type = "string", nonempty = true},
  {name = "domains", type = "list", choices = "string", doc = "e-mail: several at once"},
  {name = "method", type = "enum", choices = "http|https|cname|txt|email",
    required = true},
  {name = "email", type = "string", nonempty = true, doc = "whom SCM asks"},
  {name = "dns_agent", type = "string", doc = "UUID of the DNS connector to use"},
  {name = "dns_provider", type = "string", doc = "name of its provider"},
}

local function check(what, options)
  options = args.check(what, METHODS, options)
  if (options.domain == nil) == (options.domains == nil) then
    errors.raise("usage", what .. ": give either domain or domains",
      {code = "BAD_ARGUMENT"})
  end
  if options.domains and options.method ~= "email" then
    errors.raise("usage", what .. ": several domains at once go by e-mail only",
      {code = "BAD_ARGUMENT"})
  end
  return options
end

--- Begin: what has to be put where. http, https: {url, firstLine, secondLine}; cname:
--- {host, point}; email: {emails, dcvEmails}; txt: {host, point} come with submit.
---@param options {domain: string?, domains: string[]?, method: string}
---@return table
function dcv:start(options)
  options = check("c.dcv:start", options)
  return run(self, "dcv.start_" .. options.method,
    {domain = options.domain, domains = options.domains})
end

--- Ask the CA to look: {status, orderStatus, message, orderBackendId}.
---@param options {domain: string?, domains: string[]?, method: string, email: string?,
---  dns_agent: string?, dns_provider: string?}
---@return table
function dcv:submit(options)
  options = check("c.dcv:submit", options)
  if options.domains then
    return run(self, "dcv.submit_email_bulk",
      {domains = options.domains, email = options.email})
  end
  return run(self, "dcv.submit_" .. options.method, {domain = options.domain,
    email = options.email, dnsAgentUUID = options.dns_agent,
    dnsProviderName = options.dns_provider})
end

local function domain_of(given)
  if type(given) == "table" then return given.domain end
  return given
end

--- The state of a domain's validation, with the challenge of an open order.
---@param given string|{domain: string}
---@return table
function dcv:status(given) return run(self, "dcv.status", {domain = domain_of(given)}) end

--- The state as the CA knows it now; `force` after the record was set.
---@param given string|{domain: string, force: boolean?}
---@return table
function dcv:sync(given)
  return run(self, "dcv.sync", {domain = domain_of(given),
    force = type(given) == "table" and given.force or nil})
end

--- Give up the open order.
---@param given string|{domain: string}
---@return table
function dcv:clear(given) return run(self, "dcv.clear", {domain = domain_of(given)}) end

--- Remove the validation.
---@param given string|{domain: string}
function dcv:delete(given) return run(self, "dcv.delete", {domain = domain_of(given)}) end

return dcv
