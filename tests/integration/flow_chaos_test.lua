-- Flows whose workers are killed, stopped and replaced: nothing lost, nothing done twice.
package.path = "tests/lua/?.lua;" .. package.path
local chaos = require "flow_chaos"
local eventually = require "eventually"
local flow = require "flow"
local fs = require "fs"
local store = require "store"

test("flows under SIGKILL and SIGSTOP: each step once, each effect once, none stuck",
  {timeout = "90s", leaks = true}, function(t)
    local counts = chaos.run{dir = t:tmpdir(), flows = 60, workers = 3, seconds = 60}
    t:equal(counts.wrong, {})
    t:equal(counts.killed + counts.stopped > 0, true)
  end)

--- A store with one flow whose second step takes as long as a file is there.
local function slow(t)
  local dir = t:tmpdir()
  fs.chmod(dir, "0700")
  fs.mkdir(dir .. "/flows", {mode = "0700"})
  fs.write(dir .. "/flows/slow.lua", [[
description = "Waits for a file to go away."
    local fs, task = require "fs", require "task"
    local function effect(input, key)
      fs.append(input.dir .. "/log", key .. "\n")
      while fs.exists(input.dir .. "/hold") do task.sleep(0.02) end
      return "done"
    end
    function run(f, input)
      f:step("first", function() return 1 end)
      local how = f:step("second", function(key) return effect(input, key) end,
        {reconcile = function() return true, "found" end})
      f:step("third", function() return 3 end)
      return how
    end]])
  fs.write(dir .. "/hold", "")
  local db = store.open(dir .. "/secrun.db")
  t:defer(function() db:close() end)
  local engine = flow.engine{store = db, folders = {dir .. "/flows"}, lease = "1s"}
  engine:start("slow", {dir = dir}, {id = "s"})
  local function begins(lock)
    local child = chaos.worker(dir, "1s", lock)
    t:defer(function() child:close() end)
    eventually(function() return fs.exists(dir .. "/log") end)
    return child
  end
  return {dir = dir, db = db, engine = engine, begins = begins}
end

test("a worker that slept past its lease writes nothing when it wakes",
  {timeout = "60s", leaks = true}, function(t)
    local lab = slow(t)
    local sleeper = lab.begins(false)
    sleeper:kill "SIGSTOP"
    local other = chaos.worker(lab.dir, "1s", false)
    t:defer(function() other:close() end)
    t:equal(lab.engine:wait("s", {timeout = "30s"}).s.output, "found")
    local before = lab.db:rows "SELECT * FROM step ORDER BY seq"
    fs.remove(lab.dir .. "/hold")
    sleeper:kill "SIGCONT"
    eventually(function() -- it has noticed and works on
      lab.engine:start("slow", {dir = lab.dir}, {id = "next"})
      return lab.engine:wait("next", {timeout = "1s"}).next.state == "ok"
    end)
    t:equal(lab.db:rows "SELECT * FROM step WHERE flow = 's' ORDER BY seq", before)
    t:equal(lab.engine:wait("s").s.output, "found")
  end)

test("whoever gets the worker lock goes on at once with the flows of the dead holder",
  {timeout = "60s", leaks = true}, function(t)
    local lab = slow(t)
    local first = chaos.worker(lab.dir, "1h", true) -- its lease would last for long
    t:defer(function() first:close() end)
    eventually(function() return fs.exists(lab.dir .. "/log") end)
    local second = chaos.worker(lab.dir, "1h", true)
    t:defer(function() second:close() end)
    first:kill "SIGKILL"
    t:equal(lab.engine:wait("s", {timeout = "30s"}).s.output, "found")
  end)

test("a holder of the lock that hangs is replaced after its lease", {timeout = "60s",
  leaks = true}, function(t)
    local lab = slow(t)
    local holder = lab.begins(true)
    local second = chaos.worker(lab.dir, "1s", true)
    t:defer(function() second:close() end)
    holder:kill "SIGSTOP"
    t:equal(lab.engine:wait("s", {timeout = "30s"}).s.output, "found")
  end)

test("a worker that is asked to end hands its flows back", {timeout = "60s",
  leaks = true}, function(t)
    local lab = slow(t)
    local first = lab.begins(false)
    first:kill "SIGTERM"
    first:wait(20)
    local found = flow.get(lab.db, "s")
    t:equal({found.state, found.owner}, {"ready", nil})
    t:equal(found.steps[2].status, "intent")
  end)
