--- Support of the flow tests: a store, flow bodies written to a folder, engines.
--
--     local lab = flow_lab.new(t, {hello = [[ function run(f) return f:now() end ]]})
--     lab:start("hello", nil, {id = "h"})
--     lab:run()                       -- until nothing is due
--     lab:get("h").state

local flow = require "flow"
local fs = require "fs"
local store = require "store"
local task = require "task"
local time = require "time"

local flow_lab = {}
local Lab = {}
Lab.__index = Lab

--- Write a body; the head is added.
function Lab:body(name, text)
  fs.write(("%s/flows/%s.lua"):format(self.dir, name),
    'description = "A flow of a test."\n' .. text, {fsync = false})
end

--- Another engine on the same store, as another worker would have.
function Lab:engine_with(options)
  options = options or {}
  return flow.engine{store = self.db, folders = {self.dir .. "/flows"}, lock = false,
    lease = options.lease, slots = options.slots, on_dead = options.on_dead,
    vm = options.vm}
end

---@param bodies table<string, string>
---@param options table? of the engine
---@param limits table? of the store
function flow_lab.new(t, bodies, options, limits)
  local lab = setmetatable({dir = t:tmpdir()}, Lab)
  fs.chmod(lab.dir, "0700")
  fs.mkdir(lab.dir .. "/flows", {mode = "0700"})
  for name, text in pairs(bodies) do lab:body(name, text) end
  limits = limits or {}
  limits.poll = "1h"
  lab.db = store.open(lab.dir .. "/secrun.db", limits)
  t:defer(function() lab.db:close() end)
  lab.engine = lab:engine_with(options)
  return lab
end

function Lab:start(...) return self.engine:start(...) end
function Lab:get(id) return flow.get(self.db, id) end
function Lab:why(id) return flow.why(self.db, id) end

--- Run the engine until nothing is due.
function Lab:run(engine) (engine or self.engine):run{once = true} end

--- Run it until the flow has ended, and return the flow.
function Lab:finish(id, engine)
  local done = false
  local group <close> = task.group()
  engine = engine or self.engine
  group:spawn(function()
    self.engine:wait(id, {timeout = "30d"})
    done = true
    engine.event:set()
  end)
  engine:run{done = function() return done end}
  return self:get(id)
end

--- What its steps are: "seq kind name status attempts".
function Lab:steps(id)
  local list = {}
  for i, step in ipairs(self:get(id).steps) do
    list[i] = ("%s %s %s %s %d"):format(step.seq, step.kind, step.name, step.status,
      step.attempts)
  end
  return list
end

--- A process dies: the flow keeps its lease and whatever it had written.
function Lab:forget(id, set)
  self.db:exec("UPDATE flow SET state = 'running', lease_owner = 'gone:b:1:1', "
    .. "lease_until = $at, fence = fence + 1 WHERE id = $id", {id = id,
      at = math.floor(time.now() * 1000) + (set or -1)})
end

return flow_lab
