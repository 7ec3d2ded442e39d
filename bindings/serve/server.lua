--- `secrun serve`: flows, schedules, alerts and the control socket in one process.
--
--     server.run{config = path}        -- until it is told to stop; exit status
--
-- The process that holds the worker lock of the database works; another one is refused, or
-- stands by and takes over at once when the lock is free. SIGTERM and SIGINT hand what runs
-- back to the database and end within the grace; SIGHUP reads the estate file again, and a
-- file with mistakes changes nothing. systemd is told about each of these.

local control = require "control"
local errors = require "errors"
local estate = require "estate"
local event = require "event"
local fs = require "fs"
local flow = require "flow"
local log = require "log"
local notify = require "notify"
local process = require "process"
local renewal = require "renewal"
local schedule_list = require "schedule_list"
local scheduler = require "scheduler"
local server_alerts = require "server_alerts"
local server_calls = require "server_calls"
local server_jobs = require "server_jobs"
local signals = require "signals"
local store = require "store"
local task = require "task"
local time = require "time"
local worker = require "store_worker"

local server = {}

---@class server
---@field config string path of the estate file
---@field e table the estate in use
local Server = {}
Server.__index = Server

local WHAT = "secrun serve"
local STANDBY_LOOK = 0.1 -- seconds between two looks whether it is our turn
local PATIENCE = 20 -- such looks for the control socket to be free

--- Tell the service manager; one that cannot be told is no reason to stop.
local function tell(text)
  local _, err = try(notify.send, text)
  if err then log.warn("%s", err.message) end
end

------------------------------------------------------------------ the estate

--- Keep the schedules of an estate; what they lack is told.
function Server:keep_schedules(e)
  local entries = schedule_list.read(e.schedules)
  for _, text in ipairs(schedule_list.missing(entries, renewal.folders(e))) do
    log.warn("%s", text)
  end
  self.keeper:set(entries)
end

--- Read the estate file again. Raises usage with every mistake; then nothing has changed.
function Server:reload()
  tell(("RELOADING=1\nMONOTONIC_USEC=%d"):format(time.mono() * 1000000 // 1))
  local e, err = try(estate.load, self.config)
  if e and (e.state ~= self.e.state or e.store ~= self.e.store) then
    err = errors.new{kind = "usage", code = "RESTART", message = self.config
      .. ": state and store are taken over by a restart only"}
  end
  if err then
    tell "READY=1"
    log.error("%s; the settings read before stay in use", err.message)
    for _, detail in ipairs(err.details or {}) do log.error("%s", detail) end
    error(err, 0)
  end
  self.e, self.loaded = e, time.now()
  renewal.set_budgets(self.db, e)
  self:keep_schedules(e)
  self.reloaded:set()
  tell "READY=1"
  log.info("%s was read again", self.config)
end

------------------------------------------------------------------ what schedules start

--- Start what a schedule fires, once per firing; while the one before goes on, that one is
--- joined.
function Server:fire(entry, fire)
  if entry.builtin then return server_jobs[entry.builtin](self.db, self.e) end
  local options = {id = ("cron/%s/%s"):format(entry.name, time.rfc3339(fire)),
    dedup = "cron/" .. entry.name, org = entry.org,
    actor = {via = "schedule", schedule = entry.name}}
  if entry.flow then return self.engine:start(entry.flow, entry.input, options) end
  return self.engine:start("script", {program = require("load").paths().program,
    words = entry.run, config = self.config, pass = self:variables(entry.org)}, options)
end

--- The variables that hold secrets of an organization: a script that is started gets them,
--- though children inherit none.
function Server:variables(org)
  local names = {}
  for _, source in ipairs(estate.secret_sources(self.e, org)) do
    names[#names + 1] = type(source) == "string" and source:match("^env:(.+)") or nil
  end
  return names
end

------------------------------------------------------------------ life

--- Who holds the worker lock, in words.
local function holder_text(holder)
  return ("%s (pid %s on %s, since %s)"):format(holder.what or "another worker",
    holder.pid or "unknown", holder.host or "this machine",
    holder.since and time.rfc3339(holder.since) or "an unknown time")
end

--- See who works on the database. Another server is in the way, unless this one stands by
--- for it; a command that works on its own flows is waited for. Raises conflict (SERVE).
function Server:look_around(standby)
  self.engine:try_lock()
  local holder = not self.engine.lock and worker.holder(self.db)
  if not holder then return end
  if holder.what == WHAT and not standby then
    errors.raise("conflict", ("%s works on %s already; stop it first, or start this one "
      .. "with --standby"):format(holder_text(holder), self.db.url), {code = "SERVE"})
  end
  log.info("standing by for %s", holder_text(holder))
  tell("READY=1\nSTATUS=standing by for " .. holder_text(holder))
end

--- A sign of life while the loop turns and the database answers.
function Server:watchdog()
  local every = notify.watchdog()
  while every do
    task.timeout(every, function() self.db:row "SELECT 1 AS one" end)
    tell "WATCHDOG=1"
    task.sleep(every / 3)
  end
end

--- Alerts go by the routes of the estate that is in use.
function Server:tell_alerts()
  while true do
    local group <close> = task.group()
    group:spawn(server_alerts.run, self.db, self.e)
    self.reloaded:wait()
    group:cancel()
  end
end

function Server:say_ready()
  local names = {}
  for i, one in ipairs(self.keeper:list()) do names[i] = one.name end
  local text = ("pid %d, %s, schedules: %s"):format(process.pid, self.db.url,
    #names > 0 and table.concat(names, " ") or "none")
  print("ready: " .. text)
  tell("READY=1\nSTATUS=" .. text .. "\nMAINPID=" .. process.pid)
end

--- The control socket. That of a process which is just being ended may still be there.
function Server:open_doors()
  for try_again = PATIENCE, 0, -1 do
    local doors, err = try(control.listen, {path = server.control_path(self.e),
      handlers = server_calls.handlers(self)})
    if doors then return doors end
    if err.kind ~= "conflict" or try_again == 0 then error(err, 0) end
    task.sleep(STANDBY_LOOK)
  end
end

--- What runs beside the engine once this process is the worker.
function Server:work(group, doors)
  self.keeper:void_leader()
  group:spawn(doors.run, doors)
  group:spawn(self.keeper.run, self.keeper)
  group:spawn(self.tell_alerts, self)
  group:spawn(self.watchdog, self)
  self:say_ready()
end

--- Drive flows until the end. Without the worker lock that is only what its holder leaves
--- lying for longer than a lease, because it hangs; the engine takes the lock when it can.
function Server:drive()
  if not self.stopping then self.engine:run() end
end

--- End in order: nothing new begins, and what runs is handed back within the grace.
function Server:stop()
  if self.stopping then return end
  self.stopping = true
  tell "STOPPING=1\nSTATUS=handing back what runs"
  log.info("stopping; what runs is handed back within %s", time.show(self.grace))
  self.keeper:set{}
  self.engine:stop{grace = self.grace}
end

--- What signals ask for, until the end.
function Server:obey(caught)
  while true do
    if caught:next() == "SIGHUP" then
      try(self.reload, self) -- what is wrong was logged
    else
      self:stop()
    end
  end
end

--- Where the control socket of an estate is.
---@param e table
---@return string
function server.control_path(e) return e.state .. "/control" end

local function open(options)
  local e = estate.load(options.config)
  local config = options.config -- a link stays one: it may be switched before a reload
  if config:sub(1, 1) ~= "/" then config = fs.realpath(".") .. "/" .. config end
  local db = store.open(e.store)
  local self = setmetatable({config = config, e = e, db = db,
    grace = options.grace, since = time.now(), loaded = time.now(),
    reloaded = event.new()}, Server)
  self.engine = flow.engine{store = db, folders = renewal.folders(e),
    lease = options.lease, slots = options.jobs, what = WHAT,
    on_end = function(one) server_alerts.ended(db, one) end,
    vm = {secrets = function(org) return estate.secret_sources(self.e, org) end}}
  self.keeper = scheduler.new{store = db, node = self.engine.owner,
    fire = function(entry, fire) return self:fire(entry, fire) end}
  renewal.set_budgets(db, e)
  self:keep_schedules(e)
  return self
end

--- Give the database back.
function Server:__close() self.db:close() end

--- Work until told to stop.
---@param options {config: string, standby: boolean?, grace: number, lease: number?,
---  jobs: integer?}
---@return integer status
--- Raises usage (the estate file), conflict (code SERVE: another one works), store.
function server.run(options)
  local caught <close> = signals.catch{"SIGTERM", "SIGINT", "SIGHUP"}
  local self <close> = open(options)
  self:look_around(options.standby)
  local group <close> = task.group()
  group:spawn(self.obey, self, caught)
  local engine = group:spawn(self.drive, self)
  while not self.engine.lock and not self.stopping do task.sleep(STANDBY_LOOK) end
  local doors <close> = not self.stopping and self:open_doors() or nil
  if doors then self:work(group, doors) end
  engine:join()
  group:cancel()
  log.info("stopped")
  return 0
end

return server
