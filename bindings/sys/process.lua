--- Other programs: run to their end, or kept as children while a script needs them.
--
--     local process = require "process"
--     process.run{argv = {"nginx", "-t"}, timeout = "30s"}
--     local server <close> = process.spawn{argv = {"pebble"}}
--     repeat local line = server:read_line() until line:find "listening"

local core = require "process.core"

local process = {
  --- Start a program that goes on running; stdout and stderr come as one stream. The child
  --- has `pid`, `running`, `:read_line(timeout)`, `:output()`, `:wait(timeout)`,
  --- `:kill(signal)` and `:close()`, which ends its whole group and reaps it.
  spawn = core.spawn,
  --- The value of an environment variable, or nil. Raises denied.
  env = core.env,
  --- Raise usage unless the value is a command: a list of strings without secrets.
  check_argv = core.check_argv,
  --- Our own process id.
  pid = core.pid,
  --- The effective user id; 0 is root.
  uid = core.uid,
}

---@class process.result
---@field status integer? exit status; nil when a signal ended it
---@field signal string? "SIGTERM" …; nil when it exited
---@field stdout string the first max_output bytes
---@field stderr string the last max_output bytes
---@field duration number seconds
---@field truncated boolean more was written than kept

--- Run a command to its end. No shell: `argv` is a list. On time-out or cancellation its
--- whole process group gets TERM, 2 s later KILL, and is reaped before this returns.
---@param options {argv: string[], env: table<string, string|false>?, clear_env: boolean?, cwd: string?, stdin: string?, timeout: number|string?, max_output: integer?, check: boolean?, user: string?}
---@return process.result
--- Raises usage; denied; not_found for a program that is not there; timeout; with `check`
--- (the default) io when the status is not 0, with the last lines of stderr.
function process.run(options)
  local child <close> = core.start_run(options)
  return core.finish_run(child)
end

return process
