-- Durable flows over time and change: newer source, downtime, clocks that jump.
local flow = require "flow"
local flow_lab = require "flow_lab"
local task = require "task"
local time = require "time"

local V = {clock = "virtual"}

test("migrate takes newer source that agrees with the history, and refuses any other", V,
  function(t)
    local lab = flow_lab.new(t, {m = [[
      function run(f)
        f:step("one", function() return 1 end)
        f:each({1, 2}, {}, function(n) f:sleep(n * 3600) end)
        return "old"
      end]]})
    local folders = {folders = {lab.dir .. "/flows"}}
    lab:start("m", nil, {id = "x"})
    lab:run()
    t:equal(flow.migrate(lab.db, "x", folders).changed, false)
    lab:body("m", [[
      function run(f)
        f:step("zero", function() return 0 end)
        return f:step("one", function() return 1 end)
      end]])
    t:raises(function() flow.migrate(lab.db, "x", folders) end, "conflict",
      'the history has step "one"')
    lab:body("m", [[ function run(f) return f:step("one", function() end) end]])
    t:raises(function() flow.migrate(lab.db, "x", folders) end, "conflict",
      "no longer reaches")
    lab:body("m", [[ function run(f f:step("one") end]])
    t:raises(function() flow.migrate(lab.db, "x", folders) end, "usage", "m.lua")
    t:raises(function() flow.migrate(lab.db, "x", {to = "abc"}) end, "not_found", "abc")
    t:raises(function() flow.migrate(lab.db, "x") end, "not_found", "scripts/flows")
    lab:body("m", [[
      function run(f)
        f:step("one", function() error("not run again") end)
        f:each({1, 2}, {}, function(n)
          f:sleep(n * 3600)
          f:step("new", function() return n end)
        end)
        return "new"
      end]])
    local before = lab:steps "x"
    folders.check = true
    t:equal(flow.migrate(lab.db, "x", folders).changed, false)
    t:equal(lab:steps "x", before)
    folders.check = nil
    t:equal(flow.migrate(lab.db, "x", folders).changed, true)
    t:equal(lab:finish("x").output, "new")
    t:raises(function() flow.migrate(lab.db, "x", folders) end, "conflict", "is ok")
  end)

test("after a week of downtime every flow goes on, once", V, function(t)
  local lab = flow_lab.new(t, {w = [[
    function run(f, input)
      local began = f:now()
      f:sleep(input.nap)
      local got, why = f:wait("word", {timeout = "1d"})
      return {late = f:now() - began, why = why, n = f:step("n", function() return 1 end)}
    end]]})
  for i = 1, 20 do lab:start("w", {nap = i * 3600}, {id = "w" .. i}) end
  lab:run()
  time.advance "7d"
  lab:run(lab:engine_with())
  t:equal(#flow.list(lab.db, {state = "waiting"}), 20)
  time.advance "7d"
  lab:run(lab:engine_with())
  t:equal(#flow.list(lab.db, {state = "ok"}), 20)
  for i = 1, 20 do
    local one = lab:get("w" .. i)
    t:equal({one.output.why, one.output.n, #one.steps}, {"timeout", 1, 5})
  end
end)

test("a clock that jumps an hour forth or back loses no flow and repeats no step", V,
  function(t)
    local lab = flow_lab.new(t, {j = [[
      function run(f, input)
        f:step("a", function() require("task").sleep(20) return 1 end)
        f:sleep(60)
        f:step("b", function() require("task").sleep(20) return 2 end)
        return f.attempt
      end]]}, {lease = "10s"})
    local other = lab:engine_with{lease = "10s"}
    local g <close> = task.group()
    g:spawn(lab.engine.run, lab.engine)
    g:spawn(other.run, other)
    for _, jump in ipairs{3600, -3600, -3600, 3600} do
      local id = ("j%d"):format(math.floor(time.now() * 1000))
      lab:start("j", nil, {id = id})
      task.sleep(5)
      time.virtual(time.now() + jump)
      local found = lab.engine:wait(id, {timeout = "2d"})[id]
      t:equal(found.state, "ok")
      t:equal(lab:steps(id), {"1 step a ok 1", "2 sleep sleep ok 1", "3 step b ok 1"})
    end
    lab.engine:stop()
    other:stop()
  end)

test("a lease of a dead worker in a future that a clock made is void in the end", V,
  function(t)
    local lab = flow_lab.new(t, {one = "function run() return 1 end"})
    lab:start("one", nil, {id = "f"})
    lab:forget("f", 3600000)
    local began = time.now()
    t:equal(lab:finish("f").state, "ok")
    t:equal(time.now() - began <= 3700, true)
  end)

test("a wait that is parked for longer is not waited for", V, function(t)
  local lab = flow_lab.new(t, {days = [[ function run(f) f:sleep("3d") end]],
    soon = [[ function run(f) f:sleep("3s") return 1 end]]})
  lab:start("days", nil, {id = "d"})
  lab:start("soon", nil, {id = "s"})
  local g <close> = task.group()
  g:spawn(lab.engine.run, lab.engine)
  local began = time.now()
  local found = lab.engine:wait({"d", "s"}, {timeout = "10m", parked = "1m"})
  t:equal({found.d.state, found.s.state}, {"waiting", "ok"})
  t:equal(time.now() - began < 10, true)
  t:equal(found.d.waiting["until"] > time.now() + 250000, true)
  t:raises(function() lab.engine:wait("nope") end, "not_found")
  lab.engine:stop()
end)

test("a full disk stops flows where they are, and they go on when there is room", V,
  function(t)
    local lab = flow_lab.new(t, {fill = [[
      function run(f, input)
        local n = 0
        for i = 1, 3 do
          f:step("s" .. i, function() return ("x"):rep(30000) end)
          n = n + 1
          f:sleep(1)
        end
        return n
      end]]}, {}, {max_size = 400000})
    lab.db:exec "CREATE TABLE junk(x TEXT) STRICT"
    lab:start("fill", nil, {id = "f"})
    local full
    repeat
      full = select(2, try(lab.db.exec, lab.db, "INSERT INTO junk VALUES($x)",
        {x = ("y"):rep(20000)}))
    until full
    t:equal(full.code, "FULL")
    local g <close> = task.group()
    g:spawn(lab.engine.run, lab.engine)
    task.sleep(120)
    t:equal(lab:get("f").state, "ready")
    t:equal(lab:get("f").attempts <= 1, true)
    lab.db:exec "DELETE FROM junk"
    local found = lab.engine:wait("f", {timeout = "1h"}).f
    t:equal({found.state, found.output}, {"ok", 3})
    t:equal(#lab:steps "f", 6)
    lab.engine:stop()
  end)
