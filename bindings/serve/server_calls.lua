--- What `secrun serve` answers on its control socket.
--
-- Each handler gets the arguments and who asks: {pid, uid, gid}. Who may ask is decided by
-- the socket (control.lua).

local args = require "args"
local process = require "process"
local time = require "time"

local server_calls = {}

local FIRE = {
  {name = "name", type = "string", required = true, nonempty = true,
    doc = "of the schedule"},
}

local function counts(db)
  local by_state = {}
  for _, row in ipairs(db:rows "SELECT state, COUNT(*) AS n FROM flow GROUP BY state") do
    by_state[row.state] = row.n
  end
  return by_state
end

local function when(instant) return instant and time.rfc3339(instant) end

local function schedules(self)
  local list = self.keeper:list()
  for _, one in ipairs(list) do one.last, one.due = when(one.last), when(one.due) end
  return list
end

--- The handlers of a server.
---@param self server
---@return table<string, fun(given: table, peer: table): any>
function server_calls.handlers(self)
  local calls = {}

  function calls.status()
    return {pid = process.pid, since = when(self.since), read = when(self.loaded),
      config = self.config, store = self.db.url, stopping = self.stopping or false,
      running = self.engine.count, flows = counts(self.db), schedules = schedules(self)}
  end

  function calls.reload()
    self:reload()
    return {config = self.config}
  end

  function calls.stop()
    self:stop()
    return {}
  end

  function calls.fire(given)
    given = args.check("fire", FIRE, given)
    return self.keeper:fire(given.name)
  end

  return calls
end

return server_calls
