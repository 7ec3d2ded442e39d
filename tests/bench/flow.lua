--- Durable flows, as flow.sh wants them measured.
---     flow.lua steps DIR FLOWS STEPS     steps a second
---     flow.lua recover DIR               ms from SIGKILL to the end of the flow elsewhere

local flow = require "flow"
local fs = require "fs"
local process = require "process"
local store = require "store"
local task = require "task"
local time = require "time"

local what, dir = arg[1], arg[2]

local BODY = [[
description = "Steps without effect."
function run(f, input)
  for i = 1, input.steps do f:step("step", function() return i end) end
end
]]
local SLOW = [[
description = "A step that ends when a file is gone."
function run(f, input)
  f:step("slow", function()
    require("fs").append(input.dir .. "/began", "x", {fsync = false})
    while require("fs").exists(input.dir .. "/hold") do require("task").sleep(0.01) end
  end, {on_unknown = "retry"})
end
]]

local function open()
  fs.mkdir(dir .. "/flows", {parents = true, mode = "0700"})
  fs.chmod(dir, "0700")
  fs.write(dir .. "/flows/steps.lua", BODY)
  fs.write(dir .. "/flows/slow.lua", SLOW)
  local db = store.open(dir .. "/secrun.db")
  return db, flow.engine{store = db, folders = {dir .. "/flows"}}
end

local function steps(flows, count)
  local db <close>, engine = open()
  for i = 1, flows do engine:start("steps", {steps = count}, {id = "f" .. i}) end
  local began = time.cpu()
  engine:run{once = true}
  local seconds = time.cpu() - began
  assert(#flow.list(db, {state = "ok"}) == flows)
  print(("%.1f"):format(flows * count / seconds))
end

local function worker()
  local child = process.spawn{argv = {fs.readlink("/proc/self/exe"), "--log-level=error",
    "tests/integration/flow_worker.lua", dir, "30s", "lock"}}
  child:read_line(20)
  return child
end

local function recover()
  local _ <close>, engine = open()
  fs.write(dir .. "/hold", "")
  local first <close> = worker()
  engine:start("slow", {dir = dir}, {id = "s"})
  while not fs.exists(dir .. "/began") do task.sleep(0.01) end
  local second <close> = worker()
  task.sleep(0.3)
  local began = time.cpu()
  fs.remove(dir .. "/hold")
  first:kill "SIGKILL"
  local found = engine:wait("s", {timeout = "20s"}).s
  assert(found.state == "ok", found.state)
  print(("%.0f"):format((time.cpu() - began) * 1000))
  return second
end

if what == "steps" then
  steps(math.tointeger(arg[3]), math.tointeger(arg[4]))
else
  recover()
end
