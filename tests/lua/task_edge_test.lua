-- Tasks at their edges: groups left open or closed late, scopes that a generator leaves
-- behind, waits for a place, options and durations that lie.
local args = require "args"
local errors = require "errors"
local task = require "task"
local time = require "time"

local V = {clock = "virtual"}

--- Two full collections: the second frees what the first finalised.
local function collect()
  collectgarbage()
  collectgarbage()
end

test("a group left open whose tasks clean up inside a scope spares the tasks around", V,
  function(t)
    local log = {}
    local g <close> = task.group()
    local bystander = g:spawn(function() task.sleep(60) return "unharmed" end)
    g:spawn(function()
      local inner = task.group()
      inner:spawn(function()
        local left = task.group()
        left:spawn(function()
          task.timeout(50, task.shield, task.sleep, 5)
          log[#log + 1] = "cleaned up"
          task.sleep(1)
          log[#log + 1] = "never"
        end)
        task.sleep(1)
      end)
      log[#log + 1] = select(2, try(inner.close, inner)).code
    end)
    task.sleep(3)
    collect()
    t:equal(bystander:join(), "unharmed")
    t:equal(log, {"GROUP_OPEN", "cleaned up"})
  end)

test("a group left open in a finished task takes no more tasks", V, function(t)
  local left
  local g = task.group()
  g:spawn(function() left = task.group() end)
  t:raises(function() g:close() end, "usage", "left open")
  collect()
  t:raises(function() left:spawn(function() end) end, "usage", "closed")
  t:equal(left:count(), 0)
end)

test("a spawn that waits for a place is refused when the group closes meanwhile", V,
  function(t)
    local outer <close> = task.group()
    local failure, ran
    do
      local inner <close> = task.group{limit = 1}
      inner:spawn(task.sleep, 1)
      outer:spawn(function()
        failure = select(2, try(inner.spawn, inner, function() ran = true end))
      end)
      inner:close() -- waits before the other does
    end
    collect()
    outer:close()
    t:equal(failure.kind, "usage")
    t:equal(ran, nil)
  end)

test("a task spawned while the owner wakes from its close is still waited for", V,
  function(t)
    local outer <close> = task.group()
    local done = {}
    do
      local inner <close> = task.group{limit = 1}
      inner:spawn(task.sleep, 1)
      for i = 1, 3 do
        outer:spawn(function()
          inner:spawn(function()
            task.sleep(1)
            done[#done + 1] = i
          end)
        end)
      end
      task.sleep(0.5) -- they wait for a place before the owner waits for the end
    end
    t:equal(done, {1, 2, 3})
  end)

test("a limit holds when several wait for a place and others do not wait", V, function(t)
  local running, most = 0, 0
  local g <close> = task.group()
  local limited <close> = task.group{limit = 2}
  local function work()
    running = running + 1
    most = math.max(most, running)
    task.sleep(1)
    running = running - 1
  end
  for i = 1, 10 do
    g:spawn(function()
      task.sleep(i % 3)
      limited:spawn(work)
      limited:spawn(work)
    end)
  end
  g:close()
  limited:close()
  t:equal(most, 2)
end)

test("a generator may leave its deadline after the task that began it has ended", V,
  function(t)
    local gen
    do
      local g <close> = task.group()
      g:spawn(function()
        gen = coroutine.wrap(function()
          task.timeout(5, function() coroutine.yield(1) end)
          return 2
        end)
        gen()
      end)
    end
    collect()
    for _ = 1, 100 do task.timeout(1, function() end) end
    t:equal(gen(), 2)
    task.sleep(10)
  end)

test("clean-up that waits inside a generator is not cut off by a cancellation", V,
  function(t)
    local cleaned
    local g <close> = task.group()
    local victim = g:spawn(function()
      local _ <close> = setmetatable({}, {__close = function()
        for _ in coroutine.wrap(function()
          task.sleep(1)
          coroutine.yield(1)
          task.sleep(1)
          coroutine.yield(2)
        end) do
          task.sleep(1)
        end
        cleaned = true
      end})
      task.sleep(1)
    end)
    task.sleep(1.5)
    victim:cancel()
    g:close()
    t:equal(cleaned, true)
  end)

test("a race that fails shows where", V, function(t)
  local err = t:raises(function()
    task.race(function() error("the inner one") end, function() task.sleep(9) end)
  end, "internal", "the inner one")
  assert(err.trace:find("task_edge_test", 1, true))
end)

test("sleeps of the same length end in the order in which they began", V, function(t)
  local order = {}
  do
    local g <close> = task.group()
    for i = 1, 100 do
      g:spawn(function()
        task.sleep(1)
        order[#order + 1] = i
      end)
    end
  end
  for i = 1, 100 do t:equal(order[i], i) end
end)

test("the virtual clock can be moved for ever without running over", V, function()
  for _ = 1, 12 do task.sleep(999999999) end
  for _ = 1, 12 do time.advance(999999999) end
  task.timeout(999999999, function() end)
  task.sleep(1)
  time.real()
end)

test("an option's duration is a length of time that exists", function(t)
  local spec = {{name = "wait", type = "duration"}}
  for _, wrong in ipairs {0 / 0, math.huge, -1, 1e300, "99999999999w", "1x"} do
    local function check() args.check("f", spec, {wait = wrong}) end
    t:raises(check, "usage", "wait must be")
  end
end)

test("options are the table's own: nothing comes through a metatable", function(t)
  local sly = setmetatable({}, {__index = function(_, key)
    return key == "limit" and -5 or nil
  end})
  local g <close> = task.group(sly)
  t:equal(g:spawn(function() return 7 end):join(), 7)
  local spec = {{name = "name", type = "string", required = true}}
  local lies = setmetatable({}, {__index = function() return ("x"):rep(5000) end})
  t:raises(function() args.check("f", spec, lies) end, "usage", "name is missing")
end)

test("a word is looked for in a list of any length", function(t)
  local words = {}
  for i = 1, 200000 do words[i] = "word" .. i end
  t:equal(args.suggest("wrod77", words), "word77")
end)

test("an error whose text cannot be made is still an error", V, function(t)
  local g = task.group()
  g:spawn(function()
    error(setmetatable({}, {__tostring = function() error("no text for you") end}))
  end)
  t:raises(function() g:close() end, nil, "no text for you")
end)

test("stack overflow in a task is named and stays in its task", V, function(t)
  local g = task.group()
  g:spawn(function()
    local function deeper() return 1 + deeper() end
    deeper()
  end)
  t:raises(function() g:close() end, "internal", "stack overflow")
end)

test("joining from several tasks gives each the same results", V, function(t)
  local got = {}
  do
    local g <close> = task.group()
    local source = g:spawn(function() task.sleep(1) return "a", nil, "c" end)
    for i = 1, 5 do
      g:spawn(function() got[i] = table.pack(source:join()) end)
    end
    local quitter = g:spawn(function() source:join() end)
    task.sleep(0.5)
    quitter:cancel()
  end
  for i = 1, 5 do t:equal(got[i], {"a", nil, "c", n = 3}) end
end)

test("a task handle outlives its group", V, function(t)
  local kept
  do
    local g <close> = task.group()
    kept = g:spawn(function() return "late" end)
  end
  collect()
  kept:cancel()
  t:equal(kept:status(), "done")
  t:equal(kept:join(), "late")
end)

test("tasks spawned by __close and by __gc run", V, function(t)
  local ran = {}
  local g <close> = task.group()
  do
    local _ <close> = setmetatable({}, {__close = function()
      g:spawn(function() ran.close = true end)
    end})
    setmetatable({}, {__gc = function() g:spawn(function() ran.gc = true end) end})
    collect()
  end
  g:close()
  t:equal(ran, {close = true, gc = true})
end)

test("a group in a coroutine that is closed says it cannot wait", V, function(t)
  local co = coroutine.create(function()
    local g <close> = task.group()
    g:spawn(task.sleep, 1)
    coroutine.yield()
  end)
  local g = task.group()
  g:spawn(function()
    coroutine.resume(co)
    local ok, err = coroutine.close(co)
    t:equal(ok, false)
    t:equal(errors.kind(err), "usage")
  end)
  t:raises(function() g:close() end, "usage", "left open")
end)

test("cancellation reaches through coroutine.wrap at every wait", V, function(t)
  local tries = 0
  local g <close> = task.group()
  local victim = g:spawn(function()
    local gen = coroutine.wrap(function()
      for _ = 1, 3 do
        pcall(task.sleep, 10)
        tries = tries + 1
      end
      coroutine.yield("out")
    end)
    t:equal(gen(), "out")
    task.sleep(1)
    tries = -1
  end)
  task.sleep(1)
  victim:cancel()
  g:close()
  t:equal(tries, 3)
end)

test("errors in message handlers leave no open grace behind", V, function(t)
  local g <close> = task.group()
  local after
  local victim = g:spawn(function()
    xpcall(error, function() error("again") end, "x")
    pcall(xpcall, error, function() local x = nil; return x.y end, "x")
    pcall(task.sleep, 10)
    after = select(2, pcall(task.sleep, 5))
  end)
  task.sleep(1)
  victim:cancel()
  g:close()
  t:equal(after.kind, "cancelled")
end)

test("time stands still while a task that sleeps for nothing shares the loop", V,
  function(t)
    local result
    task.race(function() while true do task.sleep(0) end end, function()
      result = require("process").run{argv = {"/bin/echo", "through"}}.stdout
    end)
    t:equal(result, "through\n")
  end)

test("the errors of each are dropped once they were read", V, function(t)
  local seen = setmetatable({}, {__mode = "k"})
  for i = 1, 10 do
    local _, errs = task.each({i}, function()
      local err = errors.new{kind = "io", message = "x"}
      seen[err] = true
      errors.raise(err)
    end)
    t:equal(#errs, 1)
  end
  collect()
  t:equal(next(seen), nil)
  t:equal(#task.unread_errors(), 0)
end)

test("waits survive collections at every step", V, function(t)
  local function churn()
    for i = 1, 20 do
      task.sleep(i % 3)
      collectgarbage("step")
      local gen = coroutine.wrap(function()
        task.timeout(1, function() coroutine.yield(i) end)
      end)
      gen()
      local g <close> = task.group{limit = 1 + i % 2}
      for _ = 1, 3 do g:spawn(task.sleep, i % 2) end
      if i % 5 == 0 then collectgarbage() end
    end
  end
  for _, mode in ipairs {"generational", "incremental"} do
    local g <close> = task.group()
    collectgarbage(mode)
    t:defer(function() collectgarbage("incremental") end)
    for _ = 1, 10 do g:spawn(churn) end
    g:close()
  end
end)

test("the deadline inside a generator binds the generator alone", V, function(t)
  local gen = coroutine.wrap(function()
    return task.timeout(5, function()
      coroutine.yield(1)
      task.sleep(3)
      coroutine.yield(2)
      task.sleep(3)
      coroutine.yield(3)
    end)
  end)
  t:equal(gen(), 1)
  t:equal(task.deadline(), nil)
  t:equal(gen(), 2) -- it has waited before it yields
  t:equal(task.deadline(), nil)
  task.timeout(2, function() task.sleep(1) end)
  t:raises(gen, "timeout", "its 5 s are over")
  task.sleep(10)
end)

test("a deadline that passed while a generator was away is noticed in it", V, function(t)
  local seen
  local gen = coroutine.wrap(function()
    local _, err = try(task.timeout, 5, function()
      coroutine.yield(1)
      seen = task.cancelled()
      task.sleep(1)
    end)
    coroutine.yield(err.kind)
  end)
  gen()
  task.sleep(10)
  t:equal(gen(), "timeout")
  t:equal(seen, true)
end)

test("a generator's scopes move with it from task to task", V, function(t)
  local gen = coroutine.wrap(function()
    task.timeout(100, task.shield, function()
      while true do
        coroutine.yield(task.deadline())
        task.sleep(1)
      end
    end)
  end)
  local g <close> = task.group()
  gen()
  for i = 1, 3 do
    local user = g:spawn(function()
      gen()
      task.sleep(50)
    end)
    task.sleep(i + 2)
    user:cancel()
  end
  local late = g:spawn(function() gen() return task.cancelled() end)
  t:equal(late:join(), false)
end)

test("scopes of two generators may end in any order", V, function(t)
  local function make(seconds)
    return coroutine.wrap(function()
      for i = 1, 3 do
        task.timeout(seconds, function()
          coroutine.yield(i)
          task.sleep(1)
        end)
      end
      return "end"
    end)
  end
  local a, b = make(50), make(60)
  for _ = 1, 3 do a() b() end
  t:equal(b(), "end")
  t:equal(a(), "end")
  t:equal(coroutine.isyieldable(coroutine.create(print)), true)
  task.sleep(100)
end)
