--- Give a flow that has begun newer source, if its history agrees with it.
--
--     flow.migrate(db, id, {folders = {"/usr/share/secrun/scripts/flows"}, check = true})
--
-- The history is replayed against the new body without writing or running anything: every
-- recorded call must be made again, with the same name and arguments, before the first new
-- one. Otherwise the difference is raised and the flow keeps its source.

local args = require "args"
local code = require "flow_code"
local errors = require "errors"
local shipped = require "shipped"
local time = require "time"
local vm = require "vm"

local migrate = {}

local SPEC <const> = {
  {name = "to", type = "string", nonempty = true, doc = "hash of a kept source"},
  {name = "folders", type = "list", doc = "where the newer source is; the shipped ones"},
  {name = "check", type = "boolean", doc = "only say whether it would do"},
}

local function kept(db, prefix)
  local found = db:rows("SELECT hash, bundle FROM code WHERE "
    .. "SUBSTR(hash, 1, LENGTH($prefix)) = $prefix LIMIT 2", {prefix = prefix})
  if #found == 1 then return {hash = found[1].hash, text = found[1].bundle} end
  local how_many = #found == 0 and "no" or "more than one"
  errors.raise("not_found", ("flow.migrate: %s kept source has a hash that begins with "
    .. "%s"):format(how_many, prefix), {code = "FLOW_CODE"})
end

local function target(db, row, options)
  if options.to then return kept(db, options.to) end
  return code.read(row.name, options.folders or {shipped.folder "scripts" .. "/flows"})
end

--- See flow.migrate. Raises conflict: FLOW_STATE (it runs, or has ended), FLOW_HISTORY
--- (with the difference).
---@param row table of the table flow
---@return {id: string, from: string, to: string, changed: boolean}
function migrate.run(db, row, options)
  options = args.check("flow.migrate", SPEC, options)
  if row.state == "running" or row.state == "ok" or row.state == "cancelled" then
    errors.raise("conflict", ("flow %s is %s; only one that waits, failed or is dead can "
      .. "get another source"):format(row.id, row.state), {code = "FLOW_STATE"})
  end
  local new = target(db, row, options)
  local result = {id = row.id, from = row.code, to = new.hash, changed = false}
  local other <close> = vm.new()
  other:call("flow_run", "check", {id = row.id, name = row.name, org = row.org, fence = 0,
    lease = 0, attempts = 1, input = row.input, store = db.url, code = new.hash,
    bundle = new.text})
  if options.check or new.hash == row.code then return result end
  local now = math.floor(time.now() * 1000)
  db:batch{{"INSERT INTO code(hash, bundle, added_at) VALUES($hash, $bundle, $now) ON "
    .. "CONFLICT(hash) DO NOTHING", {hash = new.hash, bundle = new.text, now = now}},
    {"UPDATE flow SET code = $new, updated_at = $now WHERE id = $id AND code = $old AND "
      .. "state = $state", {id = row.id, new = new.hash, old = row.code, now = now,
      state = row.state}, expect = 1, code = "FLOW_STATE"}}
  result.changed = true
  return result
end

return migrate
