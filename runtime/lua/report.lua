--- Errors as a person wants to read them: the message, the user's part of the trace, causes.
--
--     io.stderr:write(require("report").text(err), "\n")

local report = {}

local OURS = "^%s*runtime/lua/[%w_]+%.lua:"
local HARNESS = {cli = true, repl = true, test = true}

local function harness(line)
  local name = line:match "^%s*runtime/lua/([%w_]+)%.lua:"
  return name and HARNESS[name]
end

--- The trace without the frames of the command line, the REPL and the test runner; "" when
--- nothing is left.
---@param trace string?
---@return string
function report.trim(trace)
  local lines = {}
  for line in (trace or ""):gmatch "[^\n]+" do
    if harness(line) then break end
    local handler = #lines == 1 and line == "\t[C]: in ?" -- that made the trace
    if not handler then lines[#lines + 1] = line end
  end
  while lines[#lines] and lines[#lines]:find "^%s*%[C%]:" do lines[#lines] = nil end
  if lines[#lines] == "stack traceback:" then lines[#lines] = nil end
  local text = table.concat(lines, "\n")
  text = text:gsub(", by a task spawned at runtime/lua/[^\n]*", "")
  return (text:gsub("\nspawned at runtime/lua/[^\n]*", ""))
end

--- Only the frames of the user's own code, without C functions and built-in modules.
---@param trace string?
---@return string
function report.user_frames(trace)
  local lines = {}
  for line in report.trim(trace):gmatch "[^\n]+" do
    local frame = line:find "^%s"
    local dull = line:find "^%s*%[C%]:" or line:find(OURS) or
      line:find "^%s*stdin:%d+: in main chunk"
    if not frame or not dull then
      lines[#lines + 1] = line
    end
  end
  local frames = #lines
  for _, line in ipairs(lines) do
    if not line:find "^%s" then frames = frames - 1 end
  end
  return frames > 0 and table.concat(lines, "\n") or ""
end

local function add(lines, text)
  if text ~= "" then lines[#lines + 1] = text end
end

--- The message without kind and code, and below it each of the details, which are texts.
---@param err table an error object
---@return string
function report.message(err)
  local lines = {err.message}
  for _, text in ipairs(type(err.details) == "table" and err.details or {}) do
    add(lines, "  " .. tostring(text))
  end
  return table.concat(lines, "\n")
end

--- Message, trace and causes, several lines, without a line end.
---@param err table an error object
---@param trim (fun(trace: string?): string)? report.trim by default
---@return string
function report.text(err, trim)
  trim = trim or report.trim
  local lines = {(tostring(err):gsub(" %[internal%]$", ""))} -- a plain Lua error
  add(lines, trim(err.trace))
  local cause = err.cause
  for _ = 1, 8 do
    if type(cause) ~= "table" then break end
    add(lines, "caused by: " .. tostring(cause))
    add(lines, trim(cause.trace))
    cause = cause.cause
  end
  return table.concat(lines, "\n")
end

return report
