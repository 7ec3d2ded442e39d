--- Support of the tests that run this program itself.
--
--     local program = require "program"
--     local result = program.run({"-e", "print(1)"})

local process = require "process"

local program = {path = require("load").paths().program}

--- Variables that would change what the program does.
local QUIET = {LUA_INIT = false, LUA_INIT_5_4 = false, LUA_PATH = false,
  SECRUN_INIT = false,
  SECRUN_SCRIPTS = false, NO_COLOR = false}

local function env_with(more)
  local env = {}
  for name, value in pairs(QUIET) do env[name] = value end
  for name, value in pairs(more or {}) do env[name] = value end
  return env
end

--- Run the program with these words to its end; status, signal, stdout, stderr.
---@param words string[]
---@param options {env: table?, stdin: string?, cwd: string?}?
function program.run(words, options)
  options = options or {}
  return process.run{argv = {program.path, table.unpack(words)}, check = false,
    timeout = "20s", env = env_with(options.env), stdin = options.stdin,
      cwd = options.cwd}
end

--- Run a shell line; "$0" is the program.
function program.shell(line, options)
  options = options or {}
  return process.run{argv = {"/bin/sh", "-c", line, program.path}, check = false,
    timeout = "20s", env = env_with(options.env), cwd = options.cwd}
end

--- Start the program and leave it running; its output is one stream.
function program.start(words, options)
  return process.spawn{argv = {program.path, table.unpack(words)},
    env = env_with(options and options.env)}
end

--- Write a file and return its path.
function program.file(folder, name, text)
  local path = folder .. "/" .. name
  local file <close> = assert(io.open(path, "w"))
  file:write(text)
  return path
end

return program
