--- One run of a flow in its VM: its history, its place in it, and how it writes.
--
-- A run replays: every call of f: takes the next sequence number ("7", in a branch of
-- f:each "7.3.1") and finds its row, or is the first to get there. A context is one line of
-- such calls: the body has one, each branch of f:each its own; it is known by the task that
-- runs it. `outcome` of the run is why it is left: "lost" (the lease went to somebody
-- else), "stopped", "cancel", "dead", "broken"; `outcome` of a context is "parked".
--
-- What costs no commit of its own (f:now, a sleep that is over) waits in `pending` for the
-- next write, and goes first before anything happens outside.

local errors = require "errors"
local log = require "log"
local rows = require "flow_rows"
local sandbox = require "flow_sandbox"
local task = require "task"
local time = require "time"
local value = require "flow_value"

local context = {}

local LEAVE <const> = sandbox.LEAVE
local ARGS_SHOWN <const> = 4096 -- bytes of arguments that a step keeps to be shown

local HISTORY <const> = [[
SELECT seq, name, kind, args, args_sha, status, idem_key, result, error, attempts, until,
  started_at FROM step WHERE flow = $id]]

---@class flow.Run
local Run = {}
Run.__index = Run

local contexts = setmetatable({}, {__mode = "k"})

--- ms since 1970.
local function now_ms() return math.floor(time.now() * 1000) end
context.now = now_ms

--- Begin a run of a claimed flow.
---@param db table the store
---@param job table id, name, org, fence, lease (ms), attempts, input, stop, deadline
function context.new(db, job)
  local run = setmetatable({db = db, id = job.id, fence = job.fence, lease = job.lease,
    job = job, rows = {}, known = 0, seen = 0, visited = {}, pending = {},
    cleanups = {}, stop = job.stop and value.decode(job.stop), held = now_ms(),
    log = log.with{flow = job.id, org = job.org ~= "" and job.org or nil}}, Run)
  for _, row in ipairs(db:rows(HISTORY, {id = job.id})) do
    run.rows[row.seq] = row
    run.known = run.known + 1
  end
  return run
end

--- Open a context for the running task; close it when its line of calls ends.
---@param prefix string "" or "7.3."
function Run:context(prefix)
  return {run = self, prefix = prefix, n = 0}
end

--- Run fn with the context as that of the running task, then put back what was there.
function context.within(ctx, fn, ...)
  local me = task.self()
  local before = contexts[me]
  contexts[me] = ctx
  local guard <close> = setmetatable({}, {__close = function() contexts[me] = before end})
  return fn(...)
end

--- The context of the running task. Raises usage outside of the flow and inside a step.
function context.current(run, what)
  local ctx = contexts[task.self()]
  if not ctx or ctx.run ~= run then
    errors.raise("usage", ("%s: called outside of the flow's own task; branches of a "
      .. "flow are made by f:each"):format(what), {code = "FLOW_OUTSIDE"})
  end
  if ctx.busy then
    errors.raise("usage", ("%s: called inside the function of step %q; a step does one "
      .. "thing, call it beside the step"):format(what, ctx.busy), {code = "FLOW_NESTED"})
  end
  if run.outcome or ctx.outcome then error(LEAVE, 0) end
  return ctx
end

--- The next sequence number of a context.
function context.next(ctx)
  ctx.n = ctx.n + 1
  return ctx.prefix .. ctx.n
end

-- ---------------------------------------------------------------- leaving

--- Leave the whole run.
function Run:leave(outcome, err)
  if not self.outcome then self.outcome, self.failure = outcome, err end
  error(LEAVE, 0)
end

--- Park one line of calls until an instant, a topic or a child.
---@param wait {at: integer?, topic: string?, child: string?}
function Run:park(ctx, wait)
  ctx.outcome = "parked"
  ctx.waits = {wait}
  error(LEAVE, 0)
end

--- What stops a flow at the end of its history: somebody cancelled it, its time is over,
--- or the engine ends.
function Run:boundary()
  if self.outcome then error(LEAVE, 0) end
  if self.dry then
    contexts[task.self()].outcome = "parked"
    error(LEAVE, 0)
  end
  if self.stop then self:leave "cancel" end
  local deadline = self.job.deadline
  if deadline and now_ms() >= deadline then
    self.stop = {kind = "deadline", at = now_ms()}
    self.pending[#self.pending + 1] = {"UPDATE flow SET stop = $stop WHERE id = $id",
      {id = self.id, stop = value.encode(self.stop, "stop")}}
    self:leave "cancel"
  end
  if self.stopping then self:leave "stopped" end
end

-- ---------------------------------------------------------------- writing

--- The batch was rolled back, or nobody knows: leave. What it was based on may have been
--- changed by another branch; then nothing is lost.
local function refused(run, err, pending)
  if err.kind == "conflict" and err.code == "RACE" then
    run.pending = table.move(run.pending, 1, #run.pending, #pending + 1, pending)
    return false
  end
  if err.kind == "conflict" and err.code == "FENCE" then run:leave("lost", err) end
  run:leave(err.kind == "cancelled" and "stopped" or "broken", err)
end

--- Write statements, after those pending, under the lease. Durable when it returns.
---@param statements table[]
---@param progress boolean? a step came further
---@return boolean written false when a statement with code RACE did not hold
function Run:commit(statements, progress)
  local first = progress and not self.progressed
  local batch, pending = {rows.hold(self, now_ms(), first)}, self.pending
  table.move(pending, 1, #pending, 2, batch)
  table.move(statements, 1, #statements, #batch + 1, batch)
  self.pending = {}
  local results, err = sandbox.try(self.db.batch, self.db, batch)
  if not results then return refused(self, err, pending) end
  self.held = now_ms()
  self.progressed = self.progressed or first
  local held = results[1].rows[1]
  if held and held.stop and not self.stop then self.stop = value.decode(held.stop) end
  return true
end

--- Write what is pending, before something happens outside.
function Run:flush()
  if #self.pending > 0 then self:commit({}, true) end
end

--- Before an effect: make sure that the lease has not run out unnoticed.
function Run:verify()
  if now_ms() - self.held < self.lease // 2 then return end
  local row = self.db:row("SELECT fence, state FROM flow WHERE id = $id", {id = self.id})
  if not row or row.fence ~= self.fence or row.state ~= "running" then
    self:leave "lost"
  end
  self.held = now_ms()
end

--- A row of the table step, from now on part of the history.
function Run:step_row(seq, kind, name, args)
  local row = {flow = self.id, seq = seq, name = name, kind = kind,
    args = args and #args <= ARGS_SHOWN and args or nil, args_sha = value.hash(args),
    status = "ok", idem_key = self.id .. "/" .. seq, attempts = 1, fence = self.fence,
    started_at = now_ms()}
  self.rows[seq], self.visited[seq] = row, true
  return row
end

-- ---------------------------------------------------------------- history

local function call_text(kind, name, args)
  return ("%s %q%s"):format(kind, name, args and " with " .. args or "")
end

local function difference(row, kind, name, args)
  if row.kind ~= kind or row.name ~= name then return "another call" end
  local old, new = value.decode(row.args), value.decode(args)
  if type(old) ~= "table" or type(new) ~= "table" then return "other arguments" end
  local keys = {}
  for key in pairs(old) do keys[key] = true end
  for key in pairs(new) do keys[key] = true end
  local differing = {}
  for key in pairs(keys) do
    if value.encode(old[key], "") ~= value.encode(new[key], "") then
      differing[#differing + 1] = tostring(key)
    end
  end
  table.sort(differing)
  return "other arguments: " .. table.concat(differing, ", ")
end

--- Stop a flow whose body does not do what its history says.
function Run:mismatch(message)
  self:leave("dead", errors.new{kind = "conflict", code = "FLOW_HISTORY",
    message = message})
end

local function place()
  for level = 3, 12 do
    local info = debug.getinfo(level, "Sl")
    if not info then break end
    if info.source:find "^@flows/" then
      return (" (%s:%d)"):format(info.source:sub(2), info.currentline)
    end
  end
  return ""
end

--- The row of this call, or nil for the first to get here. A row of another call stops
--- the flow.
---@param args string? canonical JSON
function Run:history(seq, kind, name, args)
  local row = self.rows[seq]
  if not row then return nil end
  if not self.visited[seq] then
    self.visited[seq] = true
    self.seen = self.seen + 1
  end
  if row.kind ~= kind or row.name ~= name or row.args_sha ~= value.hash(args) then
    self:mismatch(("flow %s, step %s: the history has %s, the body now calls %s%s: %s; a "
      .. "flow must do the same in every run (mend it, then: secrun flow migrate)")
      :format(self.id, seq, call_text(row.kind, row.name, row.args),
        call_text(kind, name, args), place(), difference(row, kind, name, args)))
  end
  return row
end

--- Whether everything known has been replayed.
function Run:is_live() return self.seen >= self.known end

--- Whether the row lies in a branch that is recorded as a whole.
local function in_done_branch(run, seq)
  local at = seq:match "^(.*)%.%d+$"
  while at do
    local row = run.rows[at]
    if row and row.kind == "branch" then return true end
    at = at:match "^(.*)%.%d+$"
  end
  return false
end

--- At the end of the body: the history must have nothing more, clean-ups aside.
function Run:check_complete()
  local left
  for seq in pairs(self.rows) do
    if not self.visited[seq] and not seq:find "^c" and not in_done_branch(self, seq)
      and (not left or #seq < #left or #seq == #left and seq < left) then
      left = seq
    end
  end
  if not left then return end
  local row = self.rows[left]
  self:mismatch(("flow %s, step %s: the history has %s, which the body no longer "
    .. "reaches; a flow must do the same in every run"):format(self.id, left,
      call_text(row.kind, row.name, row.args)))
end

return context
