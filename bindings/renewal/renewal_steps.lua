--- What the steps of a renewal do; scripts/flows/renew.lua says in which order.
--
--     local record = steps.place_order(f.id, input, spki, 1)
--
-- Each function is the whole work of one step: it may run again after a crash, and finds
-- then what it did before. `input` is what renewal.start made of the estate, `id` the flow's.
-- Results are plain values; keys stay in their files.

local deploy = require "deploy"
local estate = require "estate"
local fs = require "fs"
local policy = require "policy"
local renewal_account = require "renewal_account"
local renewal_key = require "renewal_key"
local renewal_solver = require "renewal_solver"
local renewal_scm = require "renewal_scm"
local time = require "time"
local x509 = require "x509"

local steps = {}

local STALE = 600 -- seconds: an order that failed after so long is replaced once

local function account_of(input) return renewal_account.open(input.acme, input.state) end

local function key_path(id, input)
  return ("%s/keys/%s/%s.pem"):format(input.state, input.certificate.name,
    id:match("[^/]+$"))
end

--- Whether the certificate still needs it: another run may have been faster.
function steps.look(input)
  local installed = deploy.current(input.certificate.install.dir)
  local why = estate.why_due(input.certificate, installed) or input.forced and "forced"
  if why then return {why = why} end
  local reloaded = deploy.finish_reload{dir = input.certificate.install.dir,
    reload = input.certificate.reload, reload_timeout = input.certificate.reload_timeout}
  return {fine = true, reloaded = reloaded, not_after = installed.leaf.not_after}
end

function steps.ask_policies(input)
  local decision = policy.ask(input.policies, input.request, {folder = input.folder})
  policy.enforce(decision, input.certificate.name)
  return {verdict = decision.verdict, rule = decision.rule, reason = decision.reason}
end

--- The new key; the one in service with reuse_key; the one of an order that is taken over.
function steps.prepare_key(id, input)
  local installed = input.certificate.reuse_key
    and deploy.current(input.certificate.install.dir)
  local adopted = input.adopt and fs.exists(input.adopt.key)
    and renewal_key.read(input.adopt.key, input.adopt.spki_sha256)
  local key = renewal_key.prepare(key_path(id, input), {type = input.certificate.key_type,
    key = adopted or installed and installed.key or nil})
  return key.spki_sha256
end

local function record_of(order, account, key, names)
  return {url = order.url, account = account:url(), placed = time.now(),
    csr = x509.csr{key = key, names = names}:pem()}
end

--- The order that a version without a store left behind, while the CA still has it.
local function adopted_order(input, account, spki)
  local adopt = input.adopt
  if not adopt or adopt.spki_sha256 ~= spki or adopt.account ~= account:url() then
    return nil
  end
  local order = try(account.open_order, account, adopt.order)
  if not order or order.status == "invalid" then return nil end
  return {url = order.url, account = adopt.account, csr = adopt.csr, placed = time.now()}
end

--- Place the order. The CSR is kept with it, so that finalize repeats its bytes.
function steps.place_order(id, input, spki, round)
  local account, names = account_of(input), input.certificate.domains
  local adopted = round == 1 and adopted_order(input, account, spki)
  if adopted then return adopted end
  local key = renewal_key.read(key_path(id, input), spki)
  local order = account:order{names = names, profile = input.certificate.profile}
  return record_of(order, account, key, names)
end

--- Whether an order that may have been placed was: the account's list knows.
function steps.find_order(id, input, spki)
  local account, names = account_of(input), input.certificate.domains
  local key = renewal_key.read(key_path(id, input), spki)
  local order, listed = account:find_order{names = names,
    profile = input.certificate.profile}
  if order then return true, record_of(order, account, key, names) end
  if listed then return false end
  return nil
end

--- Prove every name. An order that lapsed while the flow was parked, or that the CA has
--- forgotten, is told by `lapsed`.
function steps.authorize(input, record, resumed)
  local order, err = try(function()
    local order = account_of(input):open_order(record.url)
    local solver = renewal_solver.open(input.challenge)
    return order:authorize{solver = solver, resumed = resumed}
  end)
  if order then return {status = order.status} end
  local gone = err.final or err.status == 404
  if not gone or time.now() - record.placed < STALE then error(err, 0) end
  return {lapsed = tostring(err)}
end

--- Hand in the CSR; an order that is past it is left as it is.
function steps.finalize(input, record)
  local order = account_of(input):open_order(record.url)
  if order.status == "ready" then order:finalize(record.csr) end
  return {status = order.status}
end

--- The checked chain; raises pending while the CA works, for days if need be.
function steps.collect(id, input, record, spki)
  local account = account_of(input)
  local order = account:open_order(record.url):wait("valid")
  local pem = order:certificate()
  local blocks = account:check_chain{pem = pem, names = input.certificate.domains,
    key = renewal_key.read(key_path(id, input), spki)}
  local leaf = x509.read(blocks[1])
  return {pem = table.concat(blocks), sha256 = leaf.sha256, serial = leaf.serial,
    not_before = leaf.not_before, not_after = leaf.not_after}
end

--- The signing request for SCM.
function steps.csr(id, input, spki)
  return renewal_scm.csr(input, renewal_key.read(key_path(id, input), spki))
end

--- The certificate from SCM; raises pending while it is not decided.
function steps.collect_scm(id, input, enrolled, spki)
  return renewal_scm.collect(input, enrolled,
    renewal_key.read(key_path(id, input), spki))
end

function steps.install(id, input, issued, spki)
  local certificate = input.certificate
  deploy.install{
    dir = certificate.install.dir, pem = issued.pem,
    key = renewal_key.read(key_path(id, input), spki), names = certificate.domains,
    owner = certificate.install.owner, mode = certificate.install.mode, keep = input.keep,
    reload = certificate.reload, reload_timeout = certificate.reload_timeout,
  }
  return true
end

--- Whether an install that was cut short switched already; then its reload is finished.
function steps.installed_already(input, issued)
  local certificate = input.certificate
  local now = deploy.current(certificate.install.dir)
  if not (now and now.matches and now.leaf.sha256 == issued.sha256) then return false end
  deploy.finish_reload{dir = certificate.install.dir, reload = certificate.reload,
    reload_timeout = certificate.reload_timeout}
  return true, true
end

--- The certificate is in service: what only its making needed goes.
function steps.clean_up(id, input)
  renewal_key.forget(key_path(id, input))
  if input.adopt then fs.remove_tree(input.adopt.dir, {missing_ok = true}) end
end

return steps
