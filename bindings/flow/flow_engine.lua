--- The engine: takes flows that are due, drives each in the VM of its org, keeps leases.
--
--     local engine = flow.engine{store = db, folders = {"/usr/share/secrun/scripts/flows"}}
--     engine:run{done = function() return finished end}
--
-- One loop claims; each claimed flow has a task here that waits for a call in its VM. Leases
-- are renewed by a task of the engine, not by the flow, so a slow step keeps its lease and
-- a process that hangs loses it. It sleeps until the next timer in the database or until
-- the store sees a commit, of this process or of another.
--
-- Whoever holds the worker lock works; leases of dead local workers are void at once then.
-- An engine without the lock stands by: it takes what the holder leaves lying for longer
-- than a lease (it hangs, or was stopped), and everything once the lock is free.

local claim = require "flow_claim"
local errors = require "errors"
local event = require "event"
local log = require "log"
local rows = require "flow_rows"
local store = require "store"
local task = require "task"
local time = require "time"
local value = require "flow_value"
local vms = require "flow_vms"

---@class flow.Engine
local Engine = {}
Engine.__index = Engine

local engine_ = {Engine = Engine}

local LOOK_AGAIN <const> = 600      -- seconds, at the latest
local BLOCKED_AGAIN <const> = 1    -- seconds between two looks at budgets without room
local LOCK_AGAIN <const> = 0.25     -- seconds between two tries for the worker lock
local QUIET <const> = 0.02          -- seconds between two looks because of commits
local BATCH <const> = 32            -- flows a claim takes at most
local STAND_BY <const> = 1000       -- ms beyond a lease
local TROUBLE_AGAIN <const> = 2    -- seconds after the store refused a claim
local PASSING <const> = {BUSY = true, FULL = true, IO = true}
local BACK_OFF <const>, BACK_OFF_MOST <const> = 500, 60000 -- ms

local made = 0 -- engines in this VM: each has an owner of its own

local function now_ms() return math.floor(time.now() * 1000) end

--- See flow.engine.
function engine_.new(options)
  local process = store.owner()
  made = made + 1
  return setmetatable({db = options.store, folders = options.folders,
    slots = options.slots, lease = math.floor(options.lease * 1000),
    owner = made == 1 and process or ("%s:%d"):format(process, made), process = process,
    exclusive = options.lock, what = options.what, on_dead = options.on_dead,
    on_end = options.on_end, event = event.new(), running = {}, count = 0, claims = 0,
    vms = vms.new(options.vm or {})}, Engine)
end

-- ---------------------------------------------------------------- one flow

--- The flow went nowhere because of us or the store: try again, later and later. What the
--- store refuses is not the flow's fault and does not count as an attempt.
function Engine:put_back(row, err)
  local now, attempts = now_ms(), row.attempts
  local wait = math.min(BACK_OFF_MOST, BACK_OFF * 2 ^ math.min(attempts, 10))
  if err.kind == "store" then
    attempts, wait = attempts - 1, TROUBLE_AGAIN * 1000
  end
  log.error("flow %s cannot run now: %s", row.id, tostring(err))
  local _, failure = try(self.db.batch, self.db, {rows.leave(row, {state = "ready",
    attempts = attempts, available_at = now + math.floor(wait),
    error = value.encode_error(err)}, now)})
  if failure and failure.code ~= "FENCE" then
    self.orphans = true
    log.error("flow %s: %s", row.id, tostring(failure))
  end
end

--- Flows that have our lease and that nobody drives, since the store failed when they were
--- to be put back: free, seen twice in a row, so that none is meant that was just claimed.
function Engine:free_orphans(ours, now)
  local seen = {}
  for id, fence in pairs(ours) do
    if not self.running[id] then
      seen[id] = true
      if self.seen_orphans and self.seen_orphans[id] then
        self.db:batch{rows.leave({id = id, fence = fence}, {state = "ready"}, now)}
      end
    end
  end
  self.seen_orphans = seen
  self.orphans = next(seen) ~= nil
end

local function job_of(self, row)
  return {id = row.id, name = row.name, code = row.code, org = row.org, ca = row.ca,
    account = row.account, priority = row.priority, input = row.input, fence = row.fence,
    attempts = row.attempts, stop = row.stop, deadline = row.deadline, lease = self.lease,
    store = self.db.url, folders = self.folders, secrets = self.vms:secrets(row.org)}
end

--- Too many claims without progress: it would go on like that.
function Engine:bury(row)
  local err = errors.new{kind = "limit", code = "FLOW_POISON",
    message = ("flow %s began %d times without getting one step further%s; mend the "
      .. "cause, then: secrun flow retry %s"):format(row.id, row.attempts - 1,
      row.error and ", last: " .. value.decode_error(row.error).message or "", row.id)}
  local now = now_ms()
  self.db:batch{rows.leave(row, {state = "dead", finished_at = now,
    error = value.encode_error(err)}, now), rows.wake_parent(row.id, now)}
  return {state = "dead", error = value.encode_error(err)}
end

--- Tell who wants to know that a flow has ended here.
function Engine:tell_end(row, answer)
  local failure = answer.error and value.decode_error(answer.error)
  local one = {id = row.id, name = row.name, org = row.org, state = answer.state,
    error = failure}
  if answer.state == "dead" then
    log.error("flow %s (%s) is dead: %s", row.id, row.name, failure.message)
  end
  local function tell(listener)
    local _, err = try(listener, one)
    if err then log.error("the end of flow %s: %s", row.id, tostring(err)) end
  end
  if self.on_end then tell(self.on_end) end
  if self.on_dead and answer.state == "dead" then tell(self.on_dead) end
end

--- Drive a claimed flow to where it ends or parks.
function Engine:drive(row)
  local mine = {fence = row.fence, task = task.self()}
  self.running[row.id] = mine
  local guard <close> = setmetatable({}, {__close = function()
    if self.running[row.id] == mine then self.running[row.id] = nil end
    self.count = self.count - 1
    self.event:set()
  end})
  local ok, answer = xpcall(function()
    if row.attempts > row.max_attempts then return self:bury(row) end
    return self.vms:call(row.org, "drive", job_of(self, row))
  end, errors.object)
  if not ok then
    task.shield(self.put_back, self, row, answer)
  elseif rows.ENDED[answer.state] then
    self:tell_end(row, answer)
  end
end

-- ---------------------------------------------------------------- claims

--- Before when a flow must have been due for this worker to take it.
function Engine:due(now)
  return (not self.exclusive or self.lock) and now or now - self.lease - STAND_BY
end

--- Claim up to n flows and begin them. How many, and whether any was due.
function Engine:claim(work, n)
  local now, db = now_ms(), self.db
  local due = self:due(now)
  if not db:row(claim.ANY, {now = now, due = due, owner = self.owner}) then
    return 0, false
  end
  self.claims = self.claims + 1
  local statements = claim.statements({owner = self.owner, now = now, due = due,
    lease = self.lease, n = math.min(n, BATCH), claim = self.claims},
    db:row(claim.BUDGETS) ~= nil)
  local taken = db:batch(statements)[1].rows
  for _, row in ipairs(taken) do
    self.count = self.count + 1
    work:spawn(self.drive, self, row)
  end
  return #taken, true
end

--- Seconds until something is due by itself. What is due and not claimed lacks room in a
--- budget, which comes with time or with the end of a flow.
function Engine:pause(blocked)
  local wait = LOOK_AGAIN
  if self.exclusive and not self.lock then wait = LOCK_AGAIN end
  if self.count >= self.slots then return wait end
  if blocked then wait = math.min(wait, BLOCKED_AGAIN) end
  local now = now_ms()
  local next_ = self.db:row(claim.NEXT, {owner = self.owner, due = self:due(now)})
  if next_ and next_.at then
    local late = now - self:due(now)
    wait = math.min(wait, math.max((next_.at + late - now) / 1000, QUIET))
  end
  return wait
end

function Engine:try_lock()
  if not self.exclusive or self.lock then return end
  local lock = self.db:worker_lock(self.what)
  if not lock then return end
  self.lock = lock
  local void = self.db:exec(claim.VOID, {now = now_ms(), process = self.process,
    host = self.process:match "^[^:]*:"})
  if #void.rows > 0 then
    log.info("%d flows of a worker that is gone go on", #void.rows)
  end
end

-- ---------------------------------------------------------------- beside the loop

--- Wake the loop when the store sees a commit, but not at every one.
function Engine:watch()
  local watcher <close> = self.db:watch()
  while true do
    if watcher:wait() then self.event:set() end
    task.sleep(QUIET)
  end
end

--- Renew the leases; a flow that is not ours any more is left at once.
function Engine:renew()
  local now = now_ms()
  local results = self.db:batch{{claim.RENEW, {["until"] = now + self.lease,
    owner = self.owner}}, {claim.NODE, {id = self.owner, now = now,
    boot = self.process:match "^[^:]*:([^:]*)", version = "1"}}}
  local ours = {}
  for _, row in ipairs(results[1].rows) do ours[row.id] = row.fence end
  for id, mine in pairs(self.running) do
    if ours[id] ~= mine.fence and mine.renewed then
      log.warn("flow %s: the lease went to another worker", id)
      self.vms:lost(id)
      mine.task:cancel()
    end
    mine.renewed = true
  end
  self:free_orphans(ours, now)
end

function Engine:keep_leases()
  while true do
    task.sleep(self.lease / 3000)
    if self.count > 0 or self.orphans then
      local _, err = try(self.renew, self)
      if err and err.kind ~= "cancelled" then
        log.error("leases cannot be renewed: %s", tostring(err))
      end
    end
  end
end

-- ---------------------------------------------------------------- running

local function nothing_left(self, options)
  if options.done and options.done() then return true end
  return self.stopping
end

--- One turn of the loop: claim, or how long to wait, or "idle" when nothing is due.
local function turn(self, work)
  self:try_lock()
  local free = self.slots - self.count
  local taken, blocked = 0, false
  if free > 0 then taken, blocked = self:claim(work, free) end
  if taken > 0 then return 0 end
  return self:pause(blocked), self.count == 0
end

--- A store that is full or busy gets better without us; what runs stays where it is.
local function is_passing(err)
  return err.kind == "store" and PASSING[err.code] and not task.cancelled()
end

function Engine:loop(work, options)
  local wait, idle, err
  while not nothing_left(self, options) do
    wait, idle = try(turn, self, work)
    if wait == nil then
      err = idle
      if not is_passing(err) then error(err, 0) end
      log.error("no flow can be claimed: %s", tostring(err))
      wait, idle = TROUBLE_AGAIN, false
    end
    if idle and options.once then return end
    if wait > 0 then self.event:wait(wait) end
  end
end

--- Let what runs come to its next call of f:, then hand it back.
function Engine:drain(work)
  if self.count == 0 then return end
  self.vms:stop()
  local _, err = try(task.timeout, self.grace or 0, work.join, work)
  if err then work:cancel() end
end

--- Claim and drive flows until `done` says so, engine:stop() is called, or, with `once`,
--- nothing is due any more.
---@param options {done: (fun(): boolean)?, once: boolean?}?
function Engine:run(options)
  options = require("args").check("engine:run", {
    {name = "done", type = "function", doc = "asked after everything that happens"},
    {name = "once", type = "boolean", doc = "return when nothing is due"}}, options)
  if self.active then
    errors.raise("conflict", "engine:run: this engine runs already", {code = "FLOW_RUNS"})
  end
  self.active, self.stopping = true, false
  local guard <close> = setmetatable({}, {__close = function()
    self.active = false
    self.vms:close()
    if self.lock then self.lock:close() end
    self.lock = nil
  end})
  local service <close> = task.group()
  service:spawn(self.watch, self)
  service:spawn(self.keep_leases, self)
  service:spawn(self.vms.reap, self.vms)
  do
    local work <close> = task.group()
    self:loop(work, options)
    self:drain(work)
  end
  service:cancel()
end

--- Have run() end: what runs goes on to its next call of f:, at most `grace` seconds, and
--- its leases are handed back.
---@param options {grace: number|string?}? 5 s by default
function Engine:stop(options)
  options = require("args").check("engine:stop", {{name = "grace", type = "duration"}},
    options)
  self.grace = options.grace and require("args").duration(options.grace) or 5
  self.stopping = true
  self.event:set()
end

return engine_
