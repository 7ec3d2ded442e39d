--- How a connection proves who it is: headers, a client certificate, or a bearer token.
--
--     local auth = scm_auth.new(options)      -- as scm.connect takes them
--     auth:apply(request)                     -- headers or bearer, fetched when needed
--     auth:apply(request, request.bearer)     -- after a 401: with another token
--
-- A token belongs to its server and client id: connections of one program share it. It is
-- fetched by one task, for which the others wait, and anew before it expires.

local args = require "args"
local core = require "scm.core"
local errors = require "errors"
local http = require "http"
local json = require "json"
local task = require "task"
local time = require "time"

local TOKEN_URL = "https://auth.sso.sectigo.com/auth/realms/apiclients/protocol/" ..
  "openid-connect/token"
local TOKEN_TRIES = 5
local TOKEN_WAIT = 60        -- seconds: a longer Retry-After is the caller's to wait for
local LIFETIME = 300         -- of a token whose server does not say
local BUSY = {[429] = true, [500] = true, [502] = true, [503] = true, [504] = true}

local scm_auth = {TOKEN_URL = TOKEN_URL}

-------------------------------------------------------------------- tokens

---@class scm.Token
---@field url string of the token server
---@field client_id string
---@field client_secret userdata
---@field value userdata? the token, a secret
---@field renew_at number? monotonic seconds
---@field flight table? the fetch under way
local Token = {}
Token.__index = Token

local tokens = {} -- by URL and client id

--- The shared token of these credentials.
local function token_of(options, network)
  local key = options.token_url .. "\n" .. options.client_id
  local known = tokens[key]
  if known and known.client_secret == options.client_secret then
    known.network = network -- that of the latest connection: its CA, its proxy
    return known
  end
  local token = setmetatable({
    url = options.token_url, client_id = options.client_id, scope = options.scope,
    client_secret = options.client_secret, network = network,
  }, Token)
  tokens[key] = token
  return token
end

--- What the server said that is no token.
local function refuse(self, res)
  local ok, document = pcall(json.decode, res.body)
  local text = ok and type(document) == "table"
    and (document.error_description or document.error)
  local shown = core.redact(tostring(text or res.body)):sub(1, 160):gsub("[%c%s]+", " ")
  local denied = res.status == 400 or res.status == 401 or res.status == 403
  errors.raise(res.status == 429 and "rate_limited" or denied and "auth" or "http",
    ("token server %s answers %d%s%s%s"):format(self.url, res.status,
      shown ~= "" and ": " or "", shown,
      denied and "; check client_id and client_secret" or ""),
    {code = "TOKEN", status = res.status, retry_after = res:retry_after(),
      retryable = BUSY[res.status] or false})
end

local function broken(self, what)
  errors.raise("protocol", ("token server %s: %s"):format(self.url, what),
    {code = "TOKEN"})
end

--- The token of a good answer; RFC 6749 section 5.1, alphabet of RFC 6750 section 2.1.
local function accept(self, res, asked)
  local ok, document = pcall(json.decode, res.body)
  if not ok or type(document) ~= "table" then broken(self, "its answer is no JSON") end
  local text, kind = document.access_token, document.token_type
  if type(text) ~= "string" or #text > 16384 or not text:find "^[%w%-%._~%+/]+=*$" then
    broken(self, "its access_token is none")
  end
  if type(kind) == "string" and kind:lower() ~= "bearer" then
    broken(self, ("its token is of type %q, not Bearer"):format(kind:sub(1, 40)))
  end
  local lifetime = tonumber(document.expires_in) or LIFETIME
  self.value = core.secret(text, "SCM token")
  self.renew_at = asked + lifetime - math.min(60, lifetime / 5)
end

--- One request to the token server; may be repeated at will.
local function ask(self)
  local form = {grant_type = "client_credentials", client_id = self.client_id,
    client_secret = self.client_secret, scope = self.scope}
  local request = {method = "POST", url = self.url, form = form, raise = false,
    idempotent = true, redirects = 0}
  for name, value in pairs(self.network) do request[name] = value end
  return http.request(request)
end

local function fetch(self)
  local wait = 1
  for left = TOKEN_TRIES - 1, 0, -1 do
    local asked = time.mono()
    local ok, res = pcall(ask, self)
    if ok and res.status == 200 then return accept(self, res, asked) end
    local pause = wait * (0.5 + math.random() / 2)
    if not ok and (left == 0 or not errors.object(res).retryable) then error(res, 0) end
    if ok then
      pause = math.max(pause, res:retry_after() or 0)
      if left == 0 or not BUSY[res.status] or pause > TOKEN_WAIT then
        refuse(self, res)
      end
    end
    task.sleep(pause)
    wait = wait * 2
  end
end

--- Fetch the token in a task of its own, so that it is nobody's to cancel; everybody who
--- needs it waits for that one.
local function refresh(self)
  local flight = self.flight
  if not flight then
    flight = {}
    self.flight = flight
    flight.task = task.daemon(function()
      local ok, err = pcall(fetch, self)
      flight.err = not ok and errors.object(err) or nil
      self.flight = nil
    end)
  end
  flight.task:join()
  if flight.err then error(flight.err, 0) end
end

--- A token that is good; not the one that was refused.
---@param refused userdata?
---@return userdata
function Token:get(refused)
  local fresh = self.value and not rawequal(self.value, refused)
    and time.mono() < self.renew_at
  if not fresh then refresh(self) end
  return self.value
end

-------------------------------------------------------------------- faces

---@class scm.Auth
---@field face "classic"|"admin"
---@field prefix string what stands before /api in paths
---@field how string "password", "certificate", "developer" or "oauth"; for messages
local Auth = {prefix = ""}
Auth.__index = Auth

--- Put the proof into the options of a request.
---@param request table options of http.request, with its own headers
---@param refused userdata? the token that got a 401
function Auth:apply(request, refused)
  for name, value in pairs(self.headers) do request.headers[name] = value end
  if self.token then request.bearer = self.token:get(refused) end
end

--- Whether a 401 may go away with a new token.
---@return boolean
function Auth:renewable() return self.token ~= nil end

local OAUTH = {
  {name = "client_id", type = "string", required = true, nonempty = true},
  {name = "client_secret", type = "secret", required = true},
  {name = "token_url", type = "string", nonempty = true, doc = "token server"},
  {name = "scope", type = "string", nonempty = true},
}

local function as_secret(value, label)
  return type(value) == "string" and core.secret(value, label) or value
end

local function missing(what, why)
  errors.raise("usage", ("scm.connect: %s is missing; %s"):format(what, why),
    {code = "MISSING_OPTION"})
end

local function oauth(options, network)
  local given = args.check("scm.connect: oauth", OAUTH, options.oauth)
  for _, name in ipairs{"password", "login", "email", "customer_uri"} do
    if options[name] ~= nil then
      errors.raise("usage", ("scm.connect: %s belongs to the classic face; leave it out "
        .. "beside oauth"):format(name), {code = "BAD_OPTION"})
    end
  end
  local url = given.token_url or TOKEN_URL
  core.check_token_url(url)
  local token = token_of({token_url = url, client_id = given.client_id,
    client_secret = as_secret(given.client_secret, "client_secret"),
    scope = given.scope}, network)
  return setmetatable({face = "admin", how = "oauth", headers = {}, token = token}, Auth)
end

--- The developer login, for code signing on demand: an address instead of a login.
local function developer(options)
  if options.login ~= nil or options.cert ~= nil then
    errors.raise("usage", "scm.connect: email is the developer login; leave login and "
      .. "cert out", {code = "BAD_OPTION"})
  end
  if not options.customer_uri then
    missing("customer_uri", "it is the word after /customer/ in the portal's address")
  end
  if options.password == nil then missing("password", "the developer login has one") end
  local headers = {email = options.email, customerUri = options.customer_uri,
    password = as_secret(options.password, "password")}
  return setmetatable({face = "classic", how = "developer", headers = headers}, Auth)
end

local function classic(options)
  if options.email ~= nil then return developer(options) end
  local certificate = options.cert ~= nil
  if not options.customer_uri then
    missing("customer_uri", "it is the word after /customer/ in the portal's address")
  end
  if not options.login then missing("login", "or give oauth = {client_id =, …}") end
  local headers = {login = options.login, customerUri = options.customer_uri}
  if certificate and options.password ~= nil then
    errors.raise("usage", "scm.connect: give either a password or cert and key",
      {code = "BAD_OPTION"})
  elseif certificate and options.key == nil then
    missing("key", "cert is of no use without its key")
  elseif not certificate then
    if options.password == nil then
      missing("password", "give password = secret \"env:…\", or cert and key")
    end
    headers.password = as_secret(options.password, "password")
  end
  return setmetatable({
    face = "classic", how = certificate and "certificate" or "password",
    prefix = certificate and "/private" or "", headers = headers,
  }, Auth)
end

--- The auth of a connection. network: options of http.request for the token server.
---@param options table as scm.connect takes them
---@param network table
---@return scm.Auth
function scm_auth.new(options, network)
  if options.oauth ~= nil then return oauth(options, network) end
  return classic(options)
end

return scm_auth
