--- What schedules start inside the server itself, by name. Each may be done twice.

local server_alerts = require "server_alerts"
local watch = require "watch"

local server_jobs = {}

--- Look at every certificate and every dead flow; raise or resolve what is wrong.
---@param db store.Db
---@param e table estate
---@return {text: string}
function server_jobs.watch(db, e)
  local trouble = 0
  local found = watch.look(db, e)
  for _, one in ipairs(found) do
    if one.severity then trouble = trouble + 1 end
  end
  server_alerts.look(db)
  return {text = ("looked at %d certificate%s, %d in trouble"):format(#found,
    #found == 1 and "" or "s", trouble)}
end

return server_jobs
