--- Support: a program on a terminal of its own, by tmux, typed to and looked at.
--
--     local terminal = require "terminal"
--     local screen = terminal.start(t, {"secrun"})
--     screen:type "1 + 1"
--     screen:key "Enter"
--     screen:wait "\n2\n"

local process = require "process"
local task = require "task"
local time = require "time"

local terminal = {}

local Screen = {}
Screen.__index = Screen

function Screen:tmux(...)
  return process.run{argv = {"tmux", "-S", self.socket, "-f", "/dev/null", ...},
    env = {TMUX = false}, timeout = "10s"}.stdout
end

--- Type text as it is.
function Screen:type(text)
  self:tmux("send-keys", "-t", "0", "-l", text)
end

--- Press keys by their tmux names: "Enter", "C-c", "Tab".
function Screen:key(...)
  self:tmux("send-keys", "-t", "0", ...)
end

--- Type a line and end it.
function Screen:line(text)
  self:type(text)
  self:key "Enter"
end

--- Everything shown so far; no line has spaces at its end, nor has the text.
function Screen:text()
  return (self:tmux("capture-pane", "-p", "-t", "0", "-S", "-"):gsub("%s+$", ""))
end

--- Wait until the text shown matches the Lua pattern; returns the text.
function Screen:wait(pattern)
  local text
  local deadline = time.cpu() + 20
  repeat
    task.sleep(0.03)
    text = self:text()
    if text:find(pattern) then return text end
  until time.cpu() > deadline
  error(("%q did not appear; the terminal shows:\n%s"):format(pattern, text), 2)
end

local function quoted(word) return "'" .. word:gsub("'", "'\\''") .. "'" end

--- Run argv on a terminal of 80 columns and 24 lines; its exit status is shown at its end.
---@param t table the test
---@param argv string[]
---@param options {env: table<string, string>?, columns: integer?}?
function terminal.start(t, argv, options)
  options = options or {}
  local words = {"env"}
  for name, value in pairs(options.env or {}) do
    words[#words + 1] = name .. "=" .. value
  end
  table.move(argv, 1, #argv, #words + 1, words)
  for i, word in ipairs(words) do words[i] = quoted(word) end
  local screen = setmetatable({socket = t:tmpdir() .. "/tmux"}, Screen)
  screen:tmux("new-session", "-d", "-x", tostring(options.columns or 80), "-y", "24",
    table.concat(words, " ") .. '; echo "status $?"; sleep 60')
  t:defer(function() screen:tmux("kill-server") end)
  return screen
end

return terminal
