--- Processes that write to one store and are killed at random moments.
--
--     local seen = store_kill.run{program = …, path = db, children = 8, rounds = 3, seed = 1}
--     store_kill.check(path, seen)

local process = require "process"
local store = require "store"
local task = require "task"

local store_kill = {}

local CHILD = debug.getinfo(1, "S").source:match("^@(.*)/") .. "/store_child.lua"

--- One child from its start to its death, after a number of acknowledged batches.
local function live(o, name, random)
  local child <close> = process.spawn{argv = {o.program, CHILD, "write", o.path, name}}
  local list, last = {}, random(3, 25)
  while #list < last do
    local line = child:read_line("30s")
    if not line then error("a writer ended by itself: " .. child:output()) end
    list[#list + 1] = line
  end
  child:kill("KILL")
  for line in function() return child:read_line("30s") end do
    if line:find("^[%w]+%-%d+%-%d+$") then list[#list + 1] = line end
  end
  return list
end

--- Let `children` processes at once write and die, `rounds` times each.
---@return string[] acknowledged the ids of batches that were acknowledged
function store_kill.run(o)
  math.randomseed(o.seed)
  local seen, names = {}, {}
  for i = 1, o.children do names[i] = "c" .. i end
  task.each(names, {limit = o.children}, function(name)
    for round = 1, o.rounds do
      for _, id in ipairs(live(o, name .. "r" .. round, math.random)) do
        seen[#seen + 1] = id
      end
    end
  end)
  return seen
end

--- Every acknowledged batch is there, and none by halves.
---@return integer batches, integer lost, integer halves
function store_kill.check(path, seen)
  local db <close> = store.open(path, {migrate = false, max_rows = 10000000})
  local result = db:check()
  if not result.ok then error(table.concat(result.problems, "\n")) end
  local there = {}
  for _, row in ipairs(db:rows("SELECT id, count(*) AS n FROM item GROUP BY id")) do
    there[row.id] = row.n
  end
  local batches, lost, halves = 0, 0, 0
  for _, n in pairs(there) do
    batches = batches + 1
    if n ~= 2 then halves = halves + 1 end
  end
  for _, id in ipairs(seen) do
    if not there[id] then lost = lost + 1 end
  end
  return batches, lost, halves
end

--- A store with the table that the children write to.
function store_kill.make(path)
  local db <close> = store.open(path, {migrate = false})
  db:exec("CREATE TABLE item (id TEXT, half BIGINT, PRIMARY KEY (id, half))")
end

return store_kill
