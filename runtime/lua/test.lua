--- The test runner behind `secrun test [FILE…] [--filter=TEXT]`.
--
--     test("adds", function(t) t:equal(1 + 1, 2) end)
--     test("waits a year", {clock = "virtual"}, function() task.sleep "365d" end)

local task = require "task"
local time = require "time"
local errors = require "errors"

local test = {}

local methods = {}
methods.__index = methods

local function show(value, depth)
  if type(value) == "string" then return ("%q"):format(value) end
  if type(value) ~= "table" or depth > 4 then return tostring(value) end
  local parts = {}
  for k, v in pairs(value) do
    parts[#parts + 1] = ("[%s]=%s"):format(show(k, depth + 1), show(v, depth + 1))
  end
  table.sort(parts)
  return "{" .. table.concat(parts, ", ") .. "}"
end

local function same(a, b)
  if rawequal(a, b) or a == b then return true end
  if type(a) ~= "table" or type(b) ~= "table" then return false end
  for k, v in pairs(a) do
    if not same(v, b[k]) then return false end
  end
  for k in pairs(b) do
    if a[k] == nil then return false end
  end
  return true
end

--- Deep comparison.
function methods:equal(got, want, what)
  if same(got, want) then return end
  error(("%sgot %s, want %s"):format(what and what .. ": " or "", show(got, 1),
    show(want, 1)), 2)
end

--- fn must raise; kind (nil: any) and a Lua pattern for its text are checked.
function methods:raises(fn, kind, pattern)
  local ok, err = pcall(fn)
  if ok then error("no error was raised", 2) end
  err = errors.object(err)
  if kind and err.kind ~= kind then
    error(("kind %s, want %s: %s"):format(err.kind, kind, tostring(err)), 2)
  end
  if pattern and not tostring(err):find(pattern) then
    error(("%q does not match %q"):format(tostring(err), pattern), 2)
  end
  return err
end

--- Run fn when the test ends, latest first, also when it failed.
function methods:defer(fn)
  table.insert(self.deferred, 1, fn)
end

--- A fresh folder, removed at the end.
function methods:tmpdir()
  local fs = require "fs"
  local path = fs.tmpdir()
  self:defer(function() fs.remove_tree(path) end)
  return path
end

local function run_deferred(t)
  local first
  for _, fn in ipairs(t.deferred) do
    local ok, err = xpcall(fn, errors.object)
    if not ok then first = first or err end
  end
  if first then error(first, 0) end
end

local function run_one(case)
  local before = task.count()
  local t = setmetatable({deferred = {}}, methods)
  if case.clock == "virtual" then time.virtual() end
  local ok, err = xpcall(task.timeout, errors.object, case.clock == "virtual" and "10000d" or case.timeout or "30s", function()
    local guard <close> = setmetatable({}, {__close = function() run_deferred(t) end})
    case.fn(t)
  end)
  time.real()
  if ok and task.count() ~= before then
    ok, err = false, errors.new{kind = "internal",
      message = ("%d tasks left behind"):format(task.count() - before)}
  end
  return ok, err
end

local function collect(path)
  local cases = {}
  local env = setmetatable({
    test = function(name, options, fn)
      if type(options) == "function" then options, fn = {}, options end
      cases[#cases + 1] = {name = name, fn = fn, clock = options.clock,
        timeout = options.timeout}
    end,
  }, {__index = function(_, key)
    local value = _G[key]
    if value == nil then error("undefined global " .. tostring(key), 2) end
    return value
  end})
  local chunk, message = require("load").file(path, env)
  if not chunk then error(message, 0) end
  local folder = path:match("^(.*)/[^/]*$") or "."
  package.path = folder .. "/?.lua;" .. package.path
  chunk()
  return cases
end

--- `secrun test`: returns the exit status.
function test.main(words)
  local passed, failed, filter, files = 0, 0, nil, {}
  for _, word in ipairs(words) do
    if word:find("^%-%-filter=") then filter = word:sub(10) else files[#files + 1] = word end
  end
  for _, path in ipairs(files) do
    for _, case in ipairs(collect(path)) do
      if not filter or case.name:find(filter, 1, true) then
        local ok, err = run_one(case)
        if ok then
          passed = passed + 1
        else
          failed = failed + 1
          print(("not ok %s: %s"):format(path, case.name))
          print("  " .. tostring(err))
          print("  " .. tostring(err.trace):gsub("\n", "\n  "))
        end
      end
    end
  end
  print(("%d passed, %d failed"):format(passed, failed))
  return (failed > 0 or passed == 0) and 1 or 0
end

return test
