--- One VM an org: made when a flow of it runs, closed when none has for a while.
--
-- Nothing of one org is reachable from the VM of another: not its values, not its modules'
-- state, not its secrets; a VM may resolve only the sources that `secrets` names.

local event = require "event"
local log = require "log"
local task = require "task"
local time = require "time"
local vm = require "vm"

---@class flow.Vms
local Vms = {}
Vms.__index = Vms

local vms = {}

local IDLE <const> = 5 -- seconds

---@param options {idle: number?, secrets: (fun(org: string): table|boolean)?}
function vms.new(options)
  return setmetatable({options = options, idle = options.idle or IDLE, by_org = {},
    org_of = {}, changed = event.new()}, Vms)
end

--- The sources that secrets of an org may come from.
function Vms:secrets(org)
  return self.options.secrets and self.options.secrets(org) or nil
end

--- Call a function of flow_run in the VM of an org.
function Vms:call(org, name, job)
  local one = self.by_org[org]
  if not one then
    one = {vm = vm.new(), busy = 0}
    self.by_org[org] = one
    self.changed:set()
  end
  one.busy = one.busy + 1
  self.org_of[job.id] = org
  local guard <close> = setmetatable({}, {__close = function()
    one.busy, one.since = one.busy - 1, time.mono()
    self.org_of[job.id] = nil
  end})
  return one.vm:call("flow_run", name, job)
end

--- Tell the run of a flow that its lease is gone.
function Vms:lost(id)
  local one = self.by_org[self.org_of[id]]
  if one then one.vm:call("flow_run", "lost", id) end
end

--- Tell every run to end at its next call.
function Vms:stop()
  local all = {}
  for _, one in pairs(self.by_org) do all[#all + 1] = one.vm end
  for _, one in ipairs(all) do one:call("flow_run", "stop") end
end

--- How many there are.
function Vms:count()
  local n = 0
  for _ in pairs(self.by_org) do n = n + 1 end
  return n
end

--- Close those that nobody has used for a while; runs beside the engine.
function Vms:reap()
  while true do
    if next(self.by_org) == nil then self.changed:wait() end
    task.sleep(self.idle)
    local idle = {}
    for org, one in pairs(self.by_org) do
      if one.busy == 0 and time.mono() - (one.since or 0) >= self.idle then
        idle[#idle + 1] = one
        self.by_org[org] = nil
        log.debug("the VM of org %q is closed", org)
      end
    end
    for _, one in ipairs(idle) do one.vm:close() end
  end
end

--- Close all.
function Vms:close()
  local all = self.by_org
  self.by_org = {}
  for _, one in pairs(all) do one.vm:close() end
end

return vms
