--- f:step – one thing that is done once, however often the flow is run.
--
-- A step without outside effect is one write: its result, after the function returned. One
-- with `reconcile` or `on_unknown` is two: the intent first, then the effect, then the
-- result. A run that finds an intent without a result asks reconcile what became of it:
--
--     intent ──► effect ──► ok | err
--        │  crash
--        └─► reconcile(key, args, intent) ─ true, result ─► ok
--                                         ─ false ────────► intent, effect again
--                                         ─ nil ──────────► on_unknown: retry | fail | ask
--
-- An error of kind "pending" parks the flow until retry_after and runs the step again; one
-- that is retryable does the same with growing pauses, `retry.max` times in all; any other
-- is recorded and raised into the flow, also when the flow is replayed.

local args = require "args"
local context = require "flow_context"
local errors = require "errors"
local rows = require "flow_rows"
local sandbox = require "flow_sandbox"
local task = require "task"
local value = require "flow_value"

local step = {}

local SPEC <const> = {
  {name = "retry", type = "table", doc = "{max, delay, factor, cap}"},
  {name = "reconcile", type = "function", doc = "(key, args, intent): did it happen?"},
  {name = "on_unknown", type = "enum", choices = "retry|ask|fail"},
  {name = "args", type = "any", doc = "plain values: part of the check on replay"},
}
local RETRY_SPEC <const> = {
  {name = "max", type = "integer", positive = true, doc = "attempts in all"},
  {name = "delay", type = "duration", doc = "before the second"},
  {name = "factor", type = "number", positive = true, doc = "each pause to the next"},
  {name = "cap", type = "duration", doc = "the longest pause"},
}
local NO_OPTIONS <const> = {}
local DEFAULT_RETRY <const> = {max = 5, delay = 1, factor = 2, cap = 300}
local PENDING_AFTER <const> = 30 -- seconds, when the error does not say
local JITTER <const> = 0.25

local function retry_of(options)
  if not options.retry then return DEFAULT_RETRY end
  local given = args.check("f:step retry", RETRY_SPEC, options.retry)
  return {max = given.max or DEFAULT_RETRY.max,
    delay = given.delay and args.duration(given.delay) or DEFAULT_RETRY.delay,
    factor = given.factor or DEFAULT_RETRY.factor,
    cap = given.cap and args.duration(given.cap) or DEFAULT_RETRY.cap}
end

--- The pause before attempt n + 1, in ms, with jitter.
local function pause(retry, n)
  local seconds = math.min(retry.cap, retry.delay * retry.factor ^ (n - 1))
  return math.floor(seconds * (1 + JITTER * (2 * math.random() - 1)) * 1000)
end

-- ---------------------------------------------------------------- outcomes

local function record(run, row, set, progress)
  row.fence, row.ended_at = run.fence, nil
  for column, item in pairs(set) do row[column] = item end
  if set.status == "ok" or set.status == "err" then
    row["until"], row.ended_at = nil, context.now()
  end
  if set.status == "ok" then row.error = nil end
  run:commit({rows.step(row)}, progress)
end

local function succeed(run, row, result)
  local text, err = sandbox.try(value.encode, result, "step %q: its result", row.name)
  if err then
    record(run, row, {status = "err", error = value.encode_error(err)}, true)
    error(err, 0)
  end
  record(run, row, {status = "ok", result = text}, true)
  return value.decode(text)
end

local function raise_recorded(row)
  local err = value.decode_error(row.error)
  err.step = row.seq
  error(err, 0)
end

local function fail(run, row, err)
  record(run, row, {status = "err", error = value.encode_error(err)}, true)
  raise_recorded(row)
end

--- Note when the step is run again, and leave until then.
local function later(run, ctx, row, status, at, err)
  row.status, row["until"], row.error = status, at, value.encode_error(err)
  row.fence = run.fence
  run.pending[#run.pending + 1] = rows.step(row)
  run:park(ctx, {at = at})
end

-- ---------------------------------------------------------------- the effect

--- Ask what became of an intent: true and the result, false, or nil.
local function reconcile(run, ctx, call, row)
  if not call.options.reconcile then return nil end
  ctx.busy = call.name
  local answer = table.pack(sandbox.pcall(call.options.reconcile, row.idem_key,
    call.options.args, {attempts = row.attempts, started_at = row.started_at / 1000}))
  ctx.busy = nil
  if not answer[1] and task.cancelled() then run:leave "stopped" end
  if run.outcome then error(sandbox.LEAVE, 0) end
  if answer[1] then return answer[2], answer[3] end
  return nil, nil, errors.object(answer[2])
end

local function unknown(call, row)
  return errors.new{kind = "conflict", code = "FLOW_UNKNOWN_OUTCOME",
    message = ("step %q began and it cannot be told whether it happened (key %s)"):format(
      call.name, row.idem_key)}
end

--- What an operator answered: the message {happened = boolean, result =} to the topic.
local function asked(run, ctx, call, row)
  local topic = "ask:" .. row.seq
  local found = run.db:row(rows.NEXT_MESSAGE, {id = run.id, topic = topic})
  if not found then
    row.error, row.fence = value.encode_error(unknown(call, row)), run.fence
    run.pending[#run.pending + 1] = rows.step(row)
    run:park(ctx, {topic = topic})
  end
  run.pending[#run.pending + 1] = rows.consume(run.id, found.n, row.seq)
  local answer = value.decode(found.payload)
  if type(answer) == "table" and answer.happened then return true, answer.result end
  return false
end

local execute

--- An intent is there and no result.
local function resolve(run, ctx, call, row)
  local happened, result, err = reconcile(run, ctx, call, row)
  if happened == nil then
    if err and (err.retryable or err.kind == "pending") then
      later(run, ctx, row, "intent", context.now() + math.floor(1000
        * (err.retry_after or pause(call.retry, math.min(row.attempts, 8)) / 1000)), err)
    end
    local way = call.options.on_unknown or "ask"
    if way == "fail" then fail(run, row, err or unknown(call, row)) end
    if way == "ask" then happened, result = asked(run, ctx, call, row) end
  end
  if happened then return succeed(run, row, result) end
  row.attempts = row.attempts + 1
  return execute(run, ctx, call, row)
end

--- The function raised.
local function failed(run, ctx, call, row, err)
  if err.kind == "pending" then
    later(run, ctx, row, "wait", context.now()
      + math.floor(1000 * (err.retry_after or PENDING_AFTER)), err)
  end
  if err.retryable and row.attempts < call.retry.max then
    local wait = pause(call.retry, row.attempts)
    if err.retry_after then wait = math.max(wait, math.floor(err.retry_after * 1000)) end
    later(run, ctx, row, call.two_phase and "intent" or "retry", context.now() + wait,
      err)
  end
  if err.retryable and call.two_phase then
    local happened, result = reconcile(run, ctx, call, row)
    if happened then return succeed(run, row, result) end
  end
  return fail(run, row, err)
end

function execute(run, ctx, call, row)
  if call.two_phase then
    record(run, row, {status = "intent"})
  end
  run:flush()
  run:verify()
  ctx.busy = call.name
  local ok, result = sandbox.xpcall(call.fn, errors.object, row.idem_key)
  ctx.busy = nil
  if not ok and task.cancelled() then run:leave "stopped" end
  if run.outcome then error(sandbox.LEAVE, 0) end -- its lease is lost
  if ok then return succeed(run, row, result) end
  return failed(run, ctx, call, row, result)
end

-- ---------------------------------------------------------------- the face

local function check(name, fn, options)
  if type(name) ~= "string" or name == "" then
    errors.raise("usage", "f:step(name, fn, options?): the name is a text", {code =
      "BAD_ARGUMENT"})
  end
  if type(fn) ~= "function" then
    errors.raise("usage", ("f:step %q: a function is missing"):format(name), {code =
      "BAD_ARGUMENT"})
  end
  return options == nil and NO_OPTIONS or args.check("f:step", SPEC, options)
end

--- Do it at the sequence number, or give what was recorded there.
---@param kind string "step" or "cleanup"
function step.at(run, ctx, seq, kind, name, fn, options)
  options = check(name, fn, options)
  local text = value.encode(options.args, "step %q: args", name)
  local row = run:history(seq, kind, name, text)
  if row and row.status == "ok" then return value.decode(row.result) end
  if row and row.status == "err" then raise_recorded(row) end
  if kind ~= "cleanup" then run:boundary() end
  local call = {name = name, fn = fn, options = options, retry = retry_of(options),
    two_phase = options.reconcile ~= nil or options.on_unknown ~= nil}
  if row and row["until"] and row["until"] > context.now() then
    run:park(ctx, {at = row["until"]})
  end
  if row then
    row.flow = run.id
    if row.status == "intent" then return resolve(run, ctx, call, row) end
    if row.status == "retry" then row.attempts = row.attempts + 1 end
    return execute(run, ctx, call, row)
  end
  return execute(run, ctx, call, run:step_row(seq, kind, name, text))
end

return step
