-- What flows cost while they wait. Not under a sanitizer, which has a memory of its own.
package.path = "tests/lua/?.lua;" .. package.path
local flow = require "flow"
local flow_lab = require "flow_lab"
local task = require "task"

local function resident()
  for line in io.lines "/proc/self/status" do
    local kib = line:match "^VmRSS:%s+(%d+)"
    if kib then return math.tointeger(kib) / 1024 end
  end
end

test("a thousand parked flows are rows: no VM, no task, within 50 MB",
  {clock = "virtual", timeout = "60s"}, function(t)
    local lab = flow_lab.new(t, {p = [[
      function run(f, input)
        f:step("one", function() return input end)
        return f:wait("word", {timeout = "30d"})
      end]]}, {vm = {idle = "1s"}})
    local before, tasks = resident(), task.count()
    local g <close> = task.group()
    g:spawn(lab.engine.run, lab.engine)
    local ids = {}
    for i = 1, 1000 do ids[i] = "p" .. i end
    local _, failed = task.each(ids, {limit = 100}, function(id)
      lab:start("p", {n = id}, {id = id, org = "org" .. #id})
    end)
    t:equal(#failed, 0)
    lab.engine:wait(ids, {parked = "1d"})
    task.sleep(10)
    t:equal(lab.engine.vms:count(), 0)
    t:equal(task.count() < tasks + 10, true)
    collectgarbage()
    t:equal(#flow.list(lab.db, {state = "waiting"}), 1000)
    t:equal(resident() < 50, true, ("%.1f MB, %.1f before"):format(resident(), before))
    flow.signal(lab.db, "p77", "word", "go")
    t:equal(lab.engine:wait("p77").p77.output, "go")
    lab.engine:stop()
  end)
