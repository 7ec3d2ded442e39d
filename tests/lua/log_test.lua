--- The log: form, levels, fields, what outside text cannot do to it.

local json = require "json"
local program = require "program"

local function logged(text, option)
  return program.run{"--log-level=debug", option or "-W", "-e",
    "local log = require 'log' " .. text}.stderr
end

local function entry(text)
  local line = logged(text)
  assert(select(2, line:gsub("\n", "")) == 1, line)
  return json.decode(line)
end

test("without a terminal a line is one JSON object", function(t)
  local e = entry "log.warn('%d of %s', 3, 'x')"
  t:equal({e.level, e.message, e.component, e.task}, {"warn", "3 of x", "(command line)",
    1})
  assert(e.time:find "^%d+%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ$", e.time)
end)

test("--log-text gives text", function(t)
  t:equal(logged("log.warn('x')", "--log-text"), "warn: (command line): x\n")
end)

test("lines below the level are dropped, and their text is not made", function(t)
  t:equal(logged([[log.info("x %s", setmetatable({}, {__tostring = function()
    error "made" end})) log.error "y"]], "--log-level=error"):match '"message":"(.-)"',
      "y")
end)

test("a text alone is not a format", function(t)
  t:equal(entry("log.info '100%s'").message, "100%s")
end)

test("fields of a logger stand in its lines, inner ones win", function(t)
  local e = entry "log.with{org = 'A', n = 1}:with{n = 2, ok = true}:info('x %d', 4)"
  t:equal({e.org, e.n, e.ok, e.message}, {"A", 2, "true", "x 4"})
end)

test("fields in text form follow the message", function(t)
  t:equal(logged("log.with{org = 'Example Corp'}:info 'x'", "--log-text"),
    "info: (command line): x (org Example Corp)\n")
end)

test("the context stands in every line of the VM", function(t)
  t:equal(entry("log.context{flow = 'f1', org = 'A'} log.info 'x'").flow, "f1")
end)

test("a task other than the main one is named", function(t)
  local text = logged("local g <close> = require('task').group() " ..
    "g:spawn(function() log.info 'x' end)", "--log-text")
  t:equal(text, "info: (command line): x (task 2)\n")
end)

test("the component is the script's name", function(t)
  local path = program.file(t:tmpdir(), "renewal.lua", "require('log').info 'x'")
  t:equal(json.decode(program.run{path}.stderr).component, "renewal")
end)

test("outside text cannot start a line or steer the terminal", function(t)
  local text = logged("log.info('a\\nerror: b: c\\27[2J\\r\\194\\155\\255')",
    "--log-text")
  t:equal(text, "info: (command line): a\n    error: b: c\\x1b[2J\\x0d\\xc2\\x9b\\xff\n")
end)

test("JSON lines stay JSON whatever is in them", function(t)
  local e = entry [[log.with{['k"\n'] = 'v"\\\1'}:info('a\n"b\\\27\255é')]]
  t:equal(e.message, 'a\n"b\\\27\\xffé')
  t:equal(e['k"\n'], 'v"\\\1')
end)

test("a huge message is cut", function()
  assert(#logged "log.info(('x'):rep(1e6))" < 40000)
end)
