description = "Renew every certificate that is due."
usage = "secrun renew [--config FILE] [--dry-run] [--force] [--jobs N] [NAME…]"
needs = {}
options = {
  {name = "config", type = "string", value = "FILE", doc = "the estate file"},
  {name = "dry-run", type = "flag", doc = "say what would be done, and do nothing"},
  {name = "force", type = "flag", doc = "renew although it is not due"},
  {name = "jobs", type = "integer", value = "N", positive = true,
    doc = "certificates at once, 8 by default"},
}

local acme = require "acme"
local deploy = require "deploy"
local errors = require "errors"
local estate = require "estate"
local fs = require "fs"
local log = require "log"
local policy = require "policy"
local progress = require "progress"
local task = require "task"
local textable = require "textable"
local time = require "time"
local x509 = require "x509"

--- An earlier run that was stopped: what it issued may be in service already (then it is
--- forgotten), else the renewal goes on where it stopped.
local function stopped_before(e, certificate, installed, dry_run)
  local folder = e.state .. "/orders/" .. certificate.name
  if dry_run and not fs.exists(folder) then return nil end
  local state, pem = acme.left(folder)
  if not state then return nil end
  local in_service = installed and installed.leaf
    and (state == "ended" or pem and x509.read(pem).sha256 == installed.leaf.sha256)
  if not in_service then return "an earlier run stopped in the middle" end
  if not dry_run then acme.forget(folder) end
end

local function ask_policy(e, certificate)
  local rules = estate.of(e, certificate, "policies")
  local decision = policy.ask(rules, estate.request(e, certificate), {folder = e.folder})
  return policy.enforce(decision, certificate.name)
end

--- One ACME account per set of settings, opened when first needed.
local function accounts(e)
  local open = {}
  return function(certificate)
    local settings = estate.of(e, certificate, "acme")
    local lock <close> = fs.lock(e.state .. "/accounts.lock", {wait = "2m"})
    if not open[settings] then
      local host = settings.directory:match("^https://([^/]+)") or "ca"
      open[settings] = acme.account{
        directory = settings.directory, contact = settings.contact, ca = settings.ca,
        terms_agreed = settings.terms_agreed,
        key = {file = settings.key or e.state .. "/accounts/" .. host:gsub("[^%w.-]", "_")
          .. ".key"},
        eab = settings.eab and {kid = settings.eab.kid, alg = settings.eab.alg,
          hmac_key = estate.secret(settings.eab.hmac_key)},
        http = settings.proxy and {proxy = settings.proxy} or nil,
      }
    end
    return open[settings]
  end
end

--- Order, prove, fetch, install, reload. The order's folder is forgotten only when the new
--- certificate is in service.
local function renew(e, account_of, certificate, installed)
  ask_policy(e, certificate)
  local issued = account_of(certificate):issue{
    names = certificate.domains, profile = certificate.profile,
    key = certificate.reuse_key and installed and installed.key or nil,
    key_type = certificate.key_type,
    solver = acme.http01(estate.of(e, certificate, "challenge")),
    state_dir = e.state .. "/orders/" .. certificate.name,
  }
  local done = deploy.install{
    dir = certificate.install.dir, pem = issued.pem, key = issued.key,
    names = certificate.domains, owner = certificate.install.owner,
    mode = certificate.install.mode, keep = e.keep, reload = certificate.reload,
    reload_timeout = certificate.reload_timeout,
  }
  issued:done()
  return done.leaf
end

local function expires(leaf) return leaf and time.rfc3339(leaf.not_after) or "" end

local function handle(e, account_of, opts, certificate)
  local lock <close> = not opts.dry_run
    and fs.lock(e.state .. "/locks/" .. certificate.name, {wait = "1s"}) or nil
  local installed = deploy.current(certificate.install.dir)
  local why, later = estate.why_due(certificate, installed)
  local left = stopped_before(e, certificate, installed, opts.dry_run)
  why = why or left or opts.force and "forced" or nil
  if opts.dry_run then
    if why then ask_policy(e, certificate) end
    return {why and "would renew" or "fine", expires(installed and installed.leaf),
      why or "due " .. time.rfc3339(later)}
  end
  if not why then
    local reloaded = installed.reload_pending and deploy.finish_reload{
      dir = certificate.install.dir, reload = certificate.reload,
      reload_timeout = certificate.reload_timeout}
    return {reloaded and "reloaded" or "fine", expires(installed.leaf),
      reloaded and "an earlier run stopped before the reload"
        or "due " .. time.rfc3339(later)}
  end
  log.info("%s: renewing, %s", certificate.name, why)
  return {"renewed", expires(renew(e, account_of, certificate, installed)), why}
end

--- Words and exit status for a failure: denied by policy, pending, or failed.
local function outcome(err)
  if err.kind == "denied" and err.code == "POLICY" then return "denied", 3 end
  if err.kind == "pending" then return "pending", 4 end
  return "FAILED", 1
end

--- The folders of the state. Root uses none in which somebody else could swap a key.
local function prepare(e)
  for _, name in ipairs{"", "/accounts", "/orders", "/locks"} do
    fs.mkdir(e.state .. name, {parents = true, mode = "0700"})
  end
  fs.check_owner(e.state)
  return true
end

function main(words)
  local opts, names = require("options").parse(words, options)
  local e = estate.load(estate.find(opts.config))
  local chosen = estate.select(e, names)
  local ready, wrong = opts.dry_run, nil
  if not ready then ready, wrong = try(prepare, e) end
  if not ready then
    log.error("the state of %s cannot be kept: %s", e.path, wrong.message)
    return 1
  end
  local account_of, rows, status = accounts(e), {}, 0
  local shown <close> = progress.start{label = "renewing", total = #chosen}
  local function one(certificate)
    local step <close> = setmetatable({}, {__close = function() shown:step() end})
    return handle(e, account_of, opts, certificate)
  end
  local results, failures = task.each(chosen, {limit = opts.jobs or 8}, one)
  shown:close()
  for i, certificate in ipairs(chosen) do
    local err = failures[i]
    if err then
      local word, code = outcome(errors.object(err))
      if status == 0 or code == 1 then status = code end
      rows[i] = {certificate.name, word, "", tostring(err)}
    else
      rows[i] = {certificate.name, table.unpack(results[i])}
    end
  end
  print(textable.format({"certificate", "result", "expires", "why"}, rows))
  return status
end
