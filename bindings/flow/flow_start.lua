--- Starting a flow: what a new one is, and when an id means the same flow again.
--
--     local new = start.prepare("renew", {name = "www"}, {id = "renew/www"}, folders)
--     db:batch(start.statements(new, now))
--
-- The same id with the same name and input is the same flow: starting it again joins it.
-- Another input is a mistake, and raises.

local args = require "args"
local code = require "flow_code"
local digest = require "digest"
local errors = require "errors"
local rows = require "flow_rows"
local value = require "flow_value"

local start = {}

local SPEC <const> = {
  {name = "id", type = "string", nonempty = true, doc = "made up by default"},
  {name = "org", type = "string", doc = "whose VM, secrets and budget it uses"},
  {name = "ca", type = "string", doc = "whose budget it uses"},
  {name = "account", type = "string", doc = "whose budget it uses"},
  {name = "priority", type = "integer", doc = "smaller goes first; 100"},
  {name = "at", type = "number", doc = "UTC seconds before which it does not begin"},
  {name = "deadline", type = "number", doc = "UTC seconds at which it is given up"},
  {name = "dedup", type = "string", nonempty = true,
    doc = "at most one unfinished flow has it; a second start joins the first"},
  {name = "actor", type = "table", doc = "who wanted it: {person, via, uid, host}"},
  {name = "parent", type = "string"},
  {name = "max_attempts", type = "integer", positive = true,
    doc = "claims without progress before it is dead; 20"},
}
local MAX_ATTEMPTS <const> = 20

--- The row that an id or a dedup key finds.
start.FIND = "SELECT id, name, input, state FROM flow WHERE id = $id"
start.FIND_DEDUP = "SELECT id, name, input, state FROM flow WHERE dedup = $dedup "
  .. "AND state NOT IN ('ok','failed','cancelled','dead')"

local function check_id(id)
  if #id > 200 or not id:find "^[%w_.:/@+-]+$" then
    errors.raise("usage", ("a flow's id has at most 200 letters, digits and _.:/@+-, got "
      .. "%q"):format(id), {code = "FLOW_ID"})
  end
  return id
end

local function ms(seconds) return seconds and math.floor(seconds * 1000) or nil end

--- The row of a new flow, without times, and the source it is pinned to. Raises usage and
--- not_found (an unknown name, with a suggestion); nothing is written.
---@param name string
---@param input any plain value
---@param options table?
---@param folders string[]
---@return {row: table, bundle: table}
function start.prepare(name, input, options, folders)
  options = args.check("flow.start", SPEC, options)
  local bundle = code.read(name, folders)
  local text = value.encode(input, ("flow %q: its input"):format(name)) or "null"
  local id = options.id and check_id(options.id)
    or ("%s-%s"):format(name, digest.hex(digest.random(8)))
  return {bundle = bundle, row = {id = id, name = name, code = bundle.hash,
    org = options.org or "", ca = options.ca or "", account = options.account or "",
    priority = options.priority or 100, input = text,
    actor = value.encode(options.actor or {}, "flow.start: actor"), at = ms(options.at),
    dedup = options.dedup, parent = options.parent, deadline = ms(options.deadline),
    max_attempts = options.max_attempts or MAX_ATTEMPTS}}
end

--- The statements that write it; the second returns its id if it is new.
function start.statements(new, now)
  local row = {}
  for column, item in pairs(new.row) do row[column] = item end
  row.now, row.at = now, row.at or now
  return {rows.code(new.bundle, now), rows.flow(row)}
end

--- What was there instead must be the same flow. Raises conflict (FLOW_INPUT).
function start.check(new, found)
  local row = new.row
  if found.name == row.name and found.input == row.input then return found end
  local what = found.name ~= row.name and ("as flow %q"):format(found.name)
    or "with another input"
  errors.raise("conflict", ("there is a flow %s already, %s: an id is used again only "
    .. "for the same work (give another id, or look at it: secrun flow show %s)"):format(
      found.id, what, found.id), {code = "FLOW_INPUT", id = found.id})
end

--- Start it, or join the one that is there.
---@return {id: string, created: boolean, state: string}
function start.run(db, new, now)
  local results = db:batch(start.statements(new, now))
  if results[2].rows[1] then return {id = new.row.id, created = true, state = "ready"} end
  local found = db:row(start.FIND, {id = new.row.id})
  if not found and new.row.dedup then
    found = db:row(start.FIND_DEDUP, {dedup = new.row.dedup})
  end
  if not found then return start.run(db, new, now) end -- it has ended in between
  start.check(new, found)
  return {id = found.id, created = false, state = found.state}
end

return start
