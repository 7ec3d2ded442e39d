--- The REPL: every line is a task, Ctrl-C cancels the line only, Ctrl-D leaves.
--
-- A line is tried as an expression, then as a statement; an unfinished one goes on with the
-- next. Results are shown readably, the last one is in `_`. Locals end with their line.

local cli_core = require "cli.core"
local core = require "repl.core"
local errors = require "errors"
local report = require "report"
local show = require("inspect").show
local task = require "task"

local repl = {}

local HISTORY_LINES = 1000
local HISTORY_BYTES = 256 * 1024

-- ---------------------------------------------------------------- history

local function state_folder()
  local dir = (cli_core.getenv "STATE_DIRECTORY" or ""):match "^[^:]+"
  if dir then return dir end
  local base = cli_core.getenv "XDG_STATE_HOME"
  if base and base:sub(1, 1) == "/" then return base .. "/secrun" end
  local home = cli_core.getenv "HOME"
  return home and home ~= "" and home .. "/.local/state/secrun" or nil
end

--- A line that spells a secret out, or may, is not written to the history file.
---@param line string
---@return boolean
function repl.is_private(line)
  local lower = line:lower()
  if lower:find "%f[%w_]secret%f[^%w_]" then return true end
  if lower:find "[%w_]*passw[%w_]*[%]\"' ]*=" or
    lower:find "[%w_]*token[%w_]*[%]\"' ]*=" or
    lower:find "hmac_key[%]\"' ]*=" or lower:find "begin [%w ]*private key" then
    return true
  end
  return core.redacted(line) ~= line
end

local History = {}
History.__index = History

--- Lines of earlier sessions, the newest last.
function History:load()
  local text = self.path and try(cli_core.read, self.path, HISTORY_BYTES, true) or ""
  local lines = {}
  for line in text:gmatch "[^\n]+" do lines[#lines + 1] = line end
  for i = math.max(1, #lines - HISTORY_LINES + 1), #lines do
    core.remember(lines[i])
    self.last = lines[i]
  end
end

function History:add(line)
  if not line:find "%S" or line == self.last then return end
  self.last = line
  core.remember(line)
  if not self.path or repl.is_private(line) then return end
  if not core.append(self.path, line) then
    require("log").debug("the history cannot be kept in %s", self.path)
    self.path = nil
  end
end

local function open_history(terminal)
  local folder = terminal and state_folder()
  local history = setmetatable({path = folder and folder .. "/history"}, History)
  history:load()
  return history
end

-- ---------------------------------------------------------------- a line

local function incomplete(message)
  return type(message) == "string" and message:find("<eof>", 1, true) ~= nil
end

--- Text as a function: an expression, `=expression`, or statements.
local function compile(text)
  local expression = text:gsub("^%s*=", "")
  local fn = load("return " .. expression, "=stdin")
  if fn then return fn end
  return load(text, "=stdin")
end

local function prompt(name, default)
  local value = rawget(_G, name)
  return value ~= nil and tostring(value) or default
end

--- Lines until they are a chunk: its function, or nil and the message of a wrong one, or
--- nothing at the end of the input.
local function read_chunk(history)
  local text
  while true do
    local line, interrupted = core.read(text and prompt("_PROMPT2", "     >> ") or
      prompt("_PROMPT", "secrun> "))
    if interrupted then
      text = nil
    elseif not line then
      if not text then return nil end
      return nil, select(2, compile(text))
    else
      history:add(line)
      text = text and text .. "\n" .. line or line
      local fn, message = compile(text)
      if fn or not incomplete(message) then return fn, message end
    end
  end
end

local function print_results(results, first, options)
  if results.n < first then return end
  _G._ = results[first]
  local parts = {}
  for i = first, results.n do parts[#parts + 1] = show(results[i], options) end
  print(table.concat(parts, table.concat(parts):find "\n" and "\n" or "\t"))
end

local function print_error(err)
  if err.kind == "cancelled" and core.interrupted() then
    cli_core.complain("interrupted\n")
  else
    cli_core.complain(report.text(err, report.user_frames) .. "\n")
  end
end

--- Run the chunk as a task of its own; its results, or false and its error.
local function run(fn)
  local group <close> = task.group()
  local line = group:spawn(function() return xpcall(fn, errors.object) end)
  core.watch(line)
  local results = table.pack(pcall(line.join, line))
  core.watch(nil)
  if not results[1] then return {n = 2, false, errors.object(results[2])} end
  return {n = results.n - 1, table.unpack(results, 2, results.n)}
end

local function colour()
  local term, plain = cli_core.getenv "TERM", cli_core.getenv "NO_COLOR"
  return cli_core.terminal(1) and (plain == nil or plain == "") and term ~= nil and
    term ~= "dumb"
end

--- Read, run and print until the end of the input; the exit status.
---@return integer
function repl.run()
  local history = open_history(core.start())
  local coloured = colour()
  while true do
    local fn, message = read_chunk(history)
    if fn then
      local results = run(fn)
      if results[1] then
        print_results(results, 2, {colour = coloured, width = core.width() - 1})
      else
        print_error(results[2])
      end
    elseif message then
      cli_core.complain(message .. "\n")
    else
      return 0
    end
  end
end

return repl
