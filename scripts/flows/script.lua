description = "Run a script of this program, as a schedule does."

local errors = require "errors"
local process = require "process"

local KEPT = 2000 -- bytes of what it prints

local function tail(text)
  text = text:gsub("%s+$", "")
  return #text > KEPT and "…" .. text:sub(-KEPT) or text
end

--- Exit status 4 is fine: what it began goes on by itself.
local function run_script(input)
  local argv = {input.program, table.unpack(input.words)}
  local env = {SECRUN_CONFIG = input.config}
  for _, name in ipairs(input.pass or {}) do env[name] = process.env(name) end
  local result = process.run{argv = argv, env = env, check = false,
    timeout = input.timeout or "1h"}
  if result.status ~= 0 and result.status ~= 4 then
    errors.raise("io", ("secrun %s ended with %s: %s"):format(
      table.concat(input.words, " "), result.status and "status " .. result.status
        or result.signal, tail(result.stderr)), {code = "SCRIPT", status = result.status})
  end
  return {status = result.status, output = tail(result.stdout)}
end

--- A script may be run again: after a crash it is.
function run(f, input)
  return f:step("run " .. input.words[1], function() return run_script(input) end)
end
