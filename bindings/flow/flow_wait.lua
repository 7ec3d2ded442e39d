--- What a flow waits for and what it is told: f:sleep, f:wait, f:signal, f:child, f:now,
--- f:random.
--
-- A wait is a row with its deadline, written when the flow parks; a restart does not move
-- it. Nothing is held meanwhile: the flow is a row until its time comes, a message does, or
-- its child ends.

local args = require "args"
local context = require "flow_context"
local errors = require "errors"
local rows = require "flow_rows"
local start = require "flow_start"
local value = require "flow_value"

local wait = {}

--- Note the wait as a row, once, and leave.
local function park(run, ctx, row, known, what)
  if not known then run.pending[#run.pending + 1] = rows.step(row) end
  what.at = row["until"]
  run:park(ctx, what)
end

--- Record the end of a wait with the next write.
local function over(run, row, result)
  row.flow, row.fence, row.status, row.result = run.id, run.fence, "ok", result
  row.ended_at = context.now()
  run.pending[#run.pending + 1] = rows.step(row)
end

local function until_ms(duration)
  local seconds = args.duration(duration)
  if seconds ~= seconds or seconds > 1e11 then
    errors.raise("usage", ("a flow cannot wait for %s seconds"):format(seconds),
      {code = "BAD_ARGUMENT"})
  end
  return context.now() + math.floor(seconds * 1000)
end

--- Wait for a time; the flow is parked meanwhile.
---@param duration number|string
function wait.sleep(run, ctx, duration)
  local seq = context.next(ctx)
  local text = value.encode({duration = duration}, "f:sleep")
  local row = run:history(seq, "sleep", "sleep", text)
  if row and row.status == "ok" then return end
  run:boundary()
  local known = row
  if not row then
    row = run:step_row(seq, "sleep", "sleep", text)
    row.status, row["until"] = "wait", until_ms(duration)
  end
  if row["until"] > context.now() then park(run, ctx, row, known, {}) end
  over(run, row)
end

-- ---------------------------------------------------------------- messages

--- Take the oldest message of the topic as the result of the step, in one transaction.
local function take(run, row, topic)
  while true do
    local found = run.db:row(rows.NEXT_MESSAGE, {id = run.id, topic = topic})
    if not found then return false end
    local taken = {}
    for column, item in pairs(row) do taken[column] = item end
    taken.flow, taken.fence, taken.status = run.id, run.fence, "ok"
    taken.result, taken.ended_at = found.payload, context.now()
    if run:commit({rows.consume(run.id, found.n, row.seq), rows.step(taken)}, true) then
      row.status, row.result = "ok", found.payload
      return true
    end
  end
end

--- What f:wait gives for a row that has ended.
local function received(row)
  if row.error then return nil, "timeout" end
  return value.decode(row.result)
end

local WAIT <const> = {{name = "timeout", type = "duration", doc = "none by default"}}

--- Wait for a message to this flow.
---@param topic string
---@param options {timeout: number|string?}?
---@return any payload or nil
---@return string? "timeout"
function wait.wait(run, ctx, topic, options)
  options = args.check("f:wait", WAIT, options)
  if type(topic) ~= "string" or not topic:find "^[%w_.:/@-]+$" then
    errors.raise("usage", ("f:wait: a topic has letters, digits and _.:/@- only, got %s")
      :format(tostring(topic)), {code = "BAD_ARGUMENT"})
  end
  local seq = context.next(ctx)
  local text = value.encode({timeout = options.timeout, topic = topic}, "f:wait")
  local row = run:history(seq, "wait", topic, text)
  if row and row.status == "ok" then return received(row) end
  run:boundary()
  local known = row
  if not row then
    row = run:step_row(seq, "wait", topic, text)
    row.status = "wait"
    row["until"] = options.timeout and until_ms(options.timeout) or nil
  end
  if take(run, row, topic) then return received(row) end
  if row["until"] and row["until"] <= context.now() then
    row.error = '"timeout"'
    over(run, row)
    run:flush() -- decided before anything follows from it
    return nil, "timeout"
  end
  park(run, ctx, row, known, {topic = topic})
end

--- Send a message to another flow, once.
---@param id string
---@param topic string
---@param payload any
function wait.signal(run, ctx, id, topic, payload)
  if type(id) ~= "string" or type(topic) ~= "string" then
    errors.raise("usage", "f:signal(id, topic, payload): id and topic are texts",
      {code = "BAD_ARGUMENT"})
  end
  local seq = context.next(ctx)
  local body = value.encode(payload, ("f:signal %q: the payload"):format(topic)) or "null"
  local text = value.encode({flow = id, payload = value.hash(body), topic = topic}, "")
  local row = run:history(seq, "signal", topic, text)
  if row and row.status == "err" then error(value.decode_error(row.error), 0) end
  if row then return end
  run:boundary()
  local step = run:step_row(seq, "signal", topic, text)
  step.ended_at = step.started_at
  if not run.db:row("SELECT id FROM flow WHERE id = $id", {id = id}) then
    step.status = "err"
    step.error = value.encode_error(errors.new{kind = "not_found", code = "FLOW_ID",
      message = ("f:signal: there is no flow %s"):format(id)})
    run:commit({rows.step(step)}, true)
    error(value.decode_error(step.error), 0)
  end
  local now = context.now()
  run:commit({rows.message{flow = id, topic = topic, idem_key = step.idem_key,
    payload = body, now = now, actor = value.encode({flow = run.id}, "")},
    rows.wake(id, now), rows.step(step)}, true)
end

-- ---------------------------------------------------------------- children

local CHILD <const> = {{name = "id", type = "string", nonempty = true}}

local function child_outcome(run, row, child)
  if child.state == "ok" then
    row.result = child.output
    return over(run, row, child.output)
  end
  local cause = child.error and value.decode_error(child.error)
  local err = errors.new{kind = cause and cause.kind or "cancelled", code = "FLOW_CHILD",
    message = ("the child flow %s (%s) ended as %s"):format(child.id, child.name,
      child.state), cause = cause}
  row.error = value.encode_error(err)
  over(run, row)
  row.status = "err"
end

local function begin_child(run, seq, name, input, id, text)
  local job = run.job
  local new = start.prepare(name, input, {id = id, org = job.org, ca = job.ca,
    account = job.account, priority = job.priority, parent = run.id,
    actor = {flow = run.id}}, job.folders)
  local row = run:step_row(seq, "child", name, text)
  row.status = "wait"
  local now = context.now()
  local sent = start.statements(new, now)
  sent[#sent + 1] = rows.step(row)
  run:commit(sent, true)
  start.check(new, run.db:row(start.FIND, {id = id}))
  return row
end

--- Start another flow and wait for its end.
---@param name string
---@param input any
---@param options {id: string?}?
---@return any its output; raises its error
function wait.child(run, ctx, name, input, options)
  options = args.check("f:child", CHILD, options)
  local seq = context.next(ctx)
  local id = options.id or run.id .. "/" .. seq
  local text = value.encode({id = id, input = value.hash(value.encode(input,
    ("f:child %q: the input"):format(tostring(name))))}, "")
  local row = run:history(seq, "child", name, text)
  if not row or row.status == "wait" then
    run:boundary()
    row = row or begin_child(run, seq, name, input, id, text)
    local child = run.db:row("SELECT id, name, state, output, error FROM flow "
      .. "WHERE id = $id", {id = id})
    if not rows.ENDED[child.state] then run:park(ctx, {child = id}) end
    child_outcome(run, row, child)
  end
  if row.status == "err" then error(value.decode_error(row.error), 0) end
  return value.decode(row.result)
end

-- ---------------------------------------------------------------- time and chance

--- The value that the first run had.
local function recorded(run, ctx, kind, text, make)
  local seq = context.next(ctx)
  local row = run:history(seq, kind, kind, text)
  if row then return value.decode(row.result) end
  run:boundary()
  row = run:step_row(seq, kind, kind, text)
  row.result = value.encode(make(), kind)
  row.ended_at = row.started_at
  run.pending[#run.pending + 1] = rows.step(row)
  return value.decode(row.result)
end

--- UTC seconds, as of the first time the flow came here.
function wait.now(run, ctx)
  return recorded(run, ctx, "now", nil, function() return context.now() / 1000 end)
end

--- As math.random, with the same result in every run.
function wait.random(run, ctx, m, n)
  return recorded(run, ctx, "random", value.encode({m = m, n = n}, "f:random"), function()
    if m == nil then return math.random() end
    if n == nil then return math.random(m) end
    return math.random(m, n)
  end)
end

return wait
