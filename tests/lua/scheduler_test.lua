-- Keeping schedules over days of virtual time: once each, on one server, after downtime.
local errors = require "errors"
local schedule = require "schedule"
local scheduler = require "scheduler"
local store = require "store"
local task = require "task"
local time = require "time"

local VIRTUAL = {clock = "virtual", timeout = "30s"}
local DAY, START = 86400, time.parse "2026-06-01T00:00:00Z"

local function lab(t)
  time.virtual(START)
  local db = store.open(t:tmpdir() .. "/secrun.db")
  t:defer(function() db:close() end)
  return db
end

local function entry(name, at, options)
  options = options or {}
  return {name = name, eager = options.eager,
    schedule = schedule.parse(at, {name = name, catch_up = options.catch_up,
      jitter = options.jitter, zone = options.zone})}
end

--- A keeper that notes what it fires, as "name RFC 3339".
local function keeper(db, node, entries, fire)
  local fired = {}
  local one = scheduler.new{store = db, node = node .. ":boot:1:2",
    fire = fire or function(what, at)
      fired[#fired + 1] = what.name .. " " .. time.rfc3339(at)
    end}
  one:set(entries)
  return one, fired
end

--- Let keepers run for so long.
local function run(seconds, ...)
  local group <close> = task.group()
  for _, one in ipairs{...} do group:spawn(one.run, one) end
  task.sleep(seconds)
  group:cancel()
end

test("each time fires once, over a week and a restart", VIRTUAL, function(t)
  local db = lab(t)
  local first, fired = keeper(db, "a", {entry("nightly", "0 3 * * *")})
  run(3 * DAY, first)
  t:equal(fired, {"nightly 2026-06-01T03:00:00Z", "nightly 2026-06-02T03:00:00Z",
    "nightly 2026-06-03T03:00:00Z"})
  local second, later = keeper(db, "a", {entry("nightly", "0 3 * * *")})
  run(2 * DAY, second)
  t:equal(later, {"nightly 2026-06-04T03:00:00Z", "nightly 2026-06-05T03:00:00Z"})
end)

test("two servers on one database fire each time once", VIRTUAL, function(t)
  local db = lab(t)
  local list = {entry("often", "every 10m"), entry("daily", "@daily")}
  local a, by_a = keeper(db, "a", list)
  local b, by_b = keeper(db, "b", list)
  run(DAY + 30, a, b)
  local seen, count = {}, 0
  for _, fired in ipairs{by_a, by_b} do
    for _, what in ipairs(fired) do
      t:equal(seen[what], nil, what)
      seen[what], count = true, count + 1
    end
  end
  t:equal(count, 145)
end)

test("after downtime the catch-up rule is kept", VIRTUAL, function(t)
  local db = lab(t)
  local list = {entry("once", "0 3 * * *"), entry("all", "0 3 * * *", {catch_up = "all"}),
    entry("none", "0 3 * * *", {catch_up = "none"})}
  local before = keeper(db, "a", list)
  run(60, before)
  task.sleep(3 * DAY)
  local after, fired = keeper(db, "a", list)
  run(60, after)
  table.sort(fired)
  t:equal(fired, {"all 2026-06-01T03:00:00Z", "all 2026-06-02T03:00:00Z",
    "all 2026-06-03T03:00:00Z", "once 2026-06-03T03:00:00Z"})
end)

test("a first sight fires nothing of the past, unless it is eager", VIRTUAL, function(t)
  local db = lab(t)
  local one, fired = keeper(db, "a", {entry("plain", "0 3 * * *"),
    entry("shipped", "0 3 * * *", {eager = true})})
  run(60, one)
  t:equal(fired, {"shipped 2026-05-31T03:00:00Z"})
end)

test("a changed time begins anew", VIRTUAL, function(t)
  local db = lab(t)
  local one, fired = keeper(db, "a", {entry("x", "0 3 * * *")})
  local group <close> = task.group()
  group:spawn(one.run, one)
  task.sleep(12 * 3600)
  one:set{entry("x", "0 9 * * *")} -- nine has passed today
  task.sleep(DAY)
  group:cancel()
  t:equal(fired, {"x 2026-06-01T03:00:00Z", "x 2026-06-02T09:00:00Z"})
end)

test("another server that leads is waited for, and so is its end", VIRTUAL, function(t)
  local db = lab(t)
  db:exec("INSERT INTO leader(name, node, fence, expires_at) "
    .. "VALUES('cron', $node, 7, $at)",
    {node = "other:boot:1:2", at = store.ms(START + 100)})
  local one, fired = keeper(db, "a", {entry("tick", "every 10s")})
  run(95, one)
  t:equal(fired, {})
  run(20, one)
  assert(#fired >= 1, "it leads once the other's time is over")
  t:equal(db:row("SELECT fence FROM leader").fence, 8)
  local two, void = keeper(db, "a", {entry("tick", "every 10s")})
  db:exec("UPDATE leader SET node = 'a:boot:9:9', expires_at = $at",
    {at = store.ms(time.now() + 1000)})
  two:void_leader() -- whoever led on this machine is gone
  run(20, two)
  assert(#void >= 1)
end)

test("a firing that cannot be started is told once; a store that fails is tried again",
  VIRTUAL, function(t)
    local db = lab(t)
    local tries = {}
    local one = keeper(db, "a", {entry("wrong", "@daily"), entry("busy", "@daily")},
      function(what)
        tries[what.name] = (tries[what.name] or 0) + 1
        if what.name == "wrong" then errors.raise("not_found", "no such flow") end
        if tries.busy < 3 then errors.raise("store", "the store is busy") end
      end)
    run(1.5 * DAY, one)
    t:equal(tries, {wrong = 1, busy = 3})
  end)

test("a clock that was far ahead does not stop a schedule", VIRTUAL, function(t)
  local db = lab(t)
  local list = {entry("daily", "0 3 * * *")}
  local one = keeper(db, "a", list)
  run(60, one)
  db:exec("UPDATE cron SET last_fired = $at", {at = store.ms(START + 3000 * DAY)})
  local two, fired = keeper(db, "a", list)
  run(DAY, two)
  t:equal(fired, {"daily 2026-06-01T03:00:00Z"})
end)
