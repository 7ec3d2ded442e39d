--- Progress: log lines without a terminal, a live line on one.

local json = require "json"
local process = require "process"
local program = require "program"

local VIRTUAL = "require('time').virtual() local task = require 'task' " ..
  "local p = require('progress').start{label = 'renewing', total = 500} "

local function messages(text)
  local list = {}
  for line in program.run{"-e", text}.stderr:gmatch "[^\n]+" do
    list[#list + 1] = json.decode(line).message
  end
  return list
end

test("without a terminal: a log line every ten seconds and one at the end", function(t)
  t:equal(messages(VIRTUAL ..
    "for i = 1, 250 do task.sleep(0.1) p:step(1, 'www' .. i) end " ..
    "p:close()"), {
    "renewing: 100 of 500 20% 10.0/s 40s left  www100",
    "renewing: 200 of 500 40% 10.0/s 30s left  www200",
    "renewing: ended, 250 of 500 in 25s"})
end)

test("without a total it counts", function(t)
  t:equal(messages("local p <close> = require('progress').start{label = 'reading'} " ..
    "p:step(3)"), {"reading: ended, 3 in 0s"})
end)

test("the total may become known later", function(t)
  t:equal(messages("local p <close> = require('progress').start{label = 'reading'} " ..
    "p:expect(4) p:step(3)"), {"reading: ended, 3 of 4 in 0s"})
end)

test("options are checked", function(t)
  local progress = require "progress"
  t:raises(function() progress.start{totl = 1, label = "x"} end, "usage",
    "did you mean total")
  t:raises(function() progress.start{} end, "usage", "label is missing")
end)

--- Run on a terminal of its own, 60 columns wide; what it was sent.
local function on_terminal(text, env)
  local line = ("stty cols 60; exec '%s' -e \"%s\""):format(program.path, text)
  local all = {TERM = "xterm", LUA_INIT = false}
  for name, value in pairs(env or {}) do all[name] = value end
  return process.run{argv = {"script", "-qec", line, "/dev/null"}, env = all,
    timeout = "20s"}.stdout
end

local function live(steps)
  return "local task = require 'task' do local p <close> = require('progress')" ..
    ".start{label = 'renewing', total = 20} for i = 1, 20 do task.sleep(0.03) " ..
    "p:step(1, 'www' .. i) " .. (steps or "") .. " end end print 'end'"
end

test("on a terminal it is one line, drawn again at most ten times a second", function()
  local text = on_terminal("local began = require('time').cpu() " .. live() ..
    " print(require('time').cpu() - began)")
  local drawn, seconds = select(2, text:gsub("renewing", "")), text:match "([%d.]+)%s*$"
  local most = 2 + 10 * tonumber(seconds)
  assert(drawn >= 3 and drawn <= most, drawn .. " drawings: " .. text)
  assert(text:find "\r\27%[Kend\r\n[%d.]+\r\n$", text)
  assert(not text:find "renewing[^\r]*\n", text)
end)

test("print and the log take the line away first and put it back", function()
  local text =
    on_terminal(live "if i == 10 then print 'printed' require('log').warn 'logged' end")
  assert(text:find("\r\27[Kprinted\r\nrenewing", 1, true), text)
  assert(text:find("\r\27[Kwarn: (command line): logged\r\nrenewing", 1, true), text)
end)

test("an unfinished line of output is left alone until it ends", function()
  local text = on_terminal(live("if i == 5 then io.write 'half' io.flush() end " ..
    "if i == 15 then io.write ' whole\\n' end"))
  assert(text:find("half whole\r\n", 1, true), text)
end)

test("the line is cut to the terminal's width", function()
  local text = on_terminal("local p <close> = require('progress').start{label = " ..
    "('x'):rep(200)} p:step(1, ('y'):rep(200))")
  for line in text:gmatch "[^\r\n]+" do
    assert(#line:gsub("\27%[K", "") < 60, line)
  end
end)

test("a dumb terminal gets no control sequence", function()
  local text = on_terminal(live(), {TERM = "dumb"})
  assert(text:find "renewing" and not text:find "\27", text)
end)
