--- Whom to tell what: channels and routes, as the estate file has them.
--
--     alerts = {
--       channels = {
--         ops  = {smtp = {host = "mail.example.com", user = "secrun",
--                   password = secret "env:MAIL_PASSWORD", from = "secrun@example.com"},
--                 to = {"ops@example.com"}},
--         hook = {webhook = {url = "https://hooks.example.com/x",
--                   secret = secret "env:HOOK_KEY"}},
--       },
--       routes = {
--         {severity = "critical", to = {"ops", "hook"}},
--         {org = "Example", kind = {"expiry", "renewal-late"}, to = {"hook"}},
--       },
--       default = {"ops"},
--     }
--
-- The first route whose every condition holds decides; continue = true looks further. What no
-- route takes goes to `default`, which is every channel unless it says otherwise.

local args = require "args"
local problems = require "problems"
local rules = require "alert_rules"
local smtp = require "smtp"
local webhook = require "alert_webhook"

local routes = {}

local ALERTS = {
  {name = "channels", type = "table", doc = "name → {smtp = …, to = …} or {webhook = …}"},
  {name = "routes", type = "list", choices = "table"},
  {name = "default", type = "list", choices = "string",
    doc = "channels of what no route takes"},
  {name = "fail_after", type = "integer", positive = true,
    doc = "failures in a row until a channel is an alert of its own (3)"},
}

local CHANNEL = {
  {name = "smtp", type = "table"},
  {name = "to", type = "list", choices = "string", nonempty = true},
  {name = "webhook", type = "table"},
}

local SMTP = {
  {name = "host", type = "string", required = true, nonempty = true},
  {name = "port", type = "integer", positive = true, doc = "587; 465 with implicit TLS"},
  {name = "tls", type = "enum", choices = "starttls|implicit|none"},
  {name = "user", type = "string", nonempty = true},
  {name = "password", type = "any", doc = 'secret "env:NAME"'},
  {name = "ca", type = "string", doc = "PEM file that verifies the server"},
  {name = "from", type = "string", required = true, nonempty = true,
    doc = '"Name <address>" or address'},
  {name = "helo", type = "string", nonempty = true},
  {name = "timeout", type = "duration"},
}

local WEBHOOK = {
  {name = "url", type = "string", required = true, nonempty = true},
  {name = "secret", type = "any", required = true, doc = 'secret "env:NAME", signs it'},
  {name = "ca", type = "string", doc = "PEM file that verifies the server"},
  {name = "timeout", type = "duration"},
}

local ROUTE = {
  {name = "severity", type = "any", doc = '"critical" or a list'},
  {name = "kind", type = "any", doc = "a kind or a list"},
  {name = "org", type = "any", doc = "an organization or a list"},
  {name = "owner", type = "any", doc = "an owner or a list"},
  {name = "to", type = "list", choices = "string", required = true, doc = "channels"},
  {name = "continue", type = "boolean", doc = "look at the routes behind it too"},
}

local CONDITIONS = {"severity", "kind", "org", "owner"}
local LONGEST = 45 -- seconds for one delivery; its lease is longer

------------------------------------------------------------------ checking

local Check = setmetatable({}, {__index = problems})
Check.__index = Check

local function is_reference(value)
  return type(value) == "table" and value["$secret"] ~= nil
end

--- A secret of the file: a reference, so that it does not stand in it. Outside a cage it may
--- be an object.
function Check:secret(place, value)
  if not is_reference(value) and type(value) ~= "userdata" then
    self:note(place, 'is secret "env:NAME" or secret "file:/path", so that it does not '
      .. "stand in the file")
  end
end

function Check:timeout(place, value)
  if value and args.duration(value) > LONGEST then
    self:note(place, "is at most %ds, got %s", LONGEST, value)
  end
end

function Check:address(place, value)
  local ok, err = pcall(require "mail".address, value)
  if not ok then self:note(place, "%s", err.message) end
end

function Check:smtp(place, server, to)
  if not to then
    self:note(place, 'has no to; add to = {"someone@example.com"} beside smtp')
  end
  for i, address in ipairs(to or {}) do
    local ok, err = pcall(smtp.check_address, address)
    if not ok then self:note(("%s.to[%d]"):format(place, i), "%s", err.message) end
  end
  if not self:spec(place .. ".smtp", SMTP, server) then return end
  place = place .. ".smtp"
  self:address(place .. ".from", server.from)
  self:timeout(place .. ".timeout", server.timeout)
  if server.password ~= nil then self:secret(place .. ".password", server.password) end
  if (server.user == nil) ~= (server.password == nil) then
    self:note(place, "has one of user and password; give both or none")
  elseif server.user and server.tls == "none" then
    self:note(place, 'a password is not sent without TLS; use tls = "starttls" or '
      .. '"implicit"')
  end
end

function Check:webhook(place, hook)
  if not self:spec(place, WEBHOOK, hook) then return end
  self:secret(place .. ".secret", hook.secret)
  self:timeout(place .. ".timeout", hook.timeout)
  local wrong = webhook.wrong_url(hook.url)
  if wrong then self:note(place .. ".url", "%s, got %q", wrong, hook.url) end
end

function Check:channel(name, channel)
  local place = "alerts.channels." .. tostring(name)
  if type(name) ~= "string" or not name:find("^[%w_][%w_.-]*$") or #name > 60 then
    self:note(place, "a channel's name has letters, digits, '.', '_' and '-'; write "
      .. "channels = {ops = {…}}")
    return
  end
  if not self:spec(place, CHANNEL, channel) then return end
  if (channel.smtp == nil) == (channel.webhook == nil) then
    self:note(place, "has smtp or webhook, one of them")
  elseif channel.smtp then
    self:smtp(place, channel.smtp, channel.to)
  else
    if channel.to then self:note(place, "to is for mail; a webhook has a url") end
    self:webhook(place .. ".webhook", channel.webhook)
  end
end

local function names_of(channels)
  local names = {}
  for name in pairs(channels) do names[#names + 1] = tostring(name) end
  table.sort(names)
  return names
end

function Check:names(place, list, channels)
  local known = names_of(channels)
  if #list == 0 then self:note(place, "is empty; name a channel") end
  for _, name in ipairs(list) do
    if channels[name] == nil then
      local close = args.suggest(name, known)
      self:note(place, "there is no channel %q; %s", name,
        close and "did you mean " .. close .. "?"
          or #known > 0 and "there are: " .. table.concat(known, ", ")
          or "add it to alerts.channels")
    end
  end
end

local function values_of(condition)
  return type(condition) == "table" and condition or {condition}
end

function Check:route(i, route, channels, orgs)
  local place = ("alerts.routes[%d]"):format(i)
  if not self:spec(place, ROUTE, route) then return end
  self:names(place .. ".to", route.to, channels)
  for _, key in ipairs(CONDITIONS) do
    for _, value in ipairs(values_of(route[key])) do
      if type(value) ~= "string" then
        self:note(place .. "." .. key, "is text or a list of texts, got %s", type(value))
      elseif key == "severity" and not rules.RANK[value] then
        self:note(place .. ".severity", "is info, warning or critical, got %q", value)
      elseif key == "org" and orgs and orgs[value] == nil then
        self:note(place .. ".org", "there is no orgs.%s", value)
      end
    end
  end
end

------------------------------------------------------------------ reading

--- Check and complete `alerts` of an estate file.
---@param alerts table?
---@param orgs table? of the estate, to know their names
---@return {channels: table, routes: table[], default: string[], fail_after: integer} config
---@return string[] problems each with its place and its mend
function routes.read(alerts, orgs)
  local check = problems.new(Check)
  local config = {channels = {}, routes = {}, default = {}, fail_after = 3}
  if alerts == nil or not check:spec("alerts", ALERTS, alerts) then
    return config, check.problems
  end
  local channels = alerts.channels or {}
  for _, name in ipairs(names_of(channels)) do
    check:channel(channels[name] ~= nil and name or tonumber(name),
      channels[name] or channels[tonumber(name)])
  end
  for i, route in ipairs(alerts.routes or {}) do check:route(i, route, channels, orgs) end
  if alerts.default then check:names("alerts.default", alerts.default, channels) end
  config.channels, config.routes = channels, alerts.routes or {}
  config.default = alerts.default or names_of(channels)
  config.fail_after = alerts.fail_after or 3
  return config, check.problems
end

--- What the channels need of this machine: secrets and CA files, each with its place.
---@param alerts table? of an estate that was checked
---@return {place: string, secret: any, ca: string?}[]
function routes.needs(alerts)
  local list, channels = {}, alerts and alerts.channels or {}
  for _, name in ipairs(names_of(channels)) do
    local place = "alerts.channels." .. name
    local server, hook = channels[name].smtp, channels[name].webhook
    list[#list + 1] = server and {place = place .. ".smtp", secret = server.password,
      ca = server.ca} or {place = place .. ".webhook", secret = hook.secret, ca = hook.ca}
  end
  return list
end

------------------------------------------------------------------ routing

local function holds(condition, value)
  if condition == nil then return true end
  for _, one in ipairs(values_of(condition)) do
    if one == value then return true end
  end
  return false
end

local function takes(route, row)
  for _, key in ipairs(CONDITIONS) do
    if not holds(route[key], row[key]) then return false end
  end
  return true
end

--- The channels for an alert, by name, and whether a route named them.
---@param config table from routes.read
---@param row {severity: string, kind: string, org: string?, owner: string?}
---@return string[] channels
---@return boolean routed false: the default
function routes.channels(config, row)
  local chosen, seen, routed = {}, {}, false
  local function add(list)
    for _, name in ipairs(list) do
      if not seen[name] then chosen[#chosen + 1] = name end
      seen[name] = true
    end
  end
  for _, route in ipairs(config.routes) do
    if takes(route, row) then
      routed = true
      add(route.to)
      if not route.continue then break end
    end
  end
  if not routed then add(config.default) end
  return chosen, routed
end

return routes
