--- Durable flows: work that survives the process, once per step.
--
--     local engine = flow.engine{store = db, folders = {"/usr/share/secrun/scripts/flows"}}
--     engine:start("renew", {name = "www"}, {id = "renew/www/2026-11-25"})
--     engine:run{once = true}
--
-- A flow is a row, its steps are rows, its source is pinned. docs/flows.md says how to
-- write one and what is guaranteed. Everything but the engine needs the store only.

local args = require "args"
local engine_ = require "flow_engine"
local errors = require "errors"
local rows = require "flow_rows"
local start = require "flow_start"
local steer = require "flow_steer"
local task = require "task"
local time = require "time"
local value = require "flow_value"

local flow = {
  get = steer.get, list = steer.list, why = steer.why, signal = steer.signal,
  retry = steer.retry, cancel = steer.cancel, fork = steer.fork, migrate = steer.migrate,
  budget = steer.budget,
}

local ENGINE <const> = {
  {name = "store", type = "any", required = true, doc = "the database, store.open()"},
  {name = "folders", type = "list", required = true, doc = "where flow bodies are"},
  {name = "vm", type = "table", doc = "{idle =, secrets = function(org) → sources}"},
  {name = "slots", type = "integer", positive = true, doc = "flows at a time; 64"},
  {name = "lease", type = "duration", doc = "a claim without renewal; 30 s"},
  {name = "lock", type = "boolean", doc = "work only with the worker lock (true)"},
  {name = "what", type = "string", doc = "this worker, in the messages of others"},
  {name = "on_end", type = "function", doc = "called with a flow that has ended here"},
  {name = "on_dead", type = "function", doc = "called with a flow that is dead"},
}
local VM <const> = {
  {name = "idle", type = "duration", doc = "before an unused VM is closed; 5 s"},
  {name = "secrets", type = "function", doc = "(org) → sources its flows may resolve"},
}

local latest -- the engine made last, for flow.start

--- Make an engine. It claims nothing until engine:run(); engine:start and engine:wait work
--- without.
---@param options {store: table, folders: string[], vm: table?, slots: integer?,
---  lease: number|string?, lock: boolean?, what: string?, on_end: function?,
---  on_dead: function?}
---@return flow.Engine
function flow.engine(options)
  options = args.check("flow.engine", ENGINE, options)
  local vm = args.check("flow.engine vm", VM, options.vm)
  latest = engine_.new{store = options.store, folders = options.folders,
    slots = options.slots or 64, lease = args.duration(options.lease or 30),
    lock = options.lock ~= false, what = options.what, on_end = options.on_end,
    on_dead = options.on_dead,
    vm = {idle = args.duration(vm.idle or 5), secrets = vm.secrets}}
  return latest
end

local Engine <const> = engine_.Engine

--- Start a flow, or join the one that has its id (or its dedup key).
---@param name string
---@param input any plain value
---@param options {id: string?, org: string?, ca: string?, account: string?,
---  priority: integer?, at: number?, deadline: number?, dedup: string?, actor: table?,
---  max_attempts: integer?}?
---@return {id: string, created: boolean, state: string}
--- Raises conflict (FLOW_INPUT) for an id with another input; not_found (FLOW_UNKNOWN);
--- usage (FLOW_SYNTAX, FLOW_BODY, FLOW_VALUE).
function Engine:start(name, input, options)
  local new = start.prepare(name, input, options, self.folders)
  local found = start.run(self.db, new, math.floor(time.now() * 1000))
  if found.created then self.event:set() end
  return found
end

--- The same on the engine made last.
function flow.start(name, input, options)
  if not latest then
    errors.raise("usage", "flow.start: make an engine first, flow.engine{store =, "
      .. "folders =}; it says where flows are kept", {code = "FLOW_ENGINE"})
  end
  return latest:start(name, input, options)
end

local WAIT <const> = {
  {name = "timeout", type = "duration", doc = "none by default"},
  {name = "parked", type = "duration",
    doc = "do not wait for a flow that is parked for longer than this"},
  {name = "on_end", type = "function", doc = "called with the id of each that ends"},
}
local QUIET <const> = 0.02

local function outcome(row)
  return {id = row.id, name = row.name, state = row.state,
    output = value.decode(row.output), error = row.error and rows.ENDED[row.state]
      and value.decode_error(row.error) or nil,
    waiting = row.state == "waiting" and {topic = row.wait_topic,
      since = row.wait_since and row.wait_since / 1000,
      ["until"] = row.wait_until and row.wait_until / 1000} or nil}
end

local function look(db, ids)
  local by_id, names, params = {}, {}, {}
  local function ask()
    local found = db:rows("SELECT id, name, state, output, error, wait_topic, "
      .. "wait_since, wait_until, available_at FROM flow WHERE id IN ("
      .. table.concat(names, ", ") .. ")", params)
    for _, row in ipairs(found) do by_id[row.id] = row end
    names, params = {}, {}
  end
  for i, id in ipairs(ids) do
    local name = "i" .. #names + 1
    names[#names + 1], params[name] = "$" .. name, id
    if #names == 100 or i == #ids then ask() end
  end
  return by_id
end

--- Whether nothing more is to be expected of the flow for a while.
local function is_settled(row, parked, now)
  if rows.ENDED[row.state] then return true end
  return parked and row.state == "waiting" and row.available_at - now > parked * 1000
end

--- Tell of each that has ended since the last look.
local function tell_ended(by_id, ids, told, on_end)
  for _, id in ipairs(ids) do
    if not told[id] and rows.ENDED[by_id[id].state] then
      told[id] = true
      on_end(id)
    end
  end
end

--- Wait for the end of flows, whoever drives them.
---@param ids string[]|string
---@param options {timeout: number|string?, parked: number|string?,
---  on_end: (fun(id: string))?}?
---@return table<string, {state: string, output: any, error: table?, waiting: table?}> by
---  id; after the time-out as they are
function Engine:wait(ids, options)
  options = args.check("engine:wait", WAIT, options)
  if type(ids) == "string" then ids = {ids} end
  local limit = options.timeout and time.mono() + args.duration(options.timeout)
  local parked = options.parked and args.duration(options.parked)
  local watcher <close> = self.db:watch()
  local told = {}
  while true do
    local by_id, waits = look(self.db, ids), false
    local now = math.floor(time.now() * 1000)
    for _, id in ipairs(ids) do
      if not by_id[id] then
        errors.raise("not_found", ("there is no flow %s"):format(id), {code = "FLOW_ID"})
      end
      waits = waits or not is_settled(by_id[id], parked, now)
    end
    if options.on_end then tell_ended(by_id, ids, told, options.on_end) end
    local left = limit and limit - time.mono() or 60
    if not waits or left <= 0 then
      local result = {}
      for id, row in pairs(by_id) do result[id] = outcome(row) end
      return result
    end
    watcher:wait(math.min(left, 60))
    task.sleep(QUIET)
  end
end

return flow
