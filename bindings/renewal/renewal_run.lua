--- Renewing several certificates: begin, drive or watch, and say what came of each.
--
--     local rows, status = renewal_run.go(e, chosen, {wait = "10m", jobs = 8})
--     print(renewal_run.table(rows))

local args = require "args"
local errors = require "errors"
local estate = require "estate"
local flow = require "flow"
local fs = require "fs"
local log = require "log"
local policy = require "policy"
local process = require "process"
local progress = require "progress"
local renewal = require "renewal"
local report = require "renewal_report"
local store = require "store"
local task = require "task"
local textable = require "textable"

local renewal_run = {}

-- Who waits is told at once what failed, and runs it again. What is left to a worker
-- (--wait 0, as the schedule of `serve` has it) is repeated for a day.
local WAITING = {max = 1}
local LEFT = {max = 9, delay = "1m", factor = 3, cap = "6h"}

local function ask_policy(e, certificate)
  local rules = estate.of(e, certificate, "policies")
  local decision = policy.ask(rules, estate.request(e, certificate), {folder = e.folder})
  policy.enforce(decision, certificate.name)
end

--- What would be done about a certificate.
local function preview(e, opts, certificate)
  local found = renewal.look(certificate)
  local why = found.why or opts.force and "forced"
  if not why then return {row = report.fine(found)} end
  ask_policy(e, certificate)
  return {row = report.would_renew(found, why)}
end

--- Start or join the renewal of a certificate: its flow's id, or the row of one that is fine.
local function begin(e, engine, opts, certificate)
  local found = renewal.look(certificate)
  local under_way = renewal.under_way(engine.db, certificate)
  local why = found.why or opts.force and "forced"
    or under_way and "an earlier run stopped in the middle"
    or found.installed.reload_pending and "an earlier run stopped before the reload"
  if not why then return {row = report.fine(found)} end
  log.info("%s: %s, %s", certificate.name, under_way and "going on" or "renewing", why)
  local actor = {person = process.env("SUDO_USER") or process.env("USER"), via = "cli",
    uid = process.uid}
  return {id = renewal.start(engine, e, certificate, {forced = opts.force,
    retry = opts.wait == 0 and LEFT or WAITING, actor = actor}).id}
end

--- The folders of the state. Root uses none in which somebody else could swap a key.
local function prepare(e)
  for _, name in ipairs{"", "/accounts", "/keys"} do
    fs.mkdir(e.state .. name, {parents = true, mode = "0700"})
  end
  fs.check_owner(e.state)
  return store.open(e.store)
end

--- Drive the flows here, or watch another worker do it; how each stands in the end.
local function drive(engine, opts, ids)
  local wait = opts.wait or "10m"
  if wait == 0 then return engine:wait(ids, {timeout = 0}) end
  local shown <close> = progress.start{label = "renewing", total = #ids}
  local group <close> = task.group()
  group:spawn(engine.run, engine)
  local states = engine:wait(ids, {timeout = wait, parked = wait,
    on_end = function() shown:step() end})
  engine:stop()
  return states
end

--- Begin with every certificate and see what becomes of those that are renewed.
local function renew(e, db, opts, chosen)
  renewal.set_budgets(db, e)
  local engine = flow.engine{store = db, folders = renewal.folders(e),
    slots = opts.jobs or 8, lease = opts.lease,
    vm = {secrets = function(org) return estate.secret_sources(e, org) end}}
  local begun, failures = task.each(chosen, {limit = 8}, function(certificate)
    return begin(e, engine, opts, certificate)
  end)
  local ids = {}
  for i in ipairs(chosen) do
    if begun[i] and begun[i].id then ids[#ids + 1] = begun[i].id end
  end
  local states = #ids > 0 and drive(engine, opts, ids) or {}
  return begun, failures, states
end

--- The row of each certificate, and the worst status: a failure before what is denied or
--- pending.
local function rows_of(chosen, begun, failures, states)
  local rows, worst = {}, 0
  for i, certificate in ipairs(chosen) do
    local row, status = begun[i] and begun[i].row, 0
    if failures[i] then row, status = report.of_error(errors.object(failures[i])) end
    if not row then row, status = report.of_flow(states[begun[i].id]) end
    rows[i] = {certificate.name, table.unpack(row)}
    if status ~= 0 and (worst == 0 or status == 1) then worst = status end
  end
  return rows, worst
end

--- The rows for a terminal; "" when there are none.
---@param rows string[][]
---@return string
function renewal_run.table(rows)
  if #rows == 0 then return "" end
  return textable.format({"certificate", "result", "expires", "why"}, rows)
end

local GO = {
  {name = "force", type = "boolean", doc = "renew although it is not due"},
  {name = "dry_run", type = "boolean", doc = "only look, and ask the policies"},
  {name = "jobs", type = "integer", positive = true, doc = "at once (8)"},
  {name = "wait", type = "duration", doc = "for what is under way (10m); 0 leaves it"},
  {name = "lease", type = "duration", doc = "until another takes over what hangs (30s)"},
}

--- Renew what is due of these certificates. Returns a row each ({name, result, expires,
--- why}) and the worst exit status: 0, 1 failed, 3 denied, 4 pending. No row when the state
--- cannot be kept, which is logged.
---@param e table estate
---@param chosen table[] certificates of it
---@param options {force: boolean?, dry_run: boolean?, jobs: integer?, wait: number|string?,
---  lease: number|string?}?
---@return string[][] rows
---@return integer status
function renewal_run.go(e, chosen, options)
  options = args.check("renewal_run.go", GO, options)
  if options.dry_run then
    return rows_of(chosen, task.each(chosen, {limit = 8}, function(certificate)
      return preview(e, options, certificate)
    end))
  end
  local db, wrong = try(prepare, e)
  if not db then
    log.error("the state of %s cannot be kept: %s", e.path, wrong.message)
    return {}, 1
  end
  local closer <close> = db
  return rows_of(chosen, renew(e, db, options, chosen))
end

return renewal_run
