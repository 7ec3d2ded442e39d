--- What `secrun serve` raises alerts for: flows that fail or are dead.
--
-- One alert per line of work, not per flow: those a schedule starts share the subject
-- "cron/NAME", and the next one that ends well resolves it. A renewal that fails is told by
-- the watch of its certificate, which knows how urgent it is; one that is dead is told here.

local alert = require "alert"
local flow = require "flow"
local log = require "log"

local server_alerts = {}

local SEVERITY = {failed = "warning", dead = "critical"}
local RECENT = 1000

--- The id without the time that tells the flows of one line of work apart.
local function subject_of(id) return id:match "^(.+)/[%dTZ:.-]+$" or id end

--- The alert that a flow deserves, if any.
local function raise(db, one)
  if one.state == "failed" and one.name == "renew" then return end
  alert.raise{store = db, kind = "flow-" .. one.state, subject = subject_of(one.id),
    severity = SEVERITY[one.state], org = one.org ~= "" and one.org or nil,
    message = one.error and one.error.message,
    details = {flow = one.id, next = "secrun flow why " .. one.id}}
end

--- A flow has ended: raise, or resolve what an earlier one raised.
---@param db store.Db
---@param one {id: string, name: string, org: string, state: string, error: table?}
function server_alerts.ended(db, one)
  if one.state == "failed" then
    log.error("flow %s (%s) failed: %s", one.id, one.name, one.error.message)
  end
  if SEVERITY[one.state] then return raise(db, one) end
  if one.state ~= "ok" then return end
  for state in pairs(SEVERITY) do
    alert.resolve{store = db, kind = "flow-" .. state, subject = subject_of(one.id)}
  end
end

--- Dead flows whose alert a crash has swallowed.
---@param db store.Db
function server_alerts.look(db)
  for _, one in ipairs(flow.list(db, {state = "dead", limit = RECENT})) do
    raise(db, one)
  end
end

--- Tell what is due, by the routes of the estate, until the task is cancelled.
---@param db store.Db
---@param e table estate
function server_alerts.run(db, e)
  local config = alert.config(e)
  if not next(config.channels) then
    log.warn("%s has no alert channels: alerts are only logged", e.path)
  end
  alert.run(db, config)
end

return server_alerts
