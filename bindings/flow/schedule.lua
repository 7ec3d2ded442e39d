--- When something is to be done: cron expressions in a time zone, or "every 6h".
--
--     local schedule = require "schedule"
--     local nightly = schedule.parse("0 3 * * *", {zone = "Europe/Berlin", jitter = "30m"})
--     local fire = nightly:next(time.now())           -- UTC seconds
--     for _, missed in ipairs(nightly:due(last_fired, time.now())) do … end
--
-- A firing is the time the expression names; it is due `jitter` later at most, by a delay
-- that depends on nothing but the schedule's name and the firing, so that every server
-- agrees on it. A local time that does not exist fires at the gap's end; one that exists
-- twice fires once; an hour of "*" follows elapsed time (bindings/flow/cron_msg.h).

local args = require "args"
local core = require "schedule.core"
local errors = require "errors"
local fs = require "fs"

local schedule = {}

local ZONES, LOCAL = "/usr/share/zoneinfo/", "/etc/localtime"
--- A firing that is found so much later still counts as on time.
local ON_TIME = 60

local OPTIONS = {
  {name = "zone", type = "string", nonempty = true,
    doc = '"Europe/Berlin", "local" or "UTC" (UTC)'},
  {name = "name", type = "string", doc = "what jitter depends on (the text)"},
  {name = "jitter", type = "duration", doc = "due so much later at most (0)"},
  {name = "catch_up", type = "enum", choices = "none|once|all",
    doc = "what was missed: nothing, the latest, or each (once)"},
  {name = "catch_up_max", type = "integer", positive = true,
    doc = "with all: so many of the latest (24)"},
}

---@class schedule
---@field text string
---@field zone string
---@field name string
---@field jitter number seconds
---@field catch_up "none"|"once"|"all"
local Schedule = {}
Schedule.__index = Schedule
Schedule.__name = "schedule"

function Schedule:__tostring()
  if self.zone == "UTC" then return self.text end
  return self.text .. " (" .. self.zone .. ")"
end

------------------------------------------------------------------ zones

local function refuse(format, ...)
  errors.raise("usage", format:format(...), {code = "SCHEDULE"})
end

--- A name that is not there: the closest one of its region, or the region's.
local function unknown_zone(name)
  if not fs.exists(ZONES .. "UTC") then
    refuse("time zone %s: there are none in %s; install tzdata, or use UTC", name, ZONES)
  end
  local region = name:match("^(.*/)[^/]*$") or ""
  local names = fs.exists(ZONES .. region) and fs.list(ZONES .. region)
  if not names then
    region, names = "", fs.list(ZONES)
    name = name:match("^[^/]*")
  end
  local close = args.suggest(name:match("[^/]*$"), names)
  refuse("there is no time zone %s%s", name,
    close and "; did you mean " .. region .. close .. "?" or " in " .. ZONES)
end

local function read_zone(name)
  local path = name == "local" and LOCAL or ZONES .. name
  local stat = fs.stat(path)
  if not stat and name == "local" then return nil end -- as the C library has it
  if not stat or stat.type ~= "file" then unknown_zone(name) end
  return core.zone(fs.read(path, {max = 1 << 20}), name)
end

local zones = setmetatable({}, {__mode = "v"})

local function zone_of(name)
  if name == "UTC" then return nil end
  core.check_zone(name)
  local zone = zones[name]
  if not zone then
    zone = read_zone(name)
    zones[name] = zone
  end
  return zone
end

------------------------------------------------------------------ making

--- Jitter has to end before the next firing; the first few tell how close they are.
local function check_jitter(self)
  if self.jitter == 0 then return end
  local fire = self.cron:next(0)
  for _ = 1, 16 do
    local following = fire and self.cron:next(fire)
    if not following then return end
    if self.jitter >= following - fire then
      refuse("%q: a jitter of %ds does not end before the next firing, %ds later",
        self.text, self.jitter // 1, following - fire)
    end
    fire = following
  end
end

--- Read a schedule: five cron fields, "@daily" and its like, or "every 6h".
---@param text string
---@param options {zone: string?, name: string?, jitter: number|string?,
---  catch_up: string?, catch_up_max: integer?}?
---@return schedule
--- Raises usage (code SCHEDULE) naming the field and the mend, also for a schedule that
--- never fires and for a zone that there is not.
function schedule.parse(text, options)
  options = args.check("schedule.parse", OPTIONS, options)
  if type(text) ~= "string" then
    errors.raise("usage", 'schedule.parse: a schedule is text such as "0 3 * * *", got '
      .. type(text), {code = "SCHEDULE"})
  end
  local zone = options.zone or "UTC"
  local self = setmetatable({
    text = text, zone = zone, name = options.name or text,
    jitter = args.duration(options.jitter or 0),
    catch_up = options.catch_up or "once", catch_up_max = options.catch_up_max or 24,
    tz = zone_of(zone),
  }, Schedule)
  self.cron = core.cron(text, self.tz)
  check_jitter(self)
  return self
end

------------------------------------------------------------------ asking

--- The first firing after an instant; nil when there is none before the year 10000.
---@param after number UTC seconds
---@return integer?
function Schedule:next(after) return self.cron:next(after) end

--- When a firing is due: at most `jitter` later.
---@param fire integer
---@return number
function Schedule:due_at(fire)
  if self.jitter == 0 then return fire end
  return fire + core.jitter(self.name, fire) * self.jitter
end

--- When to look again, if everything up to `since` was handled.
---@param since number
---@return number?
function Schedule:wake(since)
  local fire = self.cron:next(since)
  return fire and self:due_at(fire)
end

--- What has to be done now: the firings after `since` that are due, earliest first, as the
--- catch-up rule has it; and the latest that is due, which is the next call's `since`.
---@param since number
---@param now number
---@return integer[] fires
---@return integer? latest nil when nothing became due
function Schedule:due(since, now)
  local fires, latest = {}, nil
  local fire = self.cron:last(since, now)
  while fire do
    local due = self:due_at(fire)
    if due <= now then
      latest = latest or fire
      if self.catch_up ~= "none" or now - due <= ON_TIME then
        table.insert(fires, 1, fire)
      end
      if self.catch_up ~= "all" or #fires >= self.catch_up_max then break end
    end
    fire = self.cron:last(since, fire - 1)
  end
  return fires, latest
end

--- An instant as the schedule's zone shows it: "2026-03-29 03:00:00 CEST".
---@param instant number
---@return string
function Schedule:show(instant)
  local offset, name = core.offset(self.tz, instant)
  return os.date("!%Y-%m-%d %H:%M:%S ", instant // 1 + offset) .. name
end

return schedule
