--- Other programs: run to their end, or kept as children while a script needs them.
--
--     local process = require "process"
--     process.run{argv = {"nginx", "-t"}, timeout = "30s"}
--     local server <close> = process.spawn{argv = {"pebble"}}
--     repeat local line = server:read_line() until line:find "listening"

local core = require "process.core"

local process = {
  --- Start a program that goes on running; options as for run, without timeout and check.
  --- Its stdout and stderr come as one stream, of which the end is kept. The child
  --- has `pid`, `running`, `:read_line(timeout)`, `:output()`, `:wait(timeout)`,
  --- `:kill(signal)` and `:close()`, which ends its whole group and reaps it.
  spawn = core.spawn,
  --- The value of an environment variable, or nil. Raises denied.
  env = core.env,
  --- Do not let children inherit this variable; `secret "env:NAME"` does so for NAME.
  withhold = core.withhold,
  --- Raise usage unless the value is a command: a list of strings without secrets.
  check_argv = core.check_argv,
  --- Our own process id.
  pid = core.pid,
  --- The effective user id; 0 is root.
  uid = core.uid,
}

---@class process.result
---@field status integer? nil when a signal ended it
---@field signal string? "SIGTERM" …; nil when it exited
---@field stdout string the first max_output bytes
---@field stderr string the last max_output bytes
---@field duration number seconds
---@field truncated boolean more was written than kept

---@class process.run_options
---@field argv string[] the command; no shell, so no quoting
---@field env table<string, string|integer|false>? false takes one away; secrets too. A
---  variable that `secret "env:NAME"` names is passed only if it stands here
---@field clear_env boolean? begin with an empty environment
---@field cwd string?
---@field user string? run as this user and its group; needs root
---@field stdin string? or a secret; nothing by default
---@field timeout number|string? "5m" by default
---@field max_output integer? bytes kept of each stream, 1 MiB by default
---@field check boolean? raise unless it ends with status 0 (true)

--- Run a command to its end. On time-out or cancellation its whole process group gets
--- TERM, 2 s later KILL, and is reaped before this returns.
---@param options process.run_options
---@return process.result
--- Raises usage; denied; not_found for a program that is not there; timeout; with `check`
--- io when the status is not 0, with the last lines of stderr in the text.
function process.run(options)
  local child <close> = core.start_run(options)
  return core.finish_run(child)
end

return process
