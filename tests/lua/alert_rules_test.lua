--- When an alert is raised and told: by cases, and by random histories.

local rules = require "alert_rules"

local HOUR, DAY = 3600, 86400
local START = 1893456000

-- ------------------------------------------------------------------ thresholds

test("thresholds are 30, 14 and 7 days, scaled to short lives", function()
  for _, case in ipairs{{398, 30, 14, 7}, {199, 30, 14, 7}, {90, 30, 14, 7},
    {47, 47 / 3, 47 / 6, 47 / 12}, {6, 2, 1, 0.5}} do
    local at = rules.thresholds(case[1] * DAY)
    for i, severity in ipairs(rules.SEVERITIES) do
      assert(math.abs(at[severity] - case[i + 1] * DAY) < 1, severity)
    end
  end
end)

local function expiry(life, left, healthy)
  return rules.expiry{not_before = 0, not_after = life * DAY, now = (life - left) * DAY,
    healthy = healthy}
end

test("a healthy estate of 47-day certificates is silent all its life", function(t)
  for hour = 0, 31 * 24 do -- renewed at two thirds of its life
    t:equal(expiry(47, 47 - hour / 24, true), nil)
  end
end)

test("expiry climbs and never falls as time goes on", function()
  for _, life in ipairs{0.25, 6, 10, 47, 90, 199, 398} do
    for _, healthy in ipairs{true, false} do
      local before = 0
      for step = 0, 1000 do
        local severity = expiry(life, life * (1 - step / 1000), healthy)
        local rank = severity and rules.RANK[severity] or 0
        assert(rank >= before)
        before = rank
      end
      assert(before == 3)
    end
  end
end)

test("info is not worth a word while the renewal is healthy", function(t)
  t:equal({expiry(90, 31, false), expiry(90, 29, true), expiry(90, 29, false)},
    {nil, nil, "info"})
  t:equal({expiry(90, 13, true), expiry(90, 6, true), expiry(90, -5, true)},
    {"warning", "critical", "critical"})
end)

test("a renewal is late when it is due and not served within its slack", function(t)
  local function late(life, due, now)
    return rules.late{not_before = 0, not_after = life * DAY, due = due * DAY,
      now = now * DAY}
  end
  t:equal({late(90, 60, 60.9), late(90, 60, 61), late(90, 60, 84)},
    {nil, "warning", "critical"})
  t:equal({late(6, 3, 3.2), late(6, 3, 3.25), late(6, 3, 5.6)},
    {nil, "warning", "critical"})
end)

-- ------------------------------------------------------------------ telling

local function event(severity, more)
  local made = {kind = "expiry", subject = "www", severity = severity}
  for key, value in pairs(more or {}) do made[key] = value end
  return made
end

--- Follow a row from START: each step is {at, act}; the reasons told, looking each minute.
local function follow(steps, until_, every)
  local row, told, at, i = nil, {}, 0, 1
  while at <= until_ do
    while steps[i] and steps[i][1] <= at do
      row = steps[i][2](row, START + at) or row
      i = i + 1
    end
    local reason = row and rules.due(row, START + at)
    if reason then
      told[#told + 1] = {at, reason, row.severity}
      row = rules.told(row, reason, START + at)
    end
    at = at + (every or 60)
  end
  return told, row
end

local function raise(severity, more)
  return function(row, now) return rules.raise(row, event(severity, more), now) end
end

local function resolve(row, now) return rules.resolve(row, now) end

local function ack(expires)
  return function(row, now)
    return rules.ack(row, {by = "kim", expires = expires and now + expires})
  end
end

local function reasons(told)
  local list = {}
  for i, one in ipairs(told) do list[i] = one[2] end
  return table.concat(list, " ")
end

test("an alert is told once, then when it climbs, and its end once", function(t)
  local told = follow({{0, raise "info"}, {HOUR, raise "info"},
    {2 * HOUR, raise "warning"}, {3 * HOUR, raise "critical"},
    {4 * HOUR, raise "info"}, {5 * HOUR, resolve}}, 9 * DAY)
  t:equal(reasons(told), "new climbed climbed resolved")
  t:equal(told[4][3], "critical")
end)

test("repeats are weekly, daily and four-hourly, hourly near the deadline", function(t)
  t:equal(reasons(follow({{0, raise "info"}}, 15 * DAY)), "new repeat repeat")
  t:equal(reasons(follow({{0, raise "warning"}}, 3 * DAY - 60)), "new repeat repeat")
  t:equal(#follow({{0, raise "critical"}}, DAY - 60), 6)
  local near = follow({{0, raise("critical", {deadline = START + 3 * DAY})}},
    3 * DAY - 60)
  local hourly = 0
  for i = 2, #near do
    local gap = near[i][1] - near[i - 1][1]
    if gap <= HOUR then hourly = hourly + 1 end
    assert(gap <= 4 * HOUR)
  end
  assert(hourly >= 46, hourly)
end)

test("a week without a run gives one alert, at its worst", function(t)
  local told = follow({{7 * DAY, raise "critical"}}, 7 * DAY)
  t:equal(told, {{7 * DAY, "new", "critical"}})
  -- told as info before the week, critical after it: one more, not seven
  told = follow({{0, raise "info"}, {7 * DAY, raise "critical"}}, 7 * DAY, 7 * DAY)
  t:equal(reasons(told), "new climbed")
end)

test("an acknowledged alert is silent until then, or until it gets worse", function(t)
  local told = follow({{0, raise "warning"}, {60, ack(5 * DAY)}}, 5 * DAY + 120)
  t:equal(told, {{0, "new", "warning"}, {5 * DAY + 60, "repeat", "warning"}})
  told = follow({{0, raise "warning"}, {60, ack()}, {DAY, raise "critical"}}, DAY)
  t:equal(reasons(told), "new climbed")
  told = follow({{0, raise "warning"}, {60, ack()}, {30 * DAY, resolve}}, 31 * DAY)
  t:equal(reasons(told), "new resolved")
end)

test("a new owner is told", function(t)
  local told = follow({{0, raise("info", {owner = "a"})},
    {60, raise("info", {owner = "b"})}}, HOUR)
  t:equal(reasons(told), "new owner")
end)

test("an alert that was over before it was told is not told", function(t)
  local row = rules.resolve(rules.raise(nil, event "info", START), START)
  t:equal(rules.due(row, START + DAY), nil)
  t:equal(rules.next_at(row, START), nil)
end)

test("what comes and goes is told a few times a day, not each time", function()
  for _, period in ipairs{60, 300, 660, 3600, 7200} do
    local steps = {}
    for n = 0, 7 * DAY // period do
      steps[#steps + 1] = {n * period, n % 2 == 0 and raise "warning" or resolve}
    end
    local told = follow(steps, 7 * DAY)
    assert(#told <= 7 * 8, ("%d s: %d mails a week"):format(period, #told))
    assert(#told >= 7)
  end
end)

test("a child says nothing while its cause fires, unless it is worse", function(t)
  local cause = rules.raise(nil, event "warning", START)
  local child = rules.raise(nil, event("info", {subject = "a"}), START)
  local worse = rules.raise(nil, event("critical", {subject = "b"}), START)
  t:equal({rules.is_inhibited(child, cause), rules.is_inhibited(worse, cause),
    rules.is_inhibited(child, nil),
    rules.is_inhibited(child, rules.resolve(cause, START))}, {true, false, false, false})
end)

-- ------------------------------------------------------------------ properties

local function random_step(random, row, now)
  local kind = random(10)
  if kind <= 5 or not row then
    return rules.raise(row, event(rules.SEVERITIES[random(3)],
      {owner = random(4) == 1 and "b" or "a",
        deadline = random(2) == 1 and now + random(5 * DAY) or nil}), now)
  elseif kind <= 8 then
    return rules.resolve(row, now) or row
  end
  local expires = random(2) == 1 and now + random(DAY) or nil
  return rules.ack(row, {by = "kim", expires = expires})
    or row
end

test("random histories keep the promises", function()
  math.randomseed(11)
  for _ = 1, 400 do
    local row, now = nil, START
    local last -- what people believe
    for _ = 1, 60 do
      now = now + math.random(4 * HOUR)
      local before = row
      row = random_step(math.random, row, now)
      if before and before.state == "firing" and row.state == "firing" then
        assert(rules.RANK[row.severity] >= rules.RANK[before.severity], "severity fell")
      end
      local reason = rules.due(row, now)
      local at = rules.next_at(row, now)
      assert((reason ~= nil) == (at ~= nil and at <= now), "next_at and due disagree")
      if at and not reason then
        assert(rules.due(row, at), "nothing is due at next_at")
      end
      if reason then
        assert(not (reason == "resolved" and last ~= "firing"), "an end of nothing")
        assert(not (reason == "new" and last == "firing"), "begun twice")
        row = rules.told(row, reason, now)
        last = row.told_state
        assert(not rules.due(row, now), "told twice at once")
      end
    end
  end
end)

test("the wait between attempts doubles, has a bound, and heeds Retry-After", function(t)
  t:equal({rules.backoff(1), rules.backoff(2), rules.backoff(50)}, {30, 60, 2 * HOUR})
  t:equal({rules.backoff(1, 600), rules.backoff(5, 1), rules.backoff(1, 1e9)},
    {600, 480, DAY})
end)
