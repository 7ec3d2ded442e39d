--- Support of the tests of `secrun serve`: an estate in a folder of its own, with flows.
--
--     local home = serve_home.new(t, {schedules = [[{name = "tick", at = "every 1s", …}]]})
--     local server = home:serve()          -- runs, and says it is ready
--     home:run("flow", "list")

local fs = require "fs"
local json = require "json"
local process = require "process"
local task = require "task"

local program = require("load").paths().program

local Home = {}
Home.__index = Home

--- Flows of the estate: mark writes its id to a file, gate waits for a message and then
--- does so, slow waits for a file to appear.
local FLOWS = {
  mark = [[
local fs = require "fs"
function run(f, input)
  f:step("mark", function() fs.append(input.file, f.id .. "\n") end)
  return "marked"
end]],
  gate = [[
local fs = require "fs"
function run(f, input)
  f:step("begin", function() return {at = "the gate"} end)
  local word = f:wait("open", {timeout = "30d"})
  f:step("mark", function() fs.append(input.file, tostring(word) .. "\n") end)
  return word
end]],
  slow = [[
local fs = require "fs"
local task = require "task"
function run(f, input)
  f:step("begin", function() fs.append(input.file, "begun\n") end)
  f:step("slow", function()
    while not fs.exists(input.file .. ".go") do task.sleep(0.02) end
    fs.append(input.file, "done\n")
  end)
end]],
  fragile = [[
local fs = require "fs"
function run(f, input)
  f:step("look", function() return #fs.read(input.file) end)
end]],
  broken = [[
function run(f, input)
  f:step("first", function() return 1 end)
  f:step("second", function() error("no such luck") end)
end]],
}

local serve_home = {}

--- Look again until look() gives a true value, and return it; after a minute the last one,
--- so that the test's own check says what was seen.
function serve_home.eventually(look)
  for _ = 1, 1200 do
    local seen = look()
    if seen then return seen end
    task.sleep(0.05)
  end
  return look()
end

--- A fresh estate. `schedules` is Lua text in which HOME is its folder; the shipped ones
--- are off.
---@param options {schedules: string?, more: string?}? more: text of the estate file
function serve_home.new(t, options)
  local self = setmetatable({t = t, dir = t:tmpdir()}, Home)
  fs.mkdir(self.dir .. "/flows")
  for name, text in pairs(FLOWS) do
    fs.write(("%s/flows/%s.lua"):format(self.dir, name),
      'description = "Of a test."\n' .. text)
  end
  self.config, self.file = self.dir .. "/estate.lua", self.dir .. "/marks"
  options = options or {}
  self:estate(options.schedules, options.more)
  return self
end

--- Write the estate file.
function Home:estate(schedules, more)
  local text = ([[
state = "HOME/state"
acme = {directory = "https://127.0.0.1:1/dir", terms_agreed = true}
challenge = {listen = "127.0.0.1:1"}
allow_internal = {"test"}
certificates = {{name = "www", domains = {"www.a.test"}}}
%s
schedules = {
  {name = "renew", enabled = false}, {name = "watch", enabled = false},
  %s
}
]]):format(more or "", schedules or "")
  fs.write(self.config, (text:gsub("HOME/", self.dir .. "/")))
end

--- Run a command on this estate; status, stdout, stderr.
function Home:run(...)
  local argv = table.pack(program, ...)
  argv.n, argv[argv.n + 1], argv[argv.n + 2] = nil, "--config", self.config
  return process.run{argv = argv, check = false, timeout = "30s",
    env = {NOTIFY_SOCKET = false}}
end

--- The same, which must end with that status; its output.
function Home:expect(status, ...)
  local result = self:run(...)
  local text = result.stdout .. result.stderr
  if result.status ~= status then
    local got = result.status or result.signal
    error(("status %s, want %d\n%s"):format(got, status, text), 2)
  end
  return text
end

--- What a command says as JSON.
function Home:json(...)
  local result = self:run(...)
  if result.status ~= 0 then error(result.stderr, 2) end
  return json.decode(result.stdout)
end

--- Read the server's output until a line has the pattern; the line.
function Home:line(child, pattern)
  local seen = {}
  for _ = 1, 2000 do
    local line = child:read_line "30s"
    if not line then break end
    seen[#seen + 1] = line
    if line:find(pattern) then return line end
  end
  error(("no line with %q in\n%s"):format(pattern, table.concat(seen, "\n")), 2)
end

--- Start a server without waiting for it.
function Home:start(words, env)
  local child = process.spawn{argv = {program, "serve", "--config", self.config,
    table.unpack(words or {})}, env = env or {NOTIFY_SOCKET = false}}
  self.t:defer(function() child:close() end)
  return child
end

--- Start a server; it is ready.
function Home:serve(words, env)
  local child = self:start(words, env)
  self:line(child, "^ready: ")
  return child
end

--- The lines that flows have written, once there are that many.
function Home:marks(count)
  local function read()
    local lines = {}
    for line in (fs.exists(self.file) and fs.read(self.file) or ""):gmatch "[^\n]+" do
      lines[#lines + 1] = line
    end
    return lines
  end
  return serve_home.eventually(function()
    local lines = read()
    return #lines >= (count or 1) and lines
  end) or read()
end

return serve_home
