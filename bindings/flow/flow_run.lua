--- Runs a claimed flow in the VM of its org, from its first line to where it ends or parks.
--
-- The host (flow_engine) calls drive() with what it claimed; everything the flow writes
-- goes from here to the store, under its fence. The answer tells the host what became of
-- it; a run that was fenced out has written nothing since.

local context = require "flow_context"
local each = require "flow_each"
local errors = require "errors"
local rows = require "flow_rows"
local sandbox = require "flow_sandbox"
local step = require "flow_step"
local task = require "task"
local value = require "flow_value"
local wait = require "flow_wait"

sandbox.install()

local run_ = {}

local runs = {} -- under way, by flow id
local bundles = setmetatable({}, {__mode = "v"})
local databases = {}

local function database(url)
  databases[url] = databases[url] or require("store").open(url)
  return databases[url]
end

-- ---------------------------------------------------------------- f

local F = {}

local function method(name, fn)
  F[name] = function(f, ...)
    if type(f) ~= "table" or not f.run_ then
      errors.raise("usage", ("f.%s: methods are called with ':', f:%s(…)"):format(name,
        name), {code = "BAD_ARGUMENT"})
    end
    local run = f.run_
    return fn(run, context.current(run, "f:" .. name), ...)
  end
end

method("step", function(run, ctx, ...)
  return step.at(run, ctx, context.next(ctx), "step", ...)
end)
method("sleep", wait.sleep)
method("wait", wait.wait)
method("signal", wait.signal)
method("child", wait.child)
method("now", wait.now)
method("random", wait.random)
method("each", each.run)

--- Have fn(key) run, as a step, if the flow is cancelled; the latest first.
method("cleanup", function(run, _, name, fn, options)
  if type(name) ~= "string" or type(fn) ~= "function" then
    errors.raise("usage", "f:cleanup(name, fn): a name and a function are needed",
      {code = "BAD_ARGUMENT"})
  end
  run.cleanups[#run.cleanups + 1] = {name = name, fn = fn, options = options}
end)

--- A line in the log, the first time the flow comes here.
method("log", function(run, _, ...)
  if run:is_live() then run.log:info(...) end
end)

local f_meta = {__index = function(_, name)
  if F[name] then return F[name] end
  local names = {"id", "org", "attempt"}
  for each_name in pairs(F) do names[#names + 1] = each_name end
  table.sort(names)
  local close = require("args").suggest(tostring(name), names)
  errors.raise("usage", ("f has no %s%s"):format(tostring(name),
    close and "; did you mean " .. close .. "?" or ""), {code = "FLOW_METHOD"})
end, __name = "flow"}

-- ---------------------------------------------------------------- ends

local function final(run, state, set)
  local now = context.now()
  set.state, set.finished_at, set.wait_topic = state, now, nil
  local batch = {rows.leave(run, set, now)}
  table.move(run.pending, 1, #run.pending, 2, batch)
  batch[#batch + 1] = rows.wake_parent(run.id, now)
  run.pending = {}
  run.db:batch(batch)
  return {state = state, error = set.error}
end

local function park(run, waits)
  local what = {at = not run.cleaning and run.job.deadline or rows.NEVER, topics = {},
    children = {}, stoppable = not run.cleaning}
  for _, one in ipairs(waits) do
    if one.at and one.at < what.at then what.at = one.at end
    what.topics[#what.topics + 1] = one.topic
    what.children[#what.children + 1] = one.child
  end
  local now = context.now()
  local batch = {rows.park(run, what, now)}
  table.move(run.pending, 1, #run.pending, 2, batch)
  run.pending = {}
  local results = run.db:batch(batch)
  return {state = "waiting", at = results[1].rows[1].available_at}
end

--- Give the flow back for another worker, or for this one later.
local function hand_back(run, outcome)
  run.db:batch{rows.leave(run, {state = "ready"}, context.now())}
  return {state = outcome}
end

local function end_of_stop(run)
  if run.stop.kind == "deadline" then
    return final(run, "failed", {error = value.encode_error(errors.new{kind = "timeout",
      code = "FLOW_DEADLINE",
      message = ("flow %s: its deadline passed"):format(run.id)})})
  end
  return final(run, "cancelled", {error = value.encode_error(errors.new{
    kind = "cancelled", code = "FLOW_CANCELLED",
    message = run.stop.reason and "cancelled: " .. run.stop.reason or "cancelled"})})
end

--- The clean-ups that were registered, latest first, each a step of its own.
local function clean_up(run)
  run.outcome, run.cleaning = nil, true
  for i = #run.cleanups, 1, -1 do
    local one = run.cleanups[i]
    local ctx = run:context "c"
    local ok, err = context.within(ctx, sandbox.pcall, step.at, run, ctx, "c" .. i,
      "cleanup", one.name, one.fn, one.options)
    if run.outcome or ctx.outcome then return false, ctx.waits end
    if not ok then
      run.log:error("clean-up %q failed: %s", one.name, tostring(errors.object(err)))
    end
  end
  return true
end

local function settle(run, ctx, ok, result)
  local waits = ctx.waits
  if not ok and not waits and run.stop then -- it failed, then or before: clean up as well
    run.outcome = run.outcome or "cancel"
  end
  if run.outcome == "cancel" then
    local clean, clean_waits = clean_up(run)
    if clean then return end_of_stop(run) end
    waits = clean_waits
  end
  if run.outcome == "stopped" then return hand_back(run, "stopped") end
  if run.outcome == "lost" then return {state = "lost"} end
  if run.outcome == "broken" then error(run.failure, 0) end
  if run.outcome == "dead" then
    return final(run, "dead", {error = value.encode_error(run.failure)})
  end
  if waits then return park(run, waits) end
  if not ok then
    return final(run, "failed", {error = value.encode_error(result)})
  end
  return final(run, "ok", {output = result})
end

--- The body, and the check of its history: its result as text.
local function body(run, bundle, f, input)
  sandbox.allow_secrets(run.job.org, run.job.secrets)
  local fn = sandbox.body(bundle)
  local output = fn(f, input)
  run:check_complete()
  return value.encode(output, ("flow %s: its output"):format(run.id))
end

local function bundle_of(run, job)
  if job.bundle then return value.decode(job.bundle) end
  local bundle = bundles[job.code]
  if bundle then return bundle end
  local row = run.db:row("SELECT bundle FROM code WHERE hash = $hash", {hash = job.code})
  if not row or value.hash(row.bundle) ~= job.code then
    run:leave("dead", errors.new{kind = "store", code = "FLOW_CODE",
      message = ("flow %s: its source %s is %s"):format(run.id, job.code:sub(1, 12),
        row and "not what its name says" or "missing")})
  end
  bundle = value.decode(row.bundle)
  bundles[job.code] = bundle
  return bundle
end

local function guarded(run, ctx, job, f)
  local bundle = bundle_of(run, job)
  return context.within(ctx, function()
    local ok, result = sandbox.xpcall(body, errors.object, run, bundle, f,
      value.decode(job.input))
    if task.cancelled() then run.outcome = run.outcome or "stopped" end
    if ctx.outcome or run.outcome then return false end
    if not ok then sandbox.pcall(run.check_complete, run) end
    return ok, result
  end)
end

local function flow_object(run, job)
  return setmetatable({run_ = run, id = job.id, org = job.org, attempt = job.attempts},
    f_meta)
end

--- Replay a history against source it was not made with. Raises the difference.
---@param job table with `bundle`
function run_.check(job)
  local run = context.new(database(job.store), job)
  run.dry = true
  local done, err = sandbox.pcall(guarded, run, run:context "", job,
    flow_object(run, job))
  if not done and not run.outcome then error(err, 0) end
  if not run.outcome then sandbox.pcall(run.check_complete, run) end
  if run.failure then error(run.failure, 0) end
end

--- Drive a claimed flow.
---@param job table
---@return {state: string, at: integer?, error: string?} "lost" when the lease is gone
function run_.drive(job)
  local run = context.new(database(job.store), job)
  runs[job.id] = run
  local guard <close> = setmetatable({}, {__close = function() runs[job.id] = nil end})
  local ctx = run:context ""
  local done, ok, result = sandbox.pcall(guarded, run, ctx, job, flow_object(run, job))
  if task.cancelled() then run.outcome = run.outcome or "stopped" end
  if not done and not run.outcome then error(ok, 0) end
  return task.shield(settle, run, ctx, done and ok, result)
end

--- The engine ends: leave at the next call of f:.
function run_.stop()
  for _, run in pairs(runs) do run.stopping = true end
end

--- The lease of a flow is gone: write nothing more.
function run_.lost(id)
  local run = runs[id]
  if run and not run.outcome then run.outcome = "lost" end
end

return run_
