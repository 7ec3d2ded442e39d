--- Keeps schedules: fires what is due, catches up after downtime, on one server at a time.
--
--     local keeper = scheduler.new{store = db, node = node, fire = function(entry, at) … end}
--     keeper:set(schedule_list.read(e.schedules))
--     keeper:run()                                  -- until it is cancelled
--
-- What was fired last is a row a schedule (table cron). A firing first takes the leader
-- row, for half a minute and with a fence, so that several servers on one database do not
-- fire together; then calls fire, then moves the row on. A server that dies in between
-- leaves the firing to the next one, so `fire` has to be a no-op the second time: it starts
-- a flow whose id is made of name and firing. A schedule seen for the first time, or whose
-- time was changed, begins now; nothing of the past is caught up, except that an eager one
-- fires at once. Each has a task of its own.

local args = require "args"
local errors = require "errors"
local event = require "event"
local log = require "log"
local store = require "store"
local task = require "task"
local time = require "time"

local scheduler = {}

local LEASE = 30 -- seconds of the leader row
local LOOK = 60 -- the clock may be put forward while nothing is due
local RETRY = 5 -- after the store failed, or while another server fires
local DAY = 86400

local ms = store.ms

local LEAD = [[
INSERT INTO leader (name, node, fence, expires_at) VALUES ('cron', $node, 1, $until)
ON CONFLICT (name) DO UPDATE SET node = excluded.node, expires_at = excluded.expires_at,
  fence = leader.fence + CASE WHEN leader.node = excluded.node THEN 0 ELSE 1 END
WHERE leader.node = excluded.node OR leader.expires_at < $now
RETURNING fence]]

local LED = [[
UPDATE leader SET expires_at = $until
WHERE name = 'cron' AND node = $node AND fence = $fence]]

local SEE = [[
INSERT INTO cron (name, at, zone, last_fired, updated_at)
VALUES ($name, $at, $zone, $first, $now)
ON CONFLICT (name) DO UPDATE SET at = excluded.at, zone = excluded.zone,
  last_fired = excluded.last_fired, updated_at = excluded.updated_at
WHERE cron.at <> excluded.at OR cron.zone <> excluded.zone]]

--- Whoever led on this machine is gone.
local VOID = [[
UPDATE leader SET expires_at = 0
WHERE name = 'cron' AND SUBSTR(node, 1, LENGTH($host)) = $host]]

--- A clock that was far ahead and was put right must not stop a schedule for years.
local PUT_BACK = [[
UPDATE cron SET last_fired = $now, updated_at = $now
WHERE name = $name AND last_fired > $ahead]]

local MOVE = [[
UPDATE cron SET last_fired = $fired, updated_at = $now
WHERE name = $name AND last_fired < $fired]]

---@class scheduler
---@field entries schedule_list.entry[]
local Scheduler = {}
Scheduler.__index = Scheduler

---@param options {store: any, node: string, fire: fun(entry: table, at: integer)}
---@return scheduler
function scheduler.new(options)
  return setmetatable({db = options.store, node = options.node, fire_one = options.fire,
    entries = {}, last = {}, changed = event.new()}, Scheduler)
end

--- From now on keep these; also while it runs.
---@param entries schedule_list.entry[]
function Scheduler:set(entries)
  self.entries, self.last = entries, {}
  self.changed:set()
end

--- Up to when a schedule was handled, in seconds.
function Scheduler:last_of(entry)
  local row = self.db:row("SELECT last_fired FROM cron WHERE name = $name",
    {name = entry.name})
  return row and row.last_fired // 1000
end

local function see(self, entry)
  local now = time.now()
  local results = self.db:batch{
    {SEE, {name = entry.name, at = entry.schedule.text, zone = entry.schedule.zone,
      first = entry.eager and 0 or ms(now), now = ms(now)}},
    {PUT_BACK, {name = entry.name, now = ms(now), ahead = ms(now + DAY)}},
  }
  if results[2].changes > 0 then
    log.warn("schedule %s was fired in what is the future now; it begins anew",
      entry.name)
  end
  self.last[entry.name] = self:last_of(entry)
end

--- Become, or stay, the one that fires: the fence, or nil while another one is.
function Scheduler:lead()
  local now = time.now()
  local result = self.db:exec(LEAD, {node = self.node, now = ms(now),
    ["until"] = ms(now + LEASE)})
  return result.rows[1] and result.rows[1].fence
end

--- Nobody else on this machine fires: the caller holds the worker lock, or gives it up.
function Scheduler:void_leader()
  self.db:exec(VOID, {host = self.node:match "^[^:]*:"})
end

--- The row moves on only while this server leads. Raises conflict otherwise.
function Scheduler:move(entry, fence, latest)
  local now = time.now()
  self.db:batch{
    {LED, {node = self.node, fence = fence, ["until"] = ms(now + LEASE)},
      expect = 1, code = "LEADER"},
    {MOVE, {name = entry.name, fired = ms(latest), now = ms(now)}},
  }
  self.last[entry.name] = latest
end

--- One firing; a mistake in what it starts is told and does not come again.
function Scheduler:start(entry, fire)
  local _, err = try(self.fire_one, entry, fire)
  if not err then
    log.info("schedule %s fired for %s", entry.name, time.rfc3339(fire))
  elseif err.kind == "store" or err.kind == "cancelled" then
    error(err, 0)
  else
    log.error("schedule %s could not start what it fires: %s", entry.name, err.message)
  end
end

--- Do what is due. False while another server is the one that fires.
function Scheduler:handle(entry, now)
  local since = math.min(self.last[entry.name], now) -- the clock may have been put back
  local fires, latest = entry.schedule:due(since, now)
  if not latest then return true end
  local fence = self:lead()
  if not fence then return false end
  local done = self:last_of(entry) -- another server may have been here
  if not done then error(errors.new{kind = "store", code = "CRON",
    message = ("the row of schedule %s is gone"):format(entry.name)}, 0) end
  if done >= latest then
    self.last[entry.name] = done
    return true
  end
  if #fires == 0 then
    log.warn("schedule %s: what was due until %s was missed and is left out", entry.name,
      time.rfc3339(latest))
  end
  for _, fire in ipairs(fires) do self:start(entry, fire) end
  self:move(entry, fence, latest)
  return true
end

--- Seconds until a schedule has to be looked at again.
local function pause(self, entry)
  local now = time.now()
  local wake = entry.schedule:wake(math.min(self.last[entry.name], now))
  if not wake then return LOOK end
  return math.min(LOOK, math.max(wake - now, 0.01))
end

--- One schedule, for ever. A slow one delays none of the others.
function Scheduler:keep(entry)
  while true do
    local seconds, err = try(function()
      if not self.last[entry.name] then see(self, entry) end
      return self:handle(entry, time.now()) and pause(self, entry) or RETRY
    end)
    if err and task.cancelled() then error(err, 0) end
    if err then
      log.error("schedule %s waits %ds: %s", entry.name, RETRY, err.message)
      self.last[entry.name] = nil
    end
    task.sleep(seconds or RETRY)
  end
end

--- Fire what is due until the task is cancelled.
function Scheduler:run()
  while true do
    local group <close> = task.group()
    for _, entry in ipairs(self.entries) do group:spawn(self.keep, self, entry) end
    self.changed:wait()
    group:cancel()
  end
end

local function find(self, name)
  local names = {}
  for i, entry in ipairs(self.entries) do
    if entry.name == name then return entry end
    names[i] = entry.name
  end
  local close = args.suggest(name, names)
  errors.raise("not_found", ("there is no schedule %q; %s"):format(name,
    close and "did you mean " .. close .. "?" or "there are: "
      .. table.concat(names, ", ")), {code = "SCHEDULE"})
end

--- Fire a schedule by hand, for the present second; its times stay as they are.
---@param name string
---@return any what fire returned
function Scheduler:fire(name)
  local entry = find(self, name)
  log.info("schedule %s is fired by hand", name)
  return self.fire_one(entry, math.floor(time.now()))
end

--- What is kept, for people: name, times, last and next firing (UTC seconds).
---@return table[]
function Scheduler:list()
  local list, now = {}, time.now()
  for i, entry in ipairs(self.entries) do
    local last = self.last[entry.name] or now
    list[i] = {name = entry.name, at = entry.schedule.text, zone = entry.schedule.zone,
      last = self.last[entry.name], due = entry.schedule:wake(math.min(last, now)),
      flow = entry.flow, run = entry.run}
  end
  return list
end

return scheduler
