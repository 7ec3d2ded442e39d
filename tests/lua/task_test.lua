-- Tasks, groups, deadlines and cancellation, on the virtual clock.
local task = require "task"
local time = require "time"

local V = {clock = "virtual"}

test("a sleep of a year takes no real time under the virtual clock", V, function(t)
  local real, virtual = time.cpu(), time.now()
  task.sleep "365d"
  assert(time.now() - virtual >= 365 * 86400)
  assert(time.cpu() - real < 5)
  t:equal(task.count(), task.count())
end)

test("10,000 sleeping tasks wake in the order of their times", V, function(t)
  local order = {}
  do
    local g <close> = task.group()
    for i = 10000, 1, -1 do
      g:spawn(function()
        task.sleep(i)
        order[#order + 1] = i
      end)
    end
  end
  t:equal(#order, 10000)
  for i = 1, 10000 do assert(order[i] == i) end
end)

test("closing a group waits for its tasks", V, function(t)
  local done = 0
  do
    local g <close> = task.group()
    for _ = 1, 3 do g:spawn(function() task.sleep(1) done = done + 1 end) end
  end
  t:equal(done, 3)
end)

test("the first error cancels the siblings and is raised by the close", V, function(t)
  local cancelled
  local err = t:raises(function()
    local g <close> = task.group()
    g:spawn(function()
      local ok, e = pcall(task.sleep, 100)
      cancelled = not ok and e.kind
      error(e, 0)
    end)
    g:spawn(function() task.sleep(1) error("first") end)
  end, "internal", "first")
  t:equal(cancelled, "cancelled")
  assert(err.trace:find("spawned at", 1, true), err.trace)
end)

test("the body of a group is interrupted when a child fails", V, function(t)
  local started = time.now()
  t:raises(function()
    local g <close> = task.group()
    g:spawn(function() task.sleep(1) error("child failed") end)
    task.sleep(1000)
  end, "internal", "child failed")
  assert(time.now() - started < 2)
end)

test("an error of the body cancels the children and wins", V, function(t)
  local child
  t:raises(function()
    local g <close> = task.group()
    g:spawn(function() child = select(2, pcall(task.sleep, 1000)) end)
    task.sleep(1)
    error("body failed")
  end, "internal", "body failed")
  t:equal(child.kind, "cancelled")
end)

test("a group with a limit makes spawn wait for a place", V, function(t)
  local running, most = 0, 0
  do
    local g <close> = task.group{limit = 3}
    for _ = 1, 10 do
      g:spawn(function()
        running = running + 1
        most = math.max(most, running)
        task.sleep(1)
        running = running - 1
      end)
    end
  end
  t:equal(most, 3)
end)

test("spawning into a closed group is a usage error", V, function(t)
  local g = task.group()
  g:close()
  t:raises(function() g:spawn(print) end, "usage", "closed")
end)

test("a group left open is an error that shows how to write it", V, function(t)
  t:raises(function()
    local g <close> = task.group()
    g:spawn(function()
      local left = task.group()
      left:spawn(task.sleep, 1000)
    end)
  end, "usage", "local g <close>")
end)

test("join gives the results and raises the error of a task", V, function(t)
  local g <close> = task.group()
  local child = g:spawn(function(a, b) task.sleep(1) return a + b, "x" end, 1, 2)
  t:equal({child:join()}, {3, "x"})
  t:equal({child:join()}, {3, "x"})
  t:equal(child:status(), "done")
end)

test("a cancelled task ends and its group goes on", V, function(t)
  local g <close> = task.group()
  local child = g:spawn(task.sleep, 1000)
  task.sleep(1)
  child:cancel()
  t:raises(function() child:join() end, "cancelled")
  task.sleep(1)
  t:equal(child:status(), "failed")
end)

test("a task cancelled before its first run never runs", V, function(t)
  local ran = false
  local g <close> = task.group()
  local child = g:spawn(function() ran = true end)
  child:cancel()
  task.sleep(1)
  t:equal(ran, false)
end)

test("deadlines nest: the tightest wins", V, function(t)
  local started = time.now()
  t:raises(function()
    task.timeout(100, function()
      task.timeout(1000, function() task.sleep(5000) end)
    end)
  end, "timeout", "100 s")
  assert(math.abs(time.now() - started - 100) < 1)
end)

test("a deadline around a group holds for its tasks", V, function(t)
  local child
  t:raises(function()
    task.timeout(5, function()
      local g <close> = task.group()
      g:spawn(function() child = select(2, pcall(task.sleep, 1000)) end)
    end)
  end, "timeout")
  t:equal(child.kind, "timeout")
end)

test("cancellation is level-triggered: pcall around one wait does not escape it", V,
  function(t)
    local tries = 0
    t:raises(function()
      task.timeout(1, function()
        for _ = 1, 5 do
          if not pcall(task.sleep, 10) then tries = tries + 1 end
        end
        task.sleep(1)
      end)
    end, "timeout")
    t:equal(tries, 5)
  end)

test("time that ran out does not spoil a result that is there", V, function(t)
  t:equal(task.timeout(10, function() task.sleep(1) return "ok" end), "ok")
  task.sleep(100)
end)

test("clean-up in <close> may wait after cancellation", V, function(t)
  local cleaned = false
  t:raises(function()
    task.timeout(1, function()
      local guard <close> = setmetatable({}, {__close = function()
        task.sleep(2)
        cleaned = true
      end})
      task.sleep(100)
    end)
  end, "timeout")
  t:equal(cleaned, true)
end)

test("clean-up that never ends is cut off after its grace", V, function(t)
  local started = time.now()
  t:raises(function()
    task.timeout(1, function()
      local guard <close> = setmetatable({}, {__close = function() task.sleep(9999) end})
      task.sleep(100)
    end)
  end)
  assert(time.now() - started < 15)
end)

test("clean-up under way on a normal exit survives a cancellation", V, function(t)
  local cleaned = false
  t:raises(function()
    task.timeout(1, function()
      do
        local guard <close> = setmetatable({}, {__close = function()
          task.sleep(3)
          cleaned = true
        end})
      end
      task.sleep(100)
    end)
  end, "timeout")
  t:equal(cleaned, true)
end)

test("an error inside pcall does not open the grace for what follows", V, function(t)
  t:raises(function()
    task.timeout(1, function()
      pcall(error, "handled")
      task.sleep(100)
    end)
  end, "timeout")
  t:raises(function()
    task.timeout(1, function()
      pcall(task.sleep, 100)
      task.sleep(1)
    end)
  end, "timeout")
end)

test("shield holds a deadline off until it is done", V, function(t)
  local done = false
  t:raises(function()
    task.timeout(1, function()
      task.shield(function() task.sleep(5) done = true end)
      task.sleep(1)
    end)
  end, "timeout")
  t:equal(done, true)
end)

test("race gives the first and cancels the others", V, function(t)
  local slow
  local winner = task.race(
    function() slow = select(2, pcall(task.sleep, 100)) error(slow, 0) end,
    function() task.sleep(1) return "fast" end)
  t:equal(winner, "fast")
  t:equal(slow.kind, "cancelled")
end)

test("race raises when the first to finish failed", V, function(t)
  t:raises(function()
    task.race(function() task.sleep(1) error("lost") end, function() task.sleep(9) end)
  end, "internal", "lost")
end)

test("each keeps order, goes on after errors, and counts them", V, function(t)
  local results, errs = task.each({3, 1, 2}, {limit = 2}, function(n, i)
    task.sleep(n)
    if n == 1 then error("one failed") end
    return n * 10 + i
  end)
  t:equal(results, {31, nil, 23})
  t:equal(#errs, 1)
  assert(tostring(errs[2]):find("one failed"))
  assert(errs[2].trace)
end)

test("each with stop_on_error stops", V, function(t)
  local finished = 0
  t:raises(function()
    task.each({1, 2, 3}, {stop_on_error = true}, function(n)
      task.sleep(n)
      if n == 1 then error("stop") end
      finished = finished + 1
    end)
  end, "internal", "stop")
  t:equal(finished, 0)
end)

test("errors of each that nobody read are handed over once", V, function(t)
  local _, read = task.each({1}, function() error("seen") end)
  t:equal(#read, 1)
  t:equal(#task.unread_errors(), 0)
end)

test("cancellation runs through each", V, function(t)
  t:raises(function()
    task.timeout(1, function()
      task.each({1, 2, 3}, function() task.sleep(100) end)
    end)
  end, "timeout")
end)

test("deadline tells what is left of the tightest", V, function(t)
  task.timeout(50, function()
    task.sleep(10)
    assert(math.abs(task.deadline() - 40) < 1)
    task.shield(function() t:equal(task.deadline(), nil) end)
  end)
end)

test("os.time and os.date follow the virtual clock", V, function(t)
  local before = os.time()
  task.sleep "40d"
  assert(os.time() - before >= 40 * 86400)
  t:equal(os.date("!%Y-%m-%d", 86400), "1970-01-02")
end)
