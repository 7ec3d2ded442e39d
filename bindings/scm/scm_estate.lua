--- SCM in the estate file: scm = {…} of an organization, or of the estate for all.
--
--     orgs = {corp = {scm = {customer_uri = "example", login = "enroller",
--       password = secret "env:SCM_PASSWORD", org = "Example Corp",
--       products = {["EV SSL"] = "Example EV Anchor"},
--       approver = {login = "approver", password = secret "env:SCM_APPROVER"}}}}
--
-- Secrets stay references until a connection is made. Requests are made with a login that
-- cannot approve, approvals with the second one (`approver`).

local args = require "args"
local products = require "products"
local scm = require "scm"

local scm_estate = {}

local SCM = {
  {name = "url", type = "string", nonempty = true, doc = "the API's host, https://…"},
  {name = "instance", type = "string", nonempty = true},
  {name = "customer_uri", type = "string", nonempty = true},
  {name = "login", type = "string", nonempty = true},
  {name = "password", type = "any", doc = 'secret "env:NAME"'},
  {name = "cert", type = "string", nonempty = true, doc = "path of a client certificate"},
  {name = "key", type = "string", nonempty = true, doc = "path of its key"},
  {name = "key_password", type = "any"},
  {name = "oauth", type = "table", doc = "{client_id =, client_secret =, token_url =}"},
  {name = "ca", type = "string", nonempty = true, doc = "path of a CA file"},
  {name = "timeout", type = "duration", positive = true},
  {name = "org", type = "string", nonempty = true,
    doc = "its name in SCM, with /Department; the estate's by default"},
  {name = "products", type = "table", doc = "product → name of the SCM profile"},
  {name = "comments", type = "string", doc = "of every request"},
  {name = "external_requester", type = "string", doc = "whom SCM mails"},
  {name = "server_type", type = "any", doc = "classic face: name or code"},
  {name = "lag", type = "duration",
    doc = "how long SCM's lists may lag behind its writes (30s)"},
  {name = "auto_renew", type = "enum", choices = "refuse|take_over",
    doc = "where SCM renews by itself (refuse)"},
  {name = "approver", type = "table", doc = "{login =, password =} or {oauth =} or cert"},
}

local APPROVER = {
  {name = "login", type = "string", nonempty = true},
  {name = "password", type = "any"},
  {name = "cert", type = "string", nonempty = true},
  {name = "key", type = "string", nonempty = true},
  {name = "key_password", type = "any"},
  {name = "oauth", type = "table"},
}

local CONNECT = {"url", "instance", "customer_uri", "login", "password", "cert", "key",
  "key_password", "oauth", "ca", "timeout"}
local WHO = {"login", "password", "cert", "key", "key_password", "oauth"}

local function is_reference(value)
  return type(value) == "table" and value["$secret"] ~= nil
end

--- The options of scm.connect, with secrets made by `open`.
local function options_of(settings, open)
  local options = {}
  for _, name in ipairs(CONNECT) do options[name] = settings[name] end
  for _, name in ipairs{"password", "key_password"} do
    if options[name] ~= nil then options[name] = open(options[name]) end
  end
  if type(options.oauth) == "table" then
    local oauth = {}
    for name, value in pairs(options.oauth) do oauth[name] = value end
    if oauth.client_secret ~= nil then oauth.client_secret = open(oauth.client_secret) end
    options.oauth = oauth
  end
  return options
end

--- The settings as the approver has them.
local function approver_of(settings)
  local other = {}
  for name, value in pairs(settings) do other[name] = value end
  for _, name in ipairs(WHO) do other[name] = settings.approver[name] end
  return other
end

local function check_secrets(note, settings)
  for _, name in ipairs{"password", "key_password"} do
    if settings[name] ~= nil and not is_reference(settings[name]) then
      note('%s is secret "env:NAME" or secret "file:/path", so that it does not stand in '
        .. "the file", name)
    end
  end
  local oauth = settings.oauth
  if oauth and oauth.client_secret ~= nil and not is_reference(oauth.client_secret) then
    note('oauth.client_secret is secret "env:NAME" or secret "file:/path", so that it '
      .. "does not stand in the file")
  end
end

--- Whether scm.connect takes the options; no request is made.
local function check_connect(note, settings)
  local ok, err = pcall(scm.connect, options_of(settings, function() return "x" end))
  if not ok then note("%s", (err.message:gsub("^scm%.connect: ", ""))) end
end

local function check_products(note, map)
  for product, profile in pairs(map or {}) do
    local ok, err = pcall(products.get, product)
    if not ok then note("products: %s", err.message) end
    if type(profile) ~= "string" or profile == "" then
      note("products[%q] is the name of an SCM profile, got %s", tostring(product),
        type(profile))
    end
  end
end

--- What is wrong with the settings: texts, each with its place and mend.
---@param settings table
---@param place string "orgs.corp.scm"
---@return string[]
function scm_estate.problems(settings, place)
  local list = {}
  local function note_at(where)
    return function(format, ...)
      list[#list + 1] = ("%s: %s"):format(where, format:format(...))
    end
  end
  local note = note_at(place)
  local ok, err = pcall(args.check, place, SCM, settings)
  if not ok then return {err.message} end
  check_secrets(note, settings)
  check_connect(note, settings)
  check_products(note, settings.products)
  if settings.approver then
    ok, err = pcall(args.check, place .. ".approver", APPROVER, settings.approver)
    if not ok then
      list[#list + 1] = err.message
    else
      check_secrets(note_at(place .. ".approver"), settings.approver)
      check_connect(note_at(place .. ".approver"), approver_of(settings))
    end
  end
  return list
end

--- The face in words: "classic face (password), login enroller at https://…".
---@param settings table checked before
---@return string
function scm_estate.face(settings)
  local c = scm.connect(options_of(settings, function() return "x" end))
  local who = settings.login and "login " .. settings.login
    or "client " .. settings.oauth.client_id
  return ("%s face (%s), %s at %s"):format(c.face, c.auth.how, who, c.url)
end

--- A connection by the settings. `as` = "approver": with the second login. Raises usage
--- when there is none.
---@param settings table checked before
---@param open fun(value: any): any makes a secret of its reference
---@param as "approver"|nil
---@return scm.Connection
function scm_estate.connect(settings, open, as)
  if as == "approver" then
    if not settings.approver then
      require("errors").raise("usage", "the estate has no approver for SCM; add approver "
        .. "= {login = …, password = secret …} to its scm", {code = "ESTATE"})
    end
    settings = approver_of(settings)
  end
  return scm.connect(options_of(settings, open))
end

--- What the settings need of this machine: {{place =, secret = or file =}}.
---@param settings table
---@param place string
---@return table[]
function scm_estate.needs(settings, place)
  local needs = {}
  local function add(from, where)
    for _, name in ipairs{"password", "key_password"} do
      if from[name] ~= nil then
        needs[#needs + 1] = {place = where .. "." .. name, secret = from[name]}
      end
    end
    for _, name in ipairs{"cert", "key", "ca"} do
      if from[name] then
        needs[#needs + 1] = {place = where .. "." .. name, file = from[name]}
      end
    end
    if from.oauth then
      needs[#needs + 1] = {place = where .. ".oauth.client_secret",
        secret = from.oauth.client_secret}
    end
  end
  add(settings, place)
  if settings.approver then add(settings.approver, place .. ".approver") end
  return needs
end

return scm_estate
