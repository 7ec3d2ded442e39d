-- Further VMs on the same loop, started from Lua; and events between tasks.
local event = require "event"
local task = require "task"
local time = require "time"
local vm = require "vm"

local V = {clock = "virtual"}

test("a call runs in a VM of its own, and only copies pass", function(t)
  local other <close> = vm.new()
  t:equal(other:call("json", "encode", {a = {1, 2, "x"}}), '{"a":[1,2,"x"]}')
  t:equal(table.pack(other:call("json", "decode", "[1,true]"))[1][2], true)
  t:equal(other:calls(), 0)
  t:raises(function() other:call("json", "encode", print) end, "usage", "an argument")
  t:raises(function() other:call("json", "encode", {a = task.self()}) end, "usage", ".a")
  t:equal(other:memory() > 10000, true)
end)

test("an error comes over as an error object with its cause and its trace", function(t)
  local other <close> = vm.new()
  local _, err = try(other.call, other, "errors", "raise", {kind = "denied", code = "X",
    message = "no", cause = {kind = "io", message = "below"}, odd = 1})
  t:equal({err.kind, err.code, err.odd, err.retryable}, {"denied", "X", 1, false})
  t:equal(tostring(err), "no [denied, X]; cause: below [io]")
  t:raises(function() other:call("nowhere", "f") end, "internal", "not found")
  t:raises(function() other:call("json", "nothing") end, "internal", "nil")
  t:equal(other:call("json", "encode", 1), "1")
end)

test("calls wait side by side on one clock, and a cancelled one is waited for", V,
  function(t)
    local other <close> = vm.new()
    local began = time.now()
    local g <close> = task.group()
    for _ = 1, 3 do g:spawn(other.call, other, "task", "sleep", 10) end
    g:join()
    t:equal(time.now() - began, 10)
    t:raises(function() task.timeout(1, other.call, other, "task", "sleep", 10) end,
      "cancelled")
    t:equal(time.now() - began, 11)
    t:equal(other:calls(), 0)
  end)

test("closing cancels what runs there and waits for its end", V, function(t)
  local other = vm.new()
  local failure
  local g <close> = task.group()
  g:spawn(function() failure = select(2, try(other.call, other, "task", "sleep", 50)) end)
  task.sleep(1)
  t:equal(other:calls(), 1)
  other:close()
  other:close()
  g:join()
  t:equal(failure.kind, "cancelled")
  t:raises(function() other:call("json", "encode", 1) end, "usage", "closed")
end)

test("a VM that is only collected is freed, and its calls end", V, function(t)
  local other = vm.new()
  t:equal(other:call("json", "encode", 1), "1")
  other = nil
  collectgarbage()
  collectgarbage()
  t:equal(other, nil)
end)

test("an event wakes who waits, and is kept once for who comes later", V, function(t)
  local e = event.new()
  local woken = {}
  local g <close> = task.group()
  for i = 1, 2 do g:spawn(function() woken[i] = e:wait(5) end) end
  task.sleep(1)
  e:set()
  g:join()
  t:equal(woken, {true, true})
  t:equal(e:wait(1), false)
  e:set()
  e:set()
  t:equal(e:wait(), true)
  t:equal(e:wait(0), false)
  t:raises(function() task.timeout(1, e.wait, e) end, "timeout")
  e:set()
  t:equal(e:wait(), true)
end)
