--- Failures that are no defect of a script: one line for people, without a trace.
--
--     return expected.run(command, options, words)      -- the exit status
--
-- What is not there, is held by somebody, may not be done or cannot be reached is what a
-- person can mend by reading one sentence; everything else is raised on.

local textable = require "textable"

local expected = {}

local KINDS = {not_found = true, conflict = true, denied = true, store = true,
  connect = true}

--- Call fn; the status it returns, or 1 after the message of an expected failure.
---@param fn fun(...): integer
---@param ... any
---@return integer status
function expected.run(fn, ...)
  local status, err = try(fn, ...)
  if not err then return status end
  if not KINDS[err.kind] then error(err, 0) end
  io.stderr:write("secrun: ", textable.clean(err.message), "\n")
  return 1
end

return expected
