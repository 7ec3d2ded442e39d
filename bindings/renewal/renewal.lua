--- Renewals as durable flows: what is due, what is under way, what to start.
--
--     local found = renewal.look(e, certificate)
--     if found.why then
--       local id = renewal.start(db, e, certificate, {actor = actor}).id
--     end
--
-- One certificate has one renewal under way at a time: a second start joins it. A renewal
-- that failed after its certificate was issued is taken up again rather than ordered anew.
-- The flow's body is scripts/flows/renew.lua.

local args = require "args"
local deploy = require "deploy"
local estate = require "estate"
local flow = require "flow"
local fs = require "fs"
local json = require "json"
local log = require "log"
local order_file = require "order_file"
local shipped = require "shipped"
local time = require "time"

local renewal = {FLOW = "renew"}

--- Steps after which the CA has issued: what failed later is no reason to order again.
local ISSUED = "collect"
local MARGIN = 86400         -- seconds such a certificate must still be good for
local PATIENCE = 6 * 86400   -- seconds after which a renewal that failed is begun anew

--- Where flow bodies are: beside the estate file, then the shipped ones.
---@return string[]
function renewal.folders(e)
  return {e.folder .. "/flows", shipped.folder("scripts") .. "/flows"}
end

--- Make the budgets of the store those of the estate: how many flows of a CA, an
--- organization or an account run at once, and how many begin in a period.
---@param db store.Db
---@param e table estate
function renewal.set_budgets(db, e)
  for scope, limits in pairs(e.budgets or {}) do flow.budget(db, scope, limits) end
  for _, row in ipairs(db:rows "SELECT scope FROM budget") do
    if not (e.budgets or {})[row.scope] then flow.budget(db, row.scope, nil) end
  end
end

--- Whether a certificate has to be renewed now.
---@param certificate table of the estate
---@return {why: string?, due_at: number?, installed: table?}
function renewal.look(certificate)
  local installed = deploy.current(certificate.install.dir)
  local why, due_at = estate.why_due(certificate, installed)
  return {why = why, due_at = due_at, installed = installed}
end

--- The key that keeps a second renewal of the same certificate out.
local function dedup_of(certificate) return renewal.FLOW .. "/" .. certificate.name end

--- The last renewal of a certificate that was begun, or nil.
---@return table? flow without its steps
function renewal.last(db, certificate)
  return flow.list(db, {prefix = dedup_of(certificate) .. "/", limit = 1})[1]
end

local UNDER_WAY = {ready = true, running = true, waiting = true}

--- The renewal of a certificate that is under way, or nil.
---@return table? flow without its steps
function renewal.under_way(db, certificate)
  local last = renewal.last(db, certificate)
  return last and UNDER_WAY[last.state] and last or nil
end

local function sorted_names(certificate)
  local names = table.move(certificate.domains, 1, #certificate.domains, 1, {})
  table.sort(names)
  return table.concat(names, " ")
end

--- What a version without a store left: key, order URL and CSR in a folder of the state.
local function left_behind(e, certificate)
  local dir = e.state .. "/orders/" .. certificate.name
  if not fs.exists(dir .. "/order.json") then return nil end
  local file <close> = order_file.open(dir)
  local record, key = file:load(), file:stored_key(certificate.key_type)
  if not record or not key or key.spki_sha256 ~= record.spki_sha256 then return nil end
  if table.concat(record.names, " ") ~= sorted_names(certificate) then return nil end
  log.info("%s: taking over the order %s from %s", certificate.name, record.order, dir)
  return {dir = dir, key = dir .. "/key.pem", order = record.order,
    account = record.account, csr = record.csr, spki_sha256 = record.spki_sha256}
end

--- Everything the flow needs, as plain values; secrets stay references.
local function input_of(e, certificate)
  local channel = estate.channel(e, certificate)
  local by_acme = channel == "acme" or nil
  return {
    channel = channel, certificate = certificate,
    acme = by_acme and estate.of(e, certificate, "acme"),
    challenge = by_acme and estate.of(e, certificate, "challenge"),
    scm = channel == "scm" and estate.of(e, certificate, "scm") or nil,
    policies = estate.of(e, certificate, "policies"), folder = e.folder,
    state = e.state, keep = e.keep,
    request = estate.request(e, certificate),
  }
end

local function same_work(a, b)
  for name, value in pairs(b) do
    if json.encode(a[name]) ~= json.encode(value) then return false end
  end
  return true
end

local function has_issued(db, id)
  for _, step in ipairs(flow.get(db, id).steps) do
    if step.name == ISSUED and step.status == "ok" then
      return step.result.not_after > time.now() + MARGIN
    end
  end
end

--- Whether a renewal that failed goes on instead of a new one: nothing about it has
--- changed, and its certificate is there or what stopped it may be over.
local function goes_on(db, last, input)
  if not last or last.state ~= "failed" or not same_work(last.input, input) then
    return false
  end
  if has_issued(db, last.id) then return true end
  return last.error.retryable and time.now() - last.created < PATIENCE
end

local START = {
  {name = "forced", type = "boolean", doc = "renew although it is not due"},
  {name = "retry", type = "table", doc = "how steps are repeated; see f:step"},
  {name = "actor", type = "table", doc = "who asked: {person =, via =, uid =, host =}"},
}

--- Start the renewal of a certificate, or join the one under way.
---@param engine flow.Engine
---@param e table estate
---@param certificate table of the estate
---@param options {forced: boolean?, retry: table?, actor: table?}?
---@return {id: string, created: boolean}
function renewal.start(engine, e, certificate, options)
  options = args.check("renewal.start", START, options)
  local db, last = engine.db, renewal.last(engine.db, certificate)
  if last and UNDER_WAY[last.state] then return {id = last.id, created = false} end
  local input = input_of(e, certificate)
  if goes_on(db, last, input) then
    return {id = flow.retry(db, last.id).id, created = false}
  end
  input.forced, input.retry = options.forced, options.retry
  input.adopt = input.acme and left_behind(e, certificate) or nil
  local started, err = try(engine.start, engine, renewal.FLOW, input, {
    id = ("%s/%d"):format(dedup_of(certificate), math.floor(time.now() * 1000)),
    dedup = dedup_of(certificate), org = certificate.org,
    ca = input.acme and input.acme.directory or "scm",
    actor = options.actor})
  if started then return started end
  if err.code == "FLOW_INPUT" and err.id then return {id = err.id, created = false} end
  error(err, 0)
end

return renewal
