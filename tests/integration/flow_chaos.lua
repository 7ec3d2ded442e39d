--- Flows under workers that are killed and stopped at random moments.
--
--     local report = chaos.run{dir = t:tmpdir(), flows = 60, workers = 3, seconds = 60}
--
-- Each flow has ten steps; six have an outside effect, a file named by the idempotency key.
-- The file is made exclusively, so a second try for the same key is seen and counted: the
-- price of doing a thing at least once, which the key absorbs.

local flow = require "flow"
local fs = require "fs"
local process = require "process"
local store = require "store"
local task = require "task"
local time = require "time"

local chaos = {}

local WORKER = debug.getinfo(1, "S").source:gsub("^@", "")
WORKER = WORKER:gsub("chaos%.lua$", "worker.lua")

chaos.BODY = [[
description = "Ten steps, six of them with an effect."
local fs = require "fs"

local function effect(input, key)
  local name = key:gsub("/", "_")
  local ok, err = try(fs.write, input.dir .. "/effects/" .. name, key,
    {exclusive = true, fsync = false})
  if err then fs.append(input.dir .. "/again", key .. "\n", {fsync = false}) end
  return name
end

local function reconcile(input, key)
  local path = input.dir .. "/effects/" .. key:gsub("/", "_")
  if fs.exists(path) then return true, (key:gsub("/", "_")) end
  return false
end

function run(f, input)
  local sum = {}
  local function act(name)
    sum[#sum + 1] = f:step(name, function(key) return effect(input, key) end,
      {reconcile = function(key) return reconcile(input, key) end})
  end
  act "order"                                            -- 1
  local n = f:step("count", function() return #sum end)   -- 2
  act "challenge"                                        -- 3
  f:sleep(0.5)                                           -- 4
  act "finalize"                                         -- 5
  f:signal(f.id, "note", {n = n})                        -- 6
  local note = f:wait("note")                            -- 7
  act "collect"                                          -- 8
  act "install"                                          -- 9
  act "verify"                                           -- 10
  return {effects = sum, note = note.n}
end
]]

--- Make the folder with its store and the flows.
function chaos.prepare(dir, flows)
  fs.chmod(dir, "0700")
  fs.mkdir(dir .. "/flows", {mode = "0700"})
  fs.mkdir(dir .. "/effects")
  fs.write(dir .. "/flows/ten.lua", chaos.BODY)
  local db <close> = store.open(dir .. "/secrun.db")
  local engine = flow.engine{store = db, folders = {dir .. "/flows"}}
  local ids = {}
  for i = 1, flows do ids[i] = ("f%03d"):format(i) end
  local _, failed = task.each(ids, {limit = 32}, function(id)
    engine:start("ten", {dir = dir}, {id = id})
  end)
  assert(#failed == 0, tostring(failed[1]))
  return ids
end

--- A worker process; it has opened the store when this returns.
function chaos.worker(dir, lease, lock)
  local child = process.spawn{argv = {fs.readlink("/proc/self/exe"), "--log-level=error",
    WORKER, dir, lease or "1s", lock and "lock" or "free"}}
  child:read_line(20)
  return child
end

local function unfinished(db)
  return db:row("SELECT COUNT(*) AS n FROM flow WHERE state IN ('ready', 'running', "
    .. "'waiting')").n
end

--- One place for a worker: it is killed, ended, or stopped for longer than its lease, again
--- and again, and replaced when it is gone.
local function suffer(options, is_over, counts)
  local child = chaos.worker(options.dir)
  local guard <close> = setmetatable({}, {__close = function() child:close() end})
  while not is_over() do
    task.sleep(0.05 + math.random() / 3)
    local dice = math.random()
    if dice < 0.6 then
      child:kill(dice < 0.4 and "SIGKILL" or "SIGTERM")
      child:close()
      child = chaos.worker(options.dir)
      counts.killed = counts.killed + 1
    else
      child:kill "SIGSTOP"
      task.sleep(1.2 + math.random() / 2)
      child:kill "SIGCONT"
      counts.stopped = counts.stopped + 1
    end
  end
end

--- What the store and the effects say at the end; a list of what is wrong.
local function inspect(options, db, ids)
  local wrong = {}
  local function check(holds, ...)
    if not holds then wrong[#wrong + 1] = string.format(...) end
  end
  local effects = {} -- without what a killed write left half done
  for _, name in ipairs(fs.list(options.dir .. "/effects")) do
    if name:find "^f%d+_%d+$" then effects[#effects + 1] = name end
  end
  check(#effects == #ids * 6, "%d effects, want %d", #effects, #ids * 6)
  for _, row in ipairs(db:rows("SELECT flow, COUNT(*) AS n, SUM(CASE WHEN status = 'ok' "
    .. "THEN 1 ELSE 0 END) AS ok FROM step GROUP BY flow")) do
    check(row.n == 10 and row.ok == 10, "%s: %d steps, %d ok", row.flow, row.n, row.ok)
  end
  for _, id in ipairs(ids) do
    local one = flow.get(db, id)
    local output = one.state == "ok" and one.output or {effects = {}}
    check(one.state == "ok", "%s is %s: %s", id, one.state, one.error
      and one.error.message)
    check(output.note == 1 and table.concat(output.effects, " ")
      == ("%s_1 %s_3 %s_5 %s_8 %s_9 %s_10"):gsub("%%s", id), "%s has another output", id)
    check(#one.messages == 1, "%s has %d messages", id, #one.messages)
  end
  return wrong
end

--- Start flows and workers, disturb them until every flow has ended, look at the result.
---@param options {dir: string, flows: integer, workers: integer, seconds: number}
---@return {wrong: string[], killed: integer, stopped: integer, again: integer}
function chaos.run(options)
  local ids = chaos.prepare(options.dir, options.flows)
  local counts = {killed = 0, stopped = 0}
  local db <close> = store.open(options.dir .. "/secrun.db")
  local limit = time.mono() + options.seconds
  local function is_over() return time.mono() > limit or unfinished(db) == 0 end
  do
    local places <close> = task.group()
    for _ = 1, options.workers do places:spawn(suffer, options, is_over, counts) end
  end
  counts.wrong = inspect(options, db, ids)
  counts.again = 0
  if fs.exists(options.dir .. "/again") then
    local _, n = fs.read(options.dir .. "/again"):gsub("\n", "")
    counts.again = n
  end
  return counts
end

return chaos
