--- Enrolment: one request to SCM, and finding again what an unanswered one has created.
--
--     local id = c.ssl:enroll{org = "Example Corp", profile = "InstantSSL Pro", csr = csr,
--       term = 199, idempotency_key = "renew-www-2026"}
--     local found = c.ssl:find_enrolment{key = "renew-www-2026", org = "Example Corp",
--       profile = "InstantSSL Pro", csr = csr}
--
-- SCM has no idempotency of its own. The key travels in the comments field, behind what
-- the user wrote; whoever lost an answer looks for it before asking again. What carries
-- our key is adopted only if organization, profile and names are those we asked for.

local args = require "args"
local core = require "scm.core"
local errors = require "errors"
local json = require "json"
local scm_call = require "scm_call"
local scm_list = require "scm_list"
local scm_names = require "scm_names"
local task = require "task"
local time = require "time"
local x509 = require "x509"

local LOOKS = {1, 2, 4, 8, 15} -- seconds between looks, while SCM may lag behind itself
local DETAILS = 1000           -- at most read for one search

local scm_enroll = {}

local function usage(text)
  errors.raise("usage", "c.ssl:enroll: " .. text, {code = "BAD_ARGUMENT"})
end

-------------------------------------------------------------------- requests

local function read_csr(csr)
  if type(csr) ~= "string" then return csr end
  return x509.read_csr(csr)
end

--- Lower case, each once, in the order given.
local function tidy(names)
  local list, seen = {}, {}
  for _, name in ipairs(names) do
    name = name:lower():gsub("%.$", "")
    if not seen[name] then
      seen[name] = true
      list[#list + 1] = name
    end
  end
  return list
end

--- Common name and alternative names of a request; names replace those of the CSR, so
--- that none that is only in it gets lost on the way.
local function names_of(csr, names)
  local common = csr.subject.CN and csr.subject.CN:lower()
  local all = tidy(names or csr.names or {})
  local others = {}
  for _, name in ipairs(all) do
    if name ~= common then others[#others + 1] = name end
  end
  return common, others, all
end

local SIZES = {RSA = "rsa", EC = "ec"}
local CURVES = {[256] = "P-256", [384] = "P-384", [521] = "P-521"}

--- Whether the profile takes the CSR's key; SCM would say so only by a code.
local function check_key(csr, profile)
  local allowed = profile and profile.keyTypes
  if type(allowed) ~= "table" or not next(allowed) then return end
  local shown = {}
  for family, sizes in pairs(allowed) do
    for _, size in ipairs(type(sizes) == "table" and sizes or {}) do
      local curve = CURVES[csr.key_bits]
      local fits = csr.key_algorithm == SIZES[family:upper()]
        and (tostring(size) == tostring(csr.key_bits) or size == curve)
      if fits then return end
      shown[#shown + 1] = ("%s %s"):format(family, size)
    end
  end
  if #shown == 0 then return end
  table.sort(shown)
  usage(("the CSR has an %s key; profile %q takes %s"):format(csr.key_type, profile.name,
    table.concat(shown, ", ")))
end

local function check_term(term, profile)
  local terms = profile and profile.terms
  if not term or type(terms) ~= "table" or #terms == 0 then return end
  for _, one in ipairs(terms) do
    if one == term then return end
  end
  usage(("term %d; profile %q offers %s"):format(term, profile.name,
    table.concat(terms, ", ")))
end

--- {name = value} or {{name =, value =}} as SCM wants it.
local function custom_fields(given)
  if given == nil or given[1] then return given end
  local list = {}
  for name, value in pairs(given) do
    list[#list + 1] = {name = name, value = tostring(value)}
  end
  table.sort(list, function(a, b) return a.name < b.name end)
  return json.array(list)
end

local function legacy(conn, options)
  if conn.face ~= "classic" then return end
  local kind = options.server_type
  if type(kind) == "string" then kind = core.server_type(kind) end
  if kind ~= nil and math.type(kind) ~= "integer" then
    usage("server_type: expected a name or a code")
  end
  return options.number_servers, kind
end

--- A server type is checked on both faces, and sent on the classic one only.
local function check_legacy(options)
  if type(options.server_type) == "string" then core.server_type(options.server_type) end
end

local ENROLL = {
  {name = "org", type = "any", required = true, doc = "organization or department"},
  {name = "profile", type = "any", required = true, doc = "name or id"},
  {name = "csr", type = "any", required = true, doc = "PEM or x509.csr"},
  {name = "names", type = "list", choices = "string", doc = "instead of the CSR's"},
  {name = "term", type = "integer", positive = true, doc = "days, one of the profile's"},
  {name = "comments", type = "string"},
  {name = "external_requester", type = "any", doc = "e-mail address, or a list"},
  {name = "custom_fields", type = "table", doc = "{name = value}"},
  {name = "dcv_mode", type = "enum",
    choices = "CNAME|EMAIL|HTTP|HTTPS|TXT|AUTO|PERSISTENT_TXT"},
  {name = "dcv_email", type = "string"},
  {name = "product", type = "string", doc = "of the catalogue: checked before SCM does"},
  {name = "server_type", type = "any", doc = "classic face: name or code"},
  {name = "number_servers", type = "integer", doc = "classic face"},
  {name = "idempotency_key", type = "string", nonempty = true},
}

local function request_of(conn, options)
  local csr = read_csr(options.csr)
  local org = scm_names.organization(conn, options.org)
  local id, profile = scm_names.profile(conn, options.profile, org)
  local _, others, all = names_of(csr, options.names)
  local comments = options.comments
  if options.idempotency_key then
    comments = core.comment(comments or "", options.idempotency_key)
  end
  check_key(csr, profile)
  check_term(options.term, profile)
  check_legacy(options)
  if options.product then
    require("products").check{product = options.product, names = all, term = options.term}
  end
  local requester = options.external_requester
  if type(requester) == "table" then requester = table.concat(requester, ",") end
  local servers, kind = legacy(conn, options)
  return {orgId = org, csr = csr:pem(), certType = id, term = options.term,
    subjAltNames = #others > 0 and others or nil, comments = comments,
    customFields = custom_fields(options.custom_fields), externalRequester = requester,
    dcvMode = options.dcv_mode, dcvEmail = options.dcv_email, numberServers = servers,
    serverType = kind}
end

--- Request a certificate; returns SCM's id, and its whole answer. The names are those of
--- the CSR unless `names` says otherwise. Never sent twice by itself: when the answer is
--- lost (err.unanswered), find_enrolment tells whether there is one.
---@param options table
---@return integer id
---@return {sslId: integer, renewId: string} answer
function scm_enroll.enroll(self, options)
  options = args.check("c.ssl:enroll", ENROLL, options)
  local request = request_of(self.conn, options)
  local answer = scm_call.run(self.conn, "ssl.enroll", request, {})
  if type(answer) == "table" and math.type(answer.sslId) == "integer" then
    return answer.sslId, answer
  end
  errors.raise("protocol", "ssl.enroll: answered without an id; look for the enrolment "
    .. "before sending it again", {code = "BAD_ANSWER", unanswered = true})
end

scm_enroll.custom_fields, scm_enroll.read_csr = custom_fields, read_csr

-------------------------------------------------------------------- finding

local FIND = {
  {name = "key", type = "string", required = true, nonempty = true,
    doc = "the idempotency key"},
  {name = "org", type = "any", required = true},
  {name = "profile", type = "any", required = true},
  {name = "csr", type = "any", doc = "PEM or x509.csr: whose names to look for"},
  {name = "names", type = "list", choices = "string", doc = "instead of the CSR's"},
  {name = "wait", type = "duration", doc = "how long to go on looking (30s)"},
}

--- Whether SCM may have added a name to those we asked for: the domain of a wildcard, www.
local function may_be_added(name, wanted)
  local base = name:match "^www%.(.+)$"
  return wanted["*." .. name] or base and (wanted[base] or wanted["*." .. base]) or false
end

local function set_of(list)
  local set = {}
  for _, name in ipairs(list) do set[name:lower()] = true end
  return set
end

--- What differs between an enrolment and what we asked for, or nil.
local function difference(details, wanted)
  if details.orgId ~= wanted.org then
    return ("organization %s instead of %d"):format(tostring(details.orgId), wanted.org)
  end
  local profile = type(details.certType) == "table" and details.certType.id
  if profile ~= wanted.profile then
    return ("profile %s instead of %d"):format(tostring(profile), wanted.profile)
  end
  local has = set_of(details.subjectAlternativeNames or {})
  if details.commonName then has[details.commonName:lower()] = true end
  for name in pairs(wanted.names) do
    if not has[name] then return "the name " .. name .. " missing" end
  end
  for name in pairs(has) do
    if not wanted.names[name] and not may_be_added(name, wanted.names) then
      return ("the name %s, which was not asked for"):format(name)
    end
  end
end

local function newest_first(conn, wanted)
  local ids = {}
  local list = scm_list.open(conn, "ssl.list", {commonName = wanted.common,
    orgId = wanted.org})
  for entry in list do ids[#ids + 1] = entry.sslId end
  table.sort(ids, function(a, b) return a > b end)
  return ids
end

--- The details of those that carry the key. `seen` remembers those that do not: a comment
--- does not change between two looks.
local function carriers(conn, wanted, seen)
  local found, read = {}, 0
  for _, id in ipairs(newest_first(conn, wanted)) do
    if not seen[id] and read < DETAILS then
      read = read + 1
      local ok, details = pcall(scm_call.run, conn, "ssl.get", {sslId = id}, {})
      local err = not ok and errors.object(details)
      if err and err.kind ~= "not_found" then error(err, 0) end
      if ok and core.has_key(tostring(details.comments or ""), wanted.key) then
        found[#found + 1] = details
      elseif ok then
        seen[id] = true
      end
    end
  end
  return found
end

local ALIVE = {open = true, issued = true}

--- The one to adopt: the oldest that is alive, else the newest of the others.
local function choose(found)
  local chosen, others = nil, {}
  for _, details in ipairs(found) do -- newest first
    details.id = details.id or details.sslId
    details.state = select(2, core.status(tostring(details.status)))
    local state = details.state
    if not chosen or ALIVE[state] then
      if chosen and ALIVE[chosen.state] then others[#others + 1] = chosen.id end
      chosen = details
    end
  end
  return chosen, others
end

local function adopt(found, wanted)
  local chosen, others = choose(found)
  local differs = difference(chosen, wanted)
  if differs then
    errors.raise("conflict", ("ssl.find_enrolment: certificate %d carries the key %s but "
      .. "has %s; it is not adopted"):format(chosen.id, wanted.key, differs),
      {code = "NOT_OURS"})
  end
  return {id = chosen.id, status = core.status(tostring(chosen.status)) or chosen.status,
    state = chosen.state, details = chosen, duplicates = others}
end

---@class scm.Found
---@field id integer
---@field status string
---@field state string "open", "issued", "dead" or "gone"
---@field details table
---@field duplicates integer[] further ones alive that carry the same key

--- The enrolment that carries a key, or nil. Looks again for a while, since SCM's lists
--- lag behind its writes. Raises conflict when what carries the key has another
--- organization, profile or names than asked for.
---@param options {key: string, org: any, profile: any, csr: any, names: string[]?,
---  wait: number|string?}
---@return scm.Found?
function scm_enroll.find(self, options)
  options = args.check("c.ssl:find_enrolment", FIND, options)
  local conn = self.conn
  if options.csr == nil and options.names == nil then
    errors.raise("usage", "c.ssl:find_enrolment: give csr or names",
      {code = "BAD_ARGUMENT"})
  end
  local csr = options.csr and read_csr(options.csr)
    or {subject = {}, names = options.names}
  local common, _, all = names_of(csr, options.names)
  local org = scm_names.organization(conn, options.org)
  -- SCM may compare its filter by case: as it was sent.
  local sent = csr.subject.CN or (options.names or csr.names)[1]
  local wanted = {key = options.key, org = org, common = sent,
    profile = scm_names.profile(conn, options.profile, org), names = set_of(all)}
  if common then wanted.names[common] = true end
  local deadline = time.mono() + args.duration(options.wait or "30s")
  local seen, look = {}, 1
  while true do
    local found = carriers(conn, wanted, seen)
    if #found > 0 then return adopt(found, wanted) end
    local pause = LOOKS[look] or LOOKS[#LOOKS]
    if time.mono() + pause > deadline then return nil end
    task.sleep(pause)
    look = look + 1
  end
end

return scm_enroll
