-- Backup and restore killed at each of their crash points in turn: there is always one whole
-- store, or a message that says how to get it.
local fs = require "fs"
local process = require "process"
local store = require "store"

local CRASH = require("load").paths().program:gsub("[^/]+$", "secrun_crash")

--- Run Lua text in a process that dies at crash point n; true when it did not get there.
local function run(text, n)
  local result = process.run{argv = {CRASH, "-e", text}, check = false,
    env = {SECRUN_CRASH_AT = n}}
  if result.signal then return false end
  assert(result.status == 0, result.stderr)
  return true
end

local function numbers(path)
  local db <close> = store.open(path, {migrate = false, create = false})
  assert(db:check().ok)
  return #db:rows("SELECT n FROM item")
end

local function made(path, count)
  local db <close> = store.open(path, {migrate = false})
  db:exec("CREATE TABLE item (n BIGINT)")
  db:exec("INSERT INTO item VALUES (1)" .. (", (2)"):rep(count - 1))
end

test("a restore killed at any point", {timeout = "60s"}, function(t)
  local points, interrupted, done = 0, 0, false
  while not done do
    local dir = t:tmpdir()
    local path, backup = dir .. "/secrun.db", dir .. "/backup.db"
    made(path, 2)
    made(backup, 5)
    local text = ("require'store'.restore(%q, %q)"):format(backup, path)
    points = points + 1
    done = run(text, points)
    local n, err = try(numbers, path)
    if err then
      t:equal(err.code, "RESTORE", tostring(err))
      interrupted = interrupted + 1
    else
      t:equal(n == 2 or n == 5, true)
    end
    run(text, 1000)
    t:equal(numbers(path), 5)
  end
  t:equal(points > 6 and interrupted >= 2, true, points .. " points")
end)

test("a backup killed at any point leaves none by halves", {timeout = "60s"}, function(t)
  local points, done = 0, false
  while not done do
    local dir = t:tmpdir()
    local path, backup = dir .. "/secrun.db", dir .. "/backup.db"
    made(path, 3)
    points = points + 1
    done = run(([[local db <close> = require "store".open(%q, {migrate = false})
      db:backup(%q)]]):format(path, backup), points)
    t:equal(numbers(path), 3)
    if fs.exists(backup) then t:equal(numbers(backup), 3) end
  end
  t:equal(points > 2, true)
end)
