--- A whole sandbox: SCM, mail and a folder that says how to reach them.
--
--     local run <close> = sandbox_run.start{certificates = 100}
--     print(run.scm.url, run.folder .. "/tls-ca.pem")
--
-- The folder holds tls-ca.pem (trust for the servers), root.pem (the CA that issues),
-- sandbox.json (addresses and logins), api.password … and estate.lua; it goes when the run is
-- closed.

local args = require "args"
local digest = require "digest"
local fs = require "fs"
local json = require "json"
local process = require "process"
local scm_server = require "scm_server"
local smtp_sink = require "smtp_sink"

local sandbox_run = {}

local START = {
  {name = "certificates", type = "integer", doc = "size of the estate (0)"},
  {name = "seed", type = "integer", doc = "(0)"},
  {name = "port", type = "integer", doc = "of the classic face; a free one"},
  {name = "admin_port", type = "integer", doc = "of the face for bearer tokens"},
  {name = "smtp_port", type = "integer"},
  {name = "settings", type = "table", doc = "of the SCM, see docs/sandbox.md"},
  {name = "keep", type = "string", doc = "a folder that stays, with the CA's keys"},
}

--- @class sandbox_run
--- @field scm scm_server
--- @field mail smtp_sink
--- @field folder string
--- @field info table what sandbox.json holds
local Run = {}
Run.__index = Run

local function make_folder()
  local base = (process.env "TMPDIR" or "/tmp"):gsub("/+$", "")
  local folder = ("%s/secrun-sandbox-%s"):format(base, digest.hex(digest.random(6)))
  fs.mkdir(folder, {mode = "0700"})
  return folder
end

local function info_of(run)
  local scm, logins = run.scm, {}
  for i, admin in ipairs(scm.state.admins) do
    logins[i] = {login = admin.login, password = admin.password, name = admin.name,
      client_id = admin.client_id, client_secret = admin.client_secret}
  end
  return {folder = run.folder, url = scm.url, admin_url = scm.admin_url,
    token_url = scm.token_url, customer_uri = scm.state.settings.customer_uri,
    logins = logins, smtp = ("%s:%d"):format(run.mail.host, run.mail.port),
    tls_ca = run.folder .. "/tls-ca.pem", root = run.folder .. "/root.pem"}
end

local ESTATE = [[
-- The estate of a sandbox. All is ordered by its SCM; the EV one waits for the approver.
state = %q
scm = {url = %q, ca = %q, customer_uri = %q, login = "api",
  password = secret %q, lag = "1s",
  approver = {login = "approver", password = secret %q}}
orgs = {["Example Corp"] = {channel = "scm"}}
certificates = {
  {name = "www", domains = {"www.example.com"}, org = "Example Corp",
    product = "PositiveSSL", owner = "web@example.com"},
  {name = "shop", domains = {"shop.example.com"}, org = "Example Corp",
    product = "InstantSSL Pro", owner = "web@example.com"},
  {name = "login", domains = {"login.example.com"}, org = "Example Corp",
    product = "EV SSL", owner = "web@example.com"},
}
alerts = {channels = {mail = {to = {"ops@example.com"}, smtp = {host = %q, port = %d,
  tls = "none", from = "secrun@example.com"}}}}
]]

local function estate_text(run)
  local function password(login)
    return ("file:%s/%s.password"):format(run.folder, login)
  end
  return ESTATE:format(run.folder .. "/state", run.info.url, run.info.tls_ca,
    run.info.customer_uri, password "api", password "approver", run.mail.host,
    run.mail.port)
end

local function write_files(run)
  local folder = run.folder
  fs.mkdir(folder .. "/state", {mode = "0700", parents = true})
  fs.write(folder .. "/tls-ca.pem", run.scm.ca, {mode = "0644"})
  fs.write(folder .. "/root.pem", run.scm.root, {mode = "0644"})
  fs.write(folder .. "/sandbox.json", json.encode(run.info), {mode = "0600"})
  for _, login in ipairs(run.info.logins) do
    fs.write(("%s/%s.password"):format(folder, login.login), login.password)
  end
  fs.write(folder .. "/estate.lua", estate_text(run), {mode = "0600"})
end

function Run:close()
  if self.closed then return end
  self.closed = true
  if self.scm then self.scm:close() end
  if self.mail then self.mail:close() end
  if not self.kept then fs.remove_tree(self.folder, {missing_ok = true}) end
end

Run.__close = function(self) self:close() end

--- Start everything. Raises usage for wrong settings, conflict when a port is taken; nothing
--- is left then.
---@param options table? see START
---@return sandbox_run
function sandbox_run.start(options)
  options = args.check("sandbox_run.start", START, options)
  local run = setmetatable({folder = options.keep or make_folder(),
    kept = options.keep ~= nil}, Run)
  local half <close> = setmetatable({}, {__close = function(_, err)
    if err then run:close() end
  end})
  if run.kept then fs.mkdir(run.folder, {mode = "0700", parents = true}) end
  local function place(port) return "127.0.0.1:" .. (port or 0) end
  run.mail = smtp_sink.start{listen = place(options.smtp_port)}
  run.scm = scm_server.start{listen = place(options.port),
    admin_listen = place(options.admin_port), seed = options.seed,
    certificates = options.certificates, settings = options.settings,
    ca_folder = run.kept and run.folder .. "/ca" or nil}
  run.info = info_of(run)
  write_files(run)
  return run
end

return sandbox_run
