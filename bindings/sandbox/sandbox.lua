--- The sandbox that this run practises on (secrun --sandbox …), and how one is launched.
--
--     secrun --sandbox -e 'for c in require"sandbox".scm().ssl:list{} do print(c.sslId) end'
--     secrun --sandbox -e 'print(require"sandbox".info().smtp)'

local args = require "args"
local errors = require "errors"
local fs = require "fs"
local json = require "json"
local load_ = require "load"
local practice = require "practice"
local process = require "process"
local scm = require "scm"

local sandbox = {}

--- What is to be known of the sandbox: addresses, logins, folder. Raises usage without one.
---@return table
function sandbox.info()
  local folder = practice.folder()
  if not folder then
    errors.raise("usage", "this run has no sandbox; start it with secrun --sandbox")
  end
  return json.decode(fs.read(folder .. "/sandbox.json"))
end

local function login_of(info, login)
  local names = {}
  for i, one in ipairs(info.logins) do
    if one.login == login then return one end
    names[i] = one.login
  end
  errors.raise("usage", ("the sandbox has no login %q; it has %s"):format(login,
    table.concat(names, ", ")))
end

--- A connection to the sandbox's SCM.
---@param options {login: string?, oauth: boolean?}? login "api" by default, "approver" approves
---@return scm.Connection
function sandbox.scm(options)
  options = args.check("sandbox.scm", {{name = "login", type = "string"},
    {name = "oauth", type = "boolean", doc = "the other face"}}, options)
  local info = sandbox.info()
  local login = login_of(info, options.login or "api")
  if options.oauth then
    return scm.connect{url = info.admin_url, ca = info.tls_ca, oauth = {
      client_id = login.client_id, client_secret = login.client_secret,
      token_url = info.token_url}}
  end
  return scm.connect{url = info.url, customer_uri = info.customer_uri, ca = info.tls_ca,
    login = login.login, password = login.password}
end

-- ---------------------------------------------------------------- launching

local function environment(info)
  local env = {SECRUN_SANDBOX = info.folder, SECRUN_SANDBOX_URL = info.url,
    SECRUN_SANDBOX_ADMIN_URL = info.admin_url, SECRUN_SANDBOX_TOKEN_URL = info.token_url,
    SECRUN_SANDBOX_CA = info.tls_ca, SECRUN_SANDBOX_ROOT = info.root,
    SECRUN_SANDBOX_SMTP = info.smtp, SECRUN_CONFIG = info.folder .. "/estate.lua",
    STATE_DIRECTORY = info.folder .. "/state"}
  for _, login in ipairs(info.logins) do
    local name = login.login:upper()
    env["SECRUN_SANDBOX_PASSWORD_" .. name] = login.password
    env["SECRUN_SANDBOX_SECRET_" .. name] = login.client_secret
  end
  return env
end

local LAUNCH = {{name = "certificates", type = "integer"}}

--- Start a sandbox as a child of this process, for the command line. It ends when it is
--- closed, and by itself should this process vanish.
---@param options {certificates: integer?}
---@return {folder: string, env: table<string, string>}
function sandbox.launch(options)
  options = args.check("sandbox.launch", LAUNCH, options)
  local child = process.spawn{argv = {load_.paths().program, "sandbox",
    "--parent", tostring(process.pid), "--set", "any_password=true",
    "--certs", tostring(options.certificates or 0)}}
  local half <close> = setmetatable({}, {__close = function(_, err)
    if err then child:close() end
  end})
  local line = child:read_line "60s"
  local info = line and line:sub(1, 1) == "{" and json.decode(line)
  if not info then
    errors.raise("io", ("the sandbox did not start: %s"):format(line
      or "it said nothing"))
  end
  return setmetatable({folder = info.folder, env = environment(info)},
    {__close = function()
    if child.running then
      child:kill "SIGTERM"
      try(child.wait, child, "10s")
    end
    child:close()
  end})
end

return sandbox
