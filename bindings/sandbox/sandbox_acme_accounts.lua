--- ACME inside SCM: servers, and accounts whose EAB credentials clients register with.
--
-- Public accounts belong to a server and an organization; universal ones to a profile. The
-- ACME server of the sandbox finds credentials by `acme_accounts.by_kid`.

local auth = require "sandbox_auth"
local domains = require "sandbox_domains"
local encoding = require "encoding"
local json = require "json"
local orgs = require "sandbox_orgs"
local wire = require "sandbox_wire"

local acme_accounts = {}

local CREATE = wire.shape [[{name!:s(1..128), acmeServer!:s(1..1024),
organizationId!:n(>=1),
  certValidationType:s(DV|OV|EV), validationId:s}]]
local CREATE_PCA = wire.shape [[{name!:s(1..128), acmeServer!:s(1..1024),
  organizationId!:n(>=1), profileName!:s}]]
local RENAME = wire.shape "{name:s(1..128)}"
local DOMAINS = wire.shape "{domains!:[{name!:s(1..1024)}]}"

local DAY = 86400

--- Directories as they are named; `acme_url` of the state is where the sandbox serves them.
local function servers(state)
  local list, base = {}, state.acme_url or "https://acme.sandbox.test/v2"
  for i, level in ipairs{"DV", "OV", "EV"} do
    list[i] = {name = ("Sectigo %s"):format(level), url = base .. "/" .. level,
      certValidationType = level, caId = 40000 + i, singleProductId = 500 + i,
      multiProductId = 510 + i, wcProductId = 520 + i}
  end
  return list
end

function acme_accounts.seed(state)
  state.acme_accounts, state.acme_universal = {}, {}
end

--- The account with an EAB key id, public or universal; nil when there is none.
function acme_accounts.by_kid(state, kid)
  for _, list in ipairs{state.acme_accounts, state.acme_universal} do
    for _, account in ipairs(list) do
      if account.mac_id == kid then return account end
    end
  end
end

--- A client registered with an account: it shows up in the account's clients.
function acme_accounts.register(state, account, client)
  account.status = "valid"
  client.status, client.last = "valid", state.now()
  account.clients[#account.clients + 1] = client
end

-- ---------------------------------------------------------------- servers

local function list_servers(call)
  local found = {}
  local name, url = wire.text(call, "name"), wire.text(call, "url")
  local kind, ca = wire.text(call, "certValidationType"), wire.number(call, "caId")
  for _, server in ipairs(servers(call.state)) do
    if wire.contains(server.name, name) and wire.contains(server.url, url)
      and (not kind or wire.same_word(kind, server.certValidationType))
      and (not ca or ca == server.caId) then
      found[#found + 1] = server
    end
  end
  return wire.list(call, found)
end

--- The server that a request names, by name or by URL.
local function server_of(call, text)
  for _, server in ipairs(servers(call.state)) do
    if server.name == text or server.url == text then return server end
  end
  wire.fail(-1601, ("Field ''acmeServer'' has invalid value: %s"):format(text))
end

-- ---------------------------------------------------------------- showing

local function shown_server(call, account)
  return call.state.settings.acme_server == "url" and account.server.url
    or account.server.name
end

local function show(call, account)
  local shown = {id = account.id, name = account.name, status = account.status,
    macKey = account.mac_key, macId = account.mac_id, accountId = account.mac_id,
    acmeServer = shown_server(call, account), organizationId = account.org_id,
    certValidationType = account.level, contacts = account.contacts or "",
    validationId = account.validation_id}
  if account.level ~= "DV" then shown.ovAnchorID = account.anchor end
  if call.version == 1 then
    local names = {}
    for i, domain in ipairs(account.domains) do names[i] = {name = domain.name} end
    shown.domains = json.array(names)
  end
  return shown
end

local function show_universal(_, account)
  return {id = account.id, name = account.name, macKey = account.mac_key,
    macId = account.mac_id, accountId = account.mac_id, acmeServer = account.server.name,
    organizationId = account.org_id, profileName = account.profile_name}
end

--- "105,-2": the organization without its departments.
local function org_filter(call)
  local text = wire.text(call, "organizationId")
  if not text then return function() return true end end
  local id, alone = text:match "^(%d+)(,?%-?2?)$"
  id = math.tointeger(tonumber(id))
    or wire.fail(-1001, "Value of 'organizationId' must be a number.")
  return function(account)
    if alone == ",-2" then return account.org_id == id end
    return orgs.within(call.state, account.org_id, id)
  end
end

local function list(call)
  if call.version == 1 and not wire.text(call, "organizationId") then
    wire.fail(-1001, "Value of 'organizationId' must not be null.")
  end
  local found, fits = {}, org_filter(call)
  local name, server = wire.text(call, "name"), wire.text(call, "acmeServer")
  local kind, status = wire.text(call, "certValidationType"), wire.text(call, "status")
  for _, account in ipairs(call.state.acme_accounts) do
    if fits(account) and wire.contains(account.name, name)
      and (not server or wire.contains(account.server.name, server)
        or wire.contains(account.server.url, server))
      and (not kind or wire.same_word(kind, account.level))
      and (not status or wire.same_word(status, account.status)) then
      found[#found + 1] = account
    end
  end
  return wire.list(call, found, show)
end

local function list_universal(call)
  local found, fits = {}, org_filter(call)
  local name = wire.text(call, "name")
  for _, account in ipairs(call.state.acme_universal) do
    if fits(account) and wire.contains(account.name, name) then
      found[#found + 1] = account
    end
  end
  return wire.list(call, found, show_universal)
end

-- ---------------------------------------------------------------- changing

local function may(call) auth.need(call, "sslManage", "ACME account management") end

--- An account with fresh credentials: they are functions of the seed.
local function make(call, body, kind)
  local state = call.state
  local id = state:next_id "acme account"
  local key = encoding.base64url_encode(state:bytes("eab key " .. id))
  return {id = id, kind = kind, name = body.name, org_id = orgs.of_body(state,
    body.organizationId).id, status = "pending", domains = {}, clients = {},
    mac_id = state:token("eab kid " .. id, 22), mac_key = key}
end

local function create(call)
  may(call)
  local body = wire.body(call, CREATE)
  local server = server_of(call, body.acmeServer)
  local account = make(call, body, "public")
  account.server, account.level = server, server.certValidationType
  account.validation_id = body.validationId
  account.anchor = call.state:token("anchor " .. account.org_id, 12)
  local all = call.state.acme_accounts
  all[#all + 1] = account
  return wire.created(call, ("/api/acme/v%d/account/%d"):format(call.version, account.id))
end

local function create_universal(call)
  may(call)
  local body, profile = wire.body(call, CREATE_PCA), nil
  for _, one in pairs(call.state.profiles) do
    if one.name == body.profileName then profile = one end
  end
  if not profile then wire.fail(-111, ("Profile ''%s'' was not found"):format(
    body.profileName)) end
  local account = make(call, body, "universal")
  account.server = {name = body.acmeServer, url = body.acmeServer}
  account.profile_name, account.level = profile.name, profile.level
  local all = call.state.acme_universal
  all[#all + 1] = account
  return wire.created(call, "/api/acme/v1/pca/account/" .. account.id)
end

--- Handlers of one kind of account: `key` names its list in the state.
local function handlers(key, shower)
  local h = {}

  local function find(call)
    local id = wire.id(call, "id", -1601)
    for i, account in ipairs(call.state[key]) do
      if account.id == id then return account, i end
    end
    wire.missing(-1601, ("ACME account with id %d was not found"):format(id))
  end
  h.find = find

  function h.get(call) return 200, shower(call, (find(call))) end

  function h.update(call)
    may(call)
    local account = find(call)
    account.name = wire.body(call, RENAME).name or account.name
    return 200
  end

  function h.remove(call)
    may(call)
    local _, at = find(call)
    table.remove(call.state[key], at)
    return 204
  end

  function h.clients(call)
    local found, days = {}, wire.number(call, "lastActivityWithinPrevDays")
    local agent, ip = wire.text(call, "userAgent"), wire.text(call, "ipAddress")
    local status = wire.text(call, "status")
    for _, client in ipairs((find(call)).clients) do
      if wire.contains(client.user_agent, agent) and wire.contains(client.ip, ip)
        and (not status or wire.same_word(status, client.status))
        and (not days or call.state.now() - client.last <= days * DAY) then
        found[#found + 1] = client
      end
    end
    return wire.list(call, found, function(_, client)
      return {accountId = client.id, userAgent = client.user_agent, ipAddress = client.ip,
        status = client.status, lastActivity = wire.date(call, client.last, "ISO_HMS"),
        contacts = client.contacts}
    end)
  end

  function h.deactivate(call)
    may(call)
    for _, client in ipairs((find(call)).clients) do
      if client.id == call.params.clientId then
        client.status = "deactivated"
        return 204
      end
    end
    wire.missing(-1601, "ACME client was not found")
  end

  return h
end

-- ---------------------------------------------------------------- domains of an account

local function at_name(account, name)
  for i, domain in ipairs(account.domains) do
    if domain.name == name then return i end
  end
end

local public = handlers("acme_accounts", show)

local function may_use(state, account, name)
  local domain = domains.covering(state, name)
  return domain ~= nil and domains.allows(domain, account.org_id, name)
    and domains.status(state, domain) == "VALIDATED"
end

local function add_domains(call)
  may(call)
  local state, account, refused = call.state, public.find(call), {}
  for _, entry in ipairs(wire.body(call, DOMAINS).domains) do
    local name = entry.name:lower()
    if not may_use(state, account, name) then
      refused[#refused + 1] = entry.name
    elseif not at_name(account, name) then
      local domain = domains.covering(state, name)
      account.domains[#account.domains + 1] = {name = name, valid = domain.expires,
        sticky = domain.expires + 30 * DAY}
    end
  end
  if #refused == 0 then return 200, {} end
  return 200, {notAddedDomains = json.array(refused)}
end

local function remove_domains(call)
  may(call)
  local account, missing = public.find(call), {}
  for _, entry in ipairs(wire.body(call, DOMAINS).domains) do
    local at = at_name(account, entry.name:lower())
    if at then
      table.remove(account.domains, at)
    else
      missing[#missing + 1] = entry.name
    end
  end
  if #missing == 0 then return 200, {} end
  return 200, {notRemovedDomains = json.array(missing)}
end

--- Whether an instant falls within so many days: ahead, or past when negative; 0 is today.
local function within(instant, now, days)
  if not days then return true end
  local left = instant - now
  if days < 0 then return left <= 0 and left >= days * DAY end
  return left >= 0 and left <= math.max(days, 1) * DAY
end

--- A regular expression as far as it is one that Lua can match: "." and ".*".
local function matcher(text)
  if not text then return function() return true end end
  local pattern = text:gsub("%-", "%%-"):gsub("\\%.", "%%.")
  return function(name)
    local ok, found = pcall(string.find, name, pattern)
    return ok and found ~= nil
  end
end

local function list_domains(call)
  local account, now, found = public.find(call), call.state.now(), {}
  local fits = matcher(wire.text(call, "name"))
  local valid = wire.number(call, "expiresWithinNextDays")
  local sticky = wire.number(call, "stickyExpiresWithinNextDays")
  for _, domain in ipairs(account.domains) do
    if fits(domain.name) and within(domain.valid, now, valid)
      and within(domain.sticky, now, sticky) then
      found[#found + 1] = domain
    end
  end
  return wire.list(call, found, function(_, domain)
    return {name = domain.name, validUntil = wire.date(call, domain.valid, "ISO_HMS"),
      stickyUntil = wire.date(call, domain.sticky, "ISO_HMS"),
      validationId = account.validation_id}
  end)
end

function acme_accounts.routes(routes)
  routes:add("GET", "/api/acme/v1/server", list_servers)
  local base = "/api/acme/v1,v2/account"
  routes:add("GET", base, list)
  routes:add("POST", base, create)
  routes:add("GET", base .. "/{id}", public.get)
  routes:add("PUT", base .. "/{id}", public.update)
  routes:add("DELETE", base .. "/{id}", public.remove)
  routes:add("POST", base .. "/{id}/domain,domains", add_domains)
  routes:add("DELETE", base .. "/{id}/domain,domains", remove_domains)
  routes:add("GET", base .. "/{id}/domain", list_domains)
  routes:add("GET", base .. "/{id}/client", public.clients)
  routes:add("PUT", base .. "/{id}/client/{clientId}", public.deactivate)
  local universal = handlers("acme_universal", show_universal)
  base = "/api/acme/v1/pca/account"
  routes:add("GET", base, list_universal)
  routes:add("POST", base, create_universal)
  routes:add("GET", base .. "/{id}", universal.get)
  routes:add("PUT", base .. "/{id}", universal.update)
  routes:add("DELETE", base .. "/{id}", universal.remove)
  routes:add("GET", base .. "/{id}/client", universal.clients)
  routes:add("PUT", base .. "/{id}/client/{clientId}", universal.deactivate)
end

return acme_accounts
