--- The test runner behind `secrun test [FILE or FOLDER…]`.
--
--     test("adds", function(t) t:equal(1 + 1, 2) end)
--     test("waits a year", {clock = "virtual"}, function() task.sleep "365d" end)
--     test("is slow", {timeout = "30s"}, function(t) local folder = t:tmpdir() … end)
--
-- Every test is a task. It fails when it raises, when its time is over (real time, also
-- under the virtual clock), and when it leaves tasks, descriptors, handles or temporary
-- folders behind. Files run in the order of their names, tests in the order of the file.

local core = require "test.core"
local cli = require "cli"
local cli_core = require "cli.core"
local errors = require "errors"
local report = require "report"
local show = require("inspect").show
local task = require "task"
local time = require "time"

local test = {}

local DEFAULT_TIMEOUT = "30s"
local TEST_OPTIONS = {
  {name = "timeout", type = "duration", positive = true,
    doc = "real time it may take (30s)"},
  {name = "clock", type = "enum", choices = "virtual|real",
    doc = "whose time it sees (real)"},
  {name = "leaks", type = "boolean", doc = "it may leave descriptors and handles behind"},
}

-- ---------------------------------------------------------------- what a test can do

local Test = {}
Test.__index = Test

local function same(a, b, seen)
  if rawequal(a, b) or a == b then return true end
  if type(a) ~= "table" or type(b) ~= "table" then return false end
  if seen[a] == b then return true end
  seen[a] = b
  for k, v in pairs(a) do
    if not same(v, b[k], seen) then return false end
  end
  for k in pairs(b) do
    if a[k] == nil then return false end
  end
  return true
end

--- Fail unless the two are equal, tables by content.
---@param got any
---@param want any
---@param what string? begins the message
function Test:equal(got, want, what)
  if same(got, want, {}) then return end
  local options = {depth = 8, width = 100}
  error(("%sgot %s\nwant %s"):format(what and what .. ": " or "", show(got, options),
    show(want, options)), 2)
end

--- Fail unless fn raises; kind (nil: any) and a Lua pattern for its text are checked.
---@param fn fun()
---@param kind string?
---@param pattern string?
---@return table err
function Test:raises(fn, kind, pattern)
  local ok, err = pcall(fn)
  if ok then error("no error was raised", 2) end
  if task.cancelled() then error(err, 0) end
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
---@param fn fun()
function Test:defer(fn)
  table.insert(self.deferred, 1, fn)
end

--- A fresh folder, removed at the end.
---@return string path
function Test:tmpdir()
  local path = core.make_folder()
  self:defer(function() core.remove_folder(path) end)
  return path
end

--- The virtual clock of a test with clock = "virtual".
local Clock = {}
Clock.__index = Clock

--- Move the clock on and let what is due run.
---@param duration number|string
function Clock:advance(duration)
  time.advance(duration)
  for _ = 1, 3 do task.sleep(0) end
end

--- The instant it shows, UTC seconds.
---@return number
function Clock:now()
  return time.now()
end

local function run_deferred(t)
  local first
  for _, fn in ipairs(t.deferred) do
    local ok, err = xpcall(fn, errors.object)
    if not ok then first = first or err end
  end
  if first then error(first, 0) end
end

-- ---------------------------------------------------------------- one test

local function body(case)
  local t = setmetatable({deferred = {}, name = case.name}, Test)
  if case.clock == "virtual" then
    time.virtual()
    t.clock = setmetatable({}, Clock)
  end
  local ok, err = xpcall(case.fn, errors.object, t)
  local clean, clean_err = xpcall(run_deferred, errors.object, t)
  if not ok then error(err, 0) end
  if not clean then error(clean_err, 0) end
end

local function last_words(case, counts)
  return ("not ok %s: %s\n  does not return, even to its cancellation\n" ..
    "%d passed, %d failed\n"):format(case.file, case.name, counts.passed,
    counts.failed + 1)
end

--- Run the test as a task of its own, under the watchdog.
local function run_body(case, counts)
  local group <close> = task.group()
  local running = group:spawn(function()
    return xpcall(body, errors.object, case)
  end)
  core.watch(running, case.timeout, last_words(case, counts))
  local joined, ok, err = pcall(running.join, running)
  local late = core.unwatch()
  if case.clock == "virtual" then time.real() end
  local unread = task.unread_errors()
  if joined and ok and unread[1] then
    ok, err = false, errors.new{kind = "internal", code = "UNREAD", cause = unread[1],
      message = "nobody read the errors of a task.each"}
    err.trace = ""
  end
  if not joined then ok, err = false, errors.object(ok) end
  if late and (ok or err.kind == "cancelled") then
    ok = false
    err = errors.new{kind = "timeout", cause = err,
      message = ("not finished after %s"):format(time.show(case.timeout))}
    err.trace = ""
  end
  return ok, err
end

local function leftovers(before, after)
  local list = {}
  for fd, target in pairs(after) do
    if before[fd] ~= target then list[#list + 1] = ("%d %s"):format(fd, target) end
  end
  table.sort(list)
  return list
end

local function size(set)
  local n = 0
  for _ in pairs(set) do n = n + 1 end
  return n
end

--- Closing handles and ending tasks get some turns, and dropped objects their collection.
local function settle(is_clean)
  for turn = 1, 50 do
    if is_clean() then return true end
    if turn % 10 == 3 then collectgarbage() end
    task.sleep(turn < 10 and 0 or 0.005)
  end
  return is_clean()
end

--- Modules that keep something open between calls offer close_idle().
local function close_idle()
  for _, module in pairs(package.loaded) do
    local close = type(module) == "table" and rawget(module, "close_idle")
    if close then close() end
  end
end

--- Run once; ok, error, and what was left open, if anything.
local function attempt(case, counts)
  local tasks, handles, fds = task.count(), core.handles(), core.descriptors()
  local count = size(fds)
  local ok, err = run_body(case, counts)
  close_idle()
  if not settle(function() return task.count() <= tasks end) and ok then
    ok, err = false, errors.new{kind = "internal", code = "LEAK",
      message = ("%d tasks are left running"):format(task.count() - tasks)}
    err.trace = ""
  end
  local clean = settle(function()
    return size(core.descriptors()) <= count and core.handles() <= handles
  end)
  if clean then return ok, err end
  local left = leftovers(fds, core.descriptors())
  return ok, err, ("%d handles and %d descriptors are left open%s%s"):format(
    math.max(core.handles() - handles, 0), math.max(size(core.descriptors()) - count, 0),
    #left > 0 and ": " or "", table.concat(left, ", "))
end

--- What a library opens once for the whole process is no leak: only a test that leaves
--- something open each time it runs has one.
local function run_one(case, counts)
  local ok, err, left = attempt(case, counts)
  if not ok or not left or case.leaks then return ok, err end
  ok, err, left = attempt(case, counts)
  if not ok or not left then return ok, err end
  err = errors.new{kind = "internal", code = "LEAK", message = left}
  err.trace = ""
  return false, err
end

-- ---------------------------------------------------------------- files

local function is_folder(path)
  return cli_core.scan(path) ~= nil
end

local function add_files(files, path)
  if not is_folder(path) then
    if not require("load").readable(path) then
      cli.usage_error(("cannot open %s: no such file or folder"):format(path))
    end
    files[#files + 1] = path
    return
  end
  local entries = cli_core.scan(path)
  for _, entry in ipairs(entries) do
    local inside = path:gsub("/$", "") .. "/" .. entry.name
    if entry.folder then
      add_files(files, inside)
    elseif entry.name:find "_test%.lua$" then
      files[#files + 1] = inside
    end
  end
end

local function define(cases, path)
  return function(name, options, fn)
    if type(options) == "function" then options, fn = {}, options end
    if type(name) ~= "string" or type(fn) ~= "function" then
      errors.raise("usage", "test(name, options?, fn): a name and a function are needed")
    end
    options = require("args").check("test", TEST_OPTIONS, options)
    cases[#cases + 1] = {file = path, name = name, fn = fn, clock = options.clock,
      leaks = options.leaks,
      timeout = require("args").duration(options.timeout or DEFAULT_TIMEOUT)}
  end
end

--- The tests of a file; it is run to find them.
local function collect(path)
  local cases = {}
  local env = require("strict").env{test = define(cases, path)}
  local chunk, message = require("load").file(path, env)
  if not chunk then error(message, 0) end
  chunk(path)
  return cases
end

--- Support modules stand beside the tests; a module of the same name beside other tests
--- is another one.
local function with_folder(path, fn)
  local folder = path:match "^(.*)/[^/]*$" or "."
  local old_path, old = package.path, {}
  for name in pairs(package.loaded) do old[name] = true end
  package.path = folder .. "/?.lua;" .. folder .. "/?/init.lua;" .. old_path
  fn()
  package.path = old_path
  for name in pairs(package.loaded) do
    if not old[name] and not package.preload[name] then package.loaded[name] = nil end
  end
end

local function print_failure(path, name, err)
  print(("not ok %s: %s"):format(path, name))
  print("  " .. report.text(err):gsub("\n", "\n  "))
end

local function run_file(path, options, counts)
  local ok, cases = xpcall(collect, errors.object, path)
  if not ok then
    counts.failed = counts.failed + 1
    print_failure(path, "the file", cases)
    return
  end
  local ran, failed, began = 0, 0, time.cpu()
  for _, case in ipairs(cases) do
    if options.filter and not case.name:find(options.filter, 1, true) then goto next end
    ran = ran + 1
    if options.list then
      print(path .. ": " .. case.name)
      goto next
    end
    local start = time.cpu()
    local passed, err = run_one(case, counts)
    case.seconds = time.cpu() - start
    counts.timings[#counts.timings + 1] = case
    counts[passed and "passed" or "failed"] = counts[passed and "passed" or "failed"] + 1
    if not passed then
      failed = failed + 1
      print_failure(path, case.name, err)
    elseif options.verbose then
      print(("ok %s: %s (%s)"):format(path, case.name, time.show(case.seconds)))
    end
    ::next::
  end
  counts.listed = counts.listed + ran
  if ran == 0 or options.list then return end
  print(("%s %s (%d tests, %s)"):format(failed == 0 and "ok" or "FAILED", path, ran,
    time.show(time.cpu() - began)))
end

local function print_slowest(timings)
  table.sort(timings, function(a, b) return a.seconds > b.seconds end)
  for i = 1, math.min(10, #timings) do
    local case = timings[i]
    print(("%8.3f s  %s: %s"):format(case.seconds, case.file, case.name))
  end
end

local OPTIONS = {
  {name = "filter", type = "string", value = "TEXT",
    doc = "only tests with TEXT in their name"},
  {name = "list", type = "flag", doc = "name the tests, run none"},
  {name = "verbose", type = "flag", doc = "a line for every test"},
  {name = "slow", type = "flag", doc = "the ten slowest at the end"},
}

--- `secrun test`: returns the exit status.
---@param words string[]
---@return integer
function test.main(words)
  local options, paths = require("options").parse(words, OPTIONS)
  local files = {}
  for _, path in ipairs(#paths > 0 and paths or {"tests/lua"}) do
    add_files(files, path)
  end
  local counts = {passed = 0, failed = 0, listed = 0, timings = {}}
  for _, path in ipairs(files) do
    with_folder(path, function() run_file(path, options, counts) end)
  end
  if options.list then return counts.listed > 0 and 0 or 1 end
  if options.slow then print_slowest(counts.timings) end
  print(("%d passed, %d failed"):format(counts.passed, counts.failed))
  return (counts.failed > 0 or counts.passed == 0) and 1 or 0
end

return test
