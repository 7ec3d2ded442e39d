-- Schedules as scripts see them: zones by name, catching up, jitter.
local schedule = require "schedule"
local schedule_list = require "schedule_list"
local time = require "time"

local function at(text) return math.tointeger(time.parse(text)) end

local function shown(list)
  local texts = {}
  for i, fire in ipairs(list) do texts[i] = time.rfc3339(fire) end
  return texts
end

test("a schedule fires in its zone", function(t)
  local nightly = schedule.parse("0 3 * * *", {zone = "Europe/Berlin"})
  local fire = nightly:next(at "2026-03-28T12:00:00Z")
  t:equal(time.rfc3339(fire), "2026-03-29T01:00:00Z")
  t:equal(nightly:show(fire), "2026-03-29 03:00:00 CEST")
  t:equal(tostring(nightly), "0 3 * * * (Europe/Berlin)")
  t:equal(schedule.parse("@daily"):show(0), "1970-01-01 00:00:00 UTC")
end)

test("what is wrong with a schedule is said with its mend", function(t)
  t:raises(function() schedule.parse "0 0 31 2 *" end, "usage", "never fires")
  t:raises(function() schedule.parse(nil) end, "usage", "got nil")
  t:raises(function() schedule.parse("@daily", {zone = "Europe/Berln"}) end, "usage",
    "did you mean Europe/Berlin%?")
  t:raises(function() schedule.parse("@daily", {zone = "Europa/Berlin"}) end, "usage",
    "did you mean Europe%?")
  t:raises(function() schedule.parse("@daily", {zone = "../../../etc/passwd"}) end,
    "usage", "no time zone name")
  t:raises(function() schedule.parse("@daily", {zone = "zone.tab"}) end, "usage", "zone")
  t:raises(function() schedule.parse("@daily", {zone = "tzdata"}) end, "usage")
  t:raises(function() schedule.parse("@daily", {zone = "Europe"}) end, "usage", "Europe")
  t:raises(function() schedule.parse("@daily", {tz = "UTC"}) end, "usage",
    "unknown option tz")
  t:raises(function() schedule.parse("@hourly", {jitter = "2h"}) end, "usage",
    "does not end before the next firing")
  t:raises(function() schedule.parse("@daily", {catch_up = "twice"}) end, "usage",
    "none|once|all")
end)

test("after a week of downtime the catch-up rule decides", function(t)
  local since, now = at "2026-06-01T03:00:00Z", at "2026-06-08T10:00:00Z"
  local function due(catch_up, max)
    local s = schedule.parse("0 3 * * *", {catch_up = catch_up, catch_up_max = max})
    local fires, latest = s:due(since, now)
    return shown(fires), time.rfc3339(latest)
  end
  t:equal({due "once"}, {{"2026-06-08T03:00:00Z"}, "2026-06-08T03:00:00Z"})
  t:equal({due "none"}, {{}, "2026-06-08T03:00:00Z"})
  t:equal({due("all", 3)}, {{"2026-06-06T03:00:00Z", "2026-06-07T03:00:00Z",
    "2026-06-08T03:00:00Z"}, "2026-06-08T03:00:00Z"})
  t:equal(#(due "all"), 7)
end)

test("what is on time fires under every rule, and once", function(t)
  for _, rule in ipairs{"none", "once", "all"} do
    local s = schedule.parse("0 3 * * *", {catch_up = rule})
    local fire = at "2026-06-02T03:00:00Z"
    t:equal({s:due(at "2026-06-01T03:00:00Z", fire - 1)}, {{}})
    t:equal({s:due(at "2026-06-01T03:00:00Z", fire + 5)}, {{fire}, fire})
    t:equal({s:due(fire, fire + 5)}, {{}})
  end
end)

test("a year of downtime is looked through at once", function(t)
  local s = schedule.parse("every 1s", {catch_up = "once"})
  local now = at "2026-06-02T03:00:00Z"
  t:equal({s:due(now - 366 * 86400, now)}, {{now}, now})
  s = schedule.parse("* * * * *", {catch_up = "all"})
  t:equal(#s:due(now - 366 * 86400, now), 24)
end)

test("jitter delays each firing by its own, stable share", function(t)
  local function make(name)
    return schedule.parse("0 3 * * *", {name = name, jitter = "1h", catch_up = "none"})
  end
  local a, b = make "renew", make "watch"
  local fire, seen = at "2026-06-02T03:00:00Z", {}
  for day = 0, 20 do
    local due = a:due_at(fire + day * 86400)
    t:equal(due, make("renew"):due_at(fire + day * 86400))
    local delay = due - fire - day * 86400
    assert(delay >= 0 and delay < 3600)
    seen[delay] = true
  end
  local count = 0
  for _ in pairs(seen) do count = count + 1 end
  t:equal(count, 21)
  assert(a:due_at(fire) ~= b:due_at(fire))
  local due = a:due_at(fire)
  t:equal({a:due(fire - 10, due - 1)}, {{}})
  t:equal({a:due(fire - 10, due + 1)}, {{fire}, fire})
  t:equal(a:wake(fire - 10), due)
end)

test("a clock that was put back fires nothing of the past", function(t)
  local s = schedule.parse("@hourly", {catch_up = "all"})
  local now = at "2026-06-02T03:30:00Z"
  t:equal({s:due(now + 3600, now)}, {{}})
end)

test("zones of this machine can be read, each of them", {timeout = "30s"}, function(t)
  local fs = require "fs"
  local count = 0
  for _, region in ipairs{"Europe", "America", "Asia", "Pacific", "Etc"} do
    for _, city in ipairs(fs.list("/usr/share/zoneinfo/" .. region)) do
      local name = region .. "/" .. city
      if fs.stat("/usr/share/zoneinfo/" .. name).type == "file" then
        assert(schedule.parse("@daily", {zone = name}):next(0))
        count = count + 1
      end
    end
  end
  assert(count > 200, count)
  assert(schedule.parse("@daily", {zone = "local"}):next(0))
  t:equal(schedule.parse("@daily", {zone = "America/Argentina/Buenos_Aires"}):show(0),
    "1969-12-31 21:00:00 -03")
end)

test("the schedules of an estate are its own and the shipped ones", function(t)
  local entries, problems = schedule_list.read{
    {name = "report", at = "0 7 * * mon", zone = "Europe/Berlin", run = {"report"}},
    {name = "watch", at = "every 10m"},
    {name = "rotate", at = "@monthly", flow = "rotate", input = {site = "a"}},
    {name = "renew", enabled = false},
  }
  t:equal(problems, {})
  local seen = {}
  for i, entry in ipairs(entries) do
    seen[i] = {entry.name, tostring(entry.schedule), entry.flow, entry.run}
  end
  t:equal(seen, {{"report", "0 7 * * mon (Europe/Berlin)", nil, {"report"}},
    {"rotate", "@monthly", "rotate"}, {"watch", "every 10m"}})
  t:equal({entries[3].builtin, entries[3].eager, entries[1].eager}, {"watch", true, nil})
  entries = schedule_list.read(nil)
  t:equal({entries[1].name, entries[2].name}, {"renew", "watch"})
  t:equal(entries[1].schedule.name, "renew") -- its jitter is its own
  t:equal({entries[1].eager, entries[2].eager}, {true, true})
end)

test("every mistake in a list of schedules is named", function(t)
  local _, problems = schedule_list.read{
    {name = "a", at = "0 0 31 2 *", flow = "x"},
    {name = "b", at = "@daily"},
    {name = "c", at = "@daily", flow = "x", run = {"y"}},
    {name = "renew", zone = "Mars"},
    {name = "renew", att = "@daily"},
    {name = "../up", at = "@daily", flow = "x"},
    {name = "d", at = "@daily", flow = "x"}, {name = "d", at = "@daily", flow = "x"},
    "e",
    {name = "renw", enabled = false},
  }
  local wanted = {"schedules%[1%] %(a%): .*never fires", "%[2%] %(b%): give either flow",
    "%[3%] %(c%): give either", "%[4%] %(renew%): there is no time zone Mars",
    "%[5%] %(renew%): unknown option att; did you mean at%?", "%[6%].*the name has",
    "%[8%] %(d%): schedules%[7%] %(d%) has the same name", "%[9%]: takes one table",
    "%[10%] %(renw%): at is missing.*did you mean the shipped renew%?"}
  t:equal(#problems, #wanted, table.concat(problems, "\n"))
  for i, pattern in ipairs(wanted) do
    assert(problems[i]:find(pattern), problems[i] .. " / " .. pattern)
  end
end)
