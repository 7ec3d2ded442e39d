-- The module "time": instants, RFC 3339, and the virtual clock's jump rule.
local time = require "time"
local task = require "task"

test("instants are shown and read as RFC 3339", function(t)
  t:equal(time.rfc3339(0), "1970-01-01T00:00:00Z")
  t:equal(time.parse "2026-11-23T17:00:00Z", 1795453200.0)
  t:equal(time.parse "2026-11-23T18:30:00+01:30", 1795453200.0)
  t:equal(time.parse "2026-11-23t17:00:00.25z", 1795453200.25)
  t:equal(time.rfc3339(time.parse "2028-02-29T12:00:00-00:30"), "2028-02-29T12:30:00Z")
end)

test("what is no date-time is nil", function(t)
  for _, text in ipairs{"", "2026", "2026-11-23", "2026-13-01T00:00:00Z",
    "2026-02-30T00:00:00Z", "2026-11-23T17:00:00", "2026-11-23T17:00:00Zx",
    "26-11-23T17:00:00Z", "2026-11-23T25:00:00Z", "2026-11-23T17:00:00+1:00"} do
    t:equal(time.parse(text), nil, text)
  end
end)

test("spans are shown in at most two units", function(t)
  t:equal(time.show(0.25), "250ms")
  t:equal(time.show(59), "59s")
  t:equal(time.show(3600), "1h")
  t:equal(time.show(90061), "1d 1h")
  t:equal(time.show(-120), "-2m")
end)

test("an instant out of reach is a usage error", function(t)
  t:raises(function() time.rfc3339(1e300) end, "usage")
  t:raises(function() time.rfc3339(0 / 0) end, "usage")
end)

test("advancing fires what became due at the next wait", {clock = "virtual"}, function(t)
  local woke
  local g <close> = task.group()
  g:spawn(function() task.sleep "89d" woke = true end)
  task.sleep(0)
  time.advance "90d"
  t:equal(woke, nil)
  task.sleep(0)
  task.sleep(0.001)
  t:equal(woke, true)
end)

test("the virtual clock waits for pool jobs", {clock = "virtual"}, function()
  local fs = require "fs"
  local started = time.now()
  local g <close> = task.group()
  g:spawn(function() task.sleep "1d" end)
  fs.stat("/")
  assert(time.now() - started < 1, "the clock ran ahead of a job")
end)
