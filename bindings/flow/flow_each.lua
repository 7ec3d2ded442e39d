--- f:each – branches of a flow that go on side by side.
--
-- Item i of the call at sequence number 7 has its own numbers, "7.i.1", "7.i.2" …, so the
-- order in which branches happen to run does not matter. At most `limit` are unfinished at
-- a time, those that are parked counted. A branch that has ended is recorded as a whole and
-- not run again. One that parks while others still run is looked at again when its time has
-- come, and every second if it waits for a message or a child; the flow parks once every
-- branch that has begun is parked.

local args = require "args"
local context = require "flow_context"
local errors = require "errors"
local event = require "event"
local rows = require "flow_rows"
local sandbox = require "flow_sandbox"
local task = require "task"
local value = require "flow_value"

local each = {}

local SPEC <const> = {
  {name = "limit", type = "integer", positive = true, doc = "branches at a time; 16"},
  {name = "errors", type = "boolean", doc = "return them instead of raising"},
}
local DEFAULT_LIMIT <const> = 16
local LOOK_AGAIN <const> = 1 -- seconds, for a message or a child

local function write_later(run, row)
  row.ended_at = context.now()
  run.pending[#run.pending + 1] = rows.step(row)
end

--- Run one branch: "ok" and its result, "err" and its error, or "parked" and its waits.
local function branch(run, seq, item, i, fn)
  local row = run:history(seq, "branch", "branch", nil)
  if row and row.status == "ok" then return "ok", value.decode(row.result) end
  if row then return "err", value.decode_error(row.error) end
  local ctx = run:context(seq .. ".")
  local ok, result = context.within(ctx, sandbox.xpcall, fn, errors.object, item, i)
  if run.outcome or ctx.outcome then return "parked", ctx.waits or {} end
  if not ok and task.cancelled() then error(result, 0) end
  row = run:step_row(seq, "branch", "branch", nil)
  if ok then
    row.result = value.encode(result, ("f:each: the result of item %d"):format(i))
    write_later(run, row)
    return "ok", value.decode(row.result)
  end
  row.status, row.error = "err", value.encode_error(result)
  write_later(run, row)
  return "err", value.decode_error(row.error)
end

--- A branch is parked: wait until it may go on, as long as others run. Whether it may.
local function rest(run, team, waits)
  local pause = math.huge
  for _, one in ipairs(waits) do
    if one.at then pause = math.min(pause, math.max(one.at - context.now(), 1) / 1000) end
    if one.topic or one.child then pause = math.min(pause, LOOK_AGAIN) end
  end
  team.active = team.active - 1
  if team.active == 0 then team.over:set() end
  if team.active == 0 or run.outcome or run.dry then return false end
  local over = team.over:wait(pause < math.huge and pause or nil)
  if over or team.active == 0 or run.outcome then
    team.over:set() -- for the next
    return false
  end
  team.active = team.active + 1
  return true
end

--- The one error, or one about all of them; it names the steps that a retry repeats.
local function summary(failed, count, seq)
  local list, steps = {}, {}
  for i = 1, count do
    local err = failed[i]
    if err then
      err.step = err.step or ("%s.%d"):format(seq, i)
      list[#list + 1], steps[#steps + 1] = err, err.step
    end
  end
  local first = list[1]
  if #list == 1 then return first end
  return errors.new{kind = first.kind, code = first.code, cause = first, steps = steps,
    message = ("%d of %d branches failed, the first: %s"):format(#list, count,
      first.message)}
end

--- Call fn(item, i) for every item, each in a branch of its own.
---@param list any[]
---@param options {limit: integer?, errors: boolean?}?
---@return table results by position
---@return table? errors by position, with `errors = true`; else the first is raised, after
---  every branch has ended
function each.run(run, ctx, list, options, fn)
  if type(options) == "function" then options, fn = nil, options end
  options = args.check("f:each", SPEC, options)
  if type(list) ~= "table" or type(fn) ~= "function" then
    errors.raise("usage", "f:each(list, {limit =}, fn): a list and a function are needed",
      {code = "BAD_ARGUMENT"})
  end
  local seq, count = context.next(ctx), #list
  local text = value.encode({count = count}, "f:each")
  if not run:history(seq, "each", "each", text) then
    run:boundary()
    write_later(run, run:step_row(seq, "each", "each", text))
  end
  local results, failed, waits, next_item = {}, {}, {}, 1
  local workers = math.min(options.limit or DEFAULT_LIMIT, count)
  local team = {active = workers, over = event.new()}
  local function worker()
    while next_item <= count and not run.outcome do
      local i = next_item
      next_item = i + 1
      local state, result
      repeat
        state, result = branch(run, ("%s.%d"):format(seq, i), list[i], i, fn)
      until state ~= "parked" or not rest(run, team, result)
      if state == "parked" then
        table.move(result, 1, #result, #waits + 1, waits)
        return
      end
      if state == "ok" then results[i] = result else failed[i] = result end
    end
    team.active = team.active - 1
    if team.active == 0 then team.over:set() end
  end
  do
    local group <close> = task.group()
    for _ = 1, workers do group:spawn(worker) end
  end
  if run.outcome then error(sandbox.LEAVE, 0) end
  if #waits > 0 then
    ctx.outcome, ctx.waits = "parked", waits
    error(sandbox.LEAVE, 0)
  end
  if options.errors then return results, failed end
  if next(failed) ~= nil then error(summary(failed, count, seq), 0) end
  return results
end

return each
