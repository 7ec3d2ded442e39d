-- Several processes on one store: waiting, watching, dying.
local process = require "process"
local program = require "program"
local store = require "store"
local store_kill = require "store_kill"
local task = require "task"

local CHILD = debug.getinfo(1, "S").source:match("^@(.*)/") .. "/store_child.lua"
local PUT = "INSERT INTO item (id, half) VALUES ($id, 1)"

local function made(t)
  local path = t:tmpdir() .. "/secrun.db"
  store_kill.make(path)
  return path
end

local function child(...) return process.spawn{argv = {program.path, CHILD, ...}} end

test("a writer waits for one of another process", function(t)
  local path = made(t)
  local other <close> = child("hold", path, "0.2")
  t:equal(other:read_line("20s"), "held")
  local db <close> = store.open(path, {migrate = false})
  t:equal(#db:rows("SELECT id FROM item"), 0) -- reading waits for nobody
  db:exec(PUT, {id = "a"})
  t:equal(db:rows("SELECT id FROM item ORDER BY id"), {{id = "a"}, {id = "held"}})
end)

test("a store that stays busy says so, and the call may be repeated", function(t)
  local path = made(t)
  local other <close> = child("hold", path, "60")
  t:equal(other:read_line("20s"), "held")
  local db <close> = store.open(path, {migrate = false, busy = "50ms"})
  local err = t:raises(function() db:exec(PUT, {id = "a"}) end, "store", "is busy")
  t:equal({err.code, err.retryable}, {"BUSY", true})
  t:raises(function() db:transaction(function() end) end, "store", "is busy")
  other:kill("KILL")
  other:wait("20s")
  db:exec(PUT, {id = "a"})
  t:equal(db:rows("SELECT id FROM item"), {{id = "a"}}) -- what was not committed is gone
end)

test("a watcher sees commits of another process", {timeout = "60s"}, function(t)
  local path = made(t)
  local db <close> = store.open(path, {migrate = false, poll = "10ms"})
  local w <close> = db:watch()
  w:wait(0)
  local other <close> = child("write", path, "x")
  t:equal(w:wait("30s"), true)
  local line = other:read_line("30s")
  t:equal(#db:rows("SELECT half FROM item WHERE id = $id", {id = line}), 2)
end)

test("read only, a watcher sees them too", {timeout = "60s"}, function(t)
  local path = made(t)
  local db <close> = store.open(path, {migrate = false, read_only = true, poll = "10ms"})
  db:rows("SELECT id FROM item")
  local w <close> = db:watch()
  local other <close> = child("hold", path, "0")
  t:equal(w:wait("30s"), true)
  other:wait("30s")
  t:equal(#db:rows("SELECT id FROM item"), 1)
end)

test("what was queued when the program ends is whole or absent", function(t)
  local path = made(t)
  for _ = 1, 3 do
    local result = process.run{argv = {program.path, CHILD, "leave", path}, check = false}
    t:equal({result.status, result.stderr}, {0, ""})
    local batches, _, halves = store_kill.check(path, {})
    t:equal(halves, 0)
    local db <close> = store.open(path, {migrate = false})
    t:equal(batches == 0 or batches == 20, true, "all twenty were queued")
    db:exec("DELETE FROM item")
  end
end)

test("killed at random: what was acknowledged is there, nothing by halves",
  {timeout = "90s"}, function(t)
  local path = made(t)
  local seen = store_kill.run{program = program.path, path = path, children = 8,
    rounds = 1, seed = 7}
  local batches, lost, halves = store_kill.check(path, seen)
  t:equal({lost, halves}, {0, 0})
  t:equal(#seen >= 24 and batches >= #seen, true)
end)

test("a virtual clock waits for the store", {clock = "virtual"}, function(t)
  local time = require "time"
  local db <close> = store.open(made(t), {migrate = false})
  local began = time.mono()
  local late
  local group <close> = task.group()
  group:spawn(function()
    task.sleep(3600)
    late = db:row("SELECT count(*) AS n FROM item").n
  end)
  for i = 1, 20 do db:exec(PUT, {id = i}) end
  local function passed() return math.floor(time.mono() - began + 0.5) end
  t:equal(passed(), 0)
  group:close()
  t:equal(late, 20)
  t:equal(passed(), 3600)
  local w <close> = db:watch()
  t:equal({w:wait(86400), passed()}, {false, 90000})
end)
