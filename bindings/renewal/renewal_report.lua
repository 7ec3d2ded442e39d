--- What came of renewals, in words and as an exit status.
--
--     local row, status = report.of_flow(state)      -- {"renewed", "2026-…", "forced"}, 0
--     local row, status = report.of_error(err)
--
-- A row is result, expiry and reason; the status is 0, 1 failed, 3 denied by policy or
-- 4 pending.

local time = require "time"

local report = {}

local function expires(not_after) return not_after and time.rfc3339(not_after) or "" end

--- A certificate that needs nothing.
---@param found {due_at: number, installed: table}
function report.fine(found)
  return {"fine", expires(found.installed.leaf.not_after),
    "due " .. time.rfc3339(found.due_at)}, 0
end

--- What would be done about a certificate.
---@param found {installed: table?}
---@param why string
function report.would_renew(found, why)
  local leaf = found.installed and found.installed.leaf
  return {"would renew", expires(leaf and leaf.not_after), why}, 0
end

--- A failure, of a flow or from before there was one.
---@param err table error object
function report.of_error(err)
  local text = tostring(err)
  if err.kind == "denied" and err.code == "POLICY" then return {"denied", "", text}, 3 end
  if err.kind == "pending" then return {"pending", "", text}, 4 end
  return {"FAILED", "", text}, 1
end

local function of_output(output)
  if not output.fine then
    return {"renewed", expires(output.not_after), output.why}, 0
  elseif output.reloaded then
    return {"reloaded", expires(output.not_after),
      "an earlier run stopped before the reload"}, 0
  end
  return {"fine", expires(output.not_after), "another run was faster"}, 0
end

--- A flow as it stands.
---@param state table as engine:wait gives it
function report.of_flow(state)
  if state.state == "ok" then return of_output(state.output) end
  if state.state == "failed" or state.state == "dead" then
    return report.of_error(state.error)
  elseif state.state == "cancelled" then
    return {"cancelled", "", "secrun flow show " .. state.id}, 1
  end
  return {"pending", "", "secrun flow why " .. state.id}, 4
end

return report
