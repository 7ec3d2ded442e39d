-- Eight processes write to one store and are killed at random, again and again: what was
-- acknowledged is there, nothing by halves.
--   store.lua ROUNDS [SEED]
local fs = require "fs"
local folder = debug.getinfo(1, "S").source:match("^@(.*)/")
package.path = folder .. "/../lua/?.lua;" .. package.path
local store_kill = require "store_kill"

local rounds, seed = tonumber(arg[1] or 20), tonumber(arg[2] or 1)
local dir, guard <close> = fs.tmpdir()
local path = dir .. "/secrun.db"
store_kill.make(path)
local seen = store_kill.run{program = require("load").paths().program, path = path,
  children = 8, rounds = rounds, seed = seed}
local batches, lost, halves = store_kill.check(path, seen)
print(("%d kills, %d batches acknowledged, %d there, %d lost, %d by halves"):format(
  8 * rounds, #seen, batches, lost, halves))
os.exit(lost == 0 and halves == 0 and #seen > 0 and 0 or 1)
