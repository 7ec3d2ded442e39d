--- A random tree of tasks, groups, deadlines, shields, races, generators and cancellations
--- from a seed, and the rules that must hold afterwards.
--
--     local stress = require "stress"
--     stress.run(42) -- raises what did not hold, with the seed

local errors = require "errors"
local task = require "task"

local stress = {}

local DEPTH = 4
local Tree = {}
Tree.__index = Tree

--- A generator of our own: the same numbers for the same seed, whoever else asks.
function Tree:random(n)
  self.state = (self.state * 1103515245 + 12345) & 0x7fffffff
  return (self.state >> 8) % n + 1
end

--- Every body that began must end, whatever way, and only after its clean-up.
function Tree:body(depth)
  self.begun = self.begun + 1
  local _ <close> = setmetatable({}, {__close = function()
    if self:random(3) == 1 then pcall(task.sleep, self:random(3) / 10) end
    self.ended = self.ended + 1
  end})
  for _ = 1, self:random(3) do self:step(depth) end
end

local steps = {}

function steps.sleep(tree) task.sleep(tree:random(20) / 10) end

function steps.fail(tree)
  if tree:random(4) > 1 then return end
  tree.failures = tree.failures + 1
  errors.raise("io", "planned")
end

function steps.group(tree, depth)
  local limit = tree:random(4)
  local live <close> = task.group{limit = limit < 4 and limit or nil}
  local children = {}
  for i = 1, tree:random(4) do
    children[i] = live:spawn(tree.body, tree, depth + 1)
  end
  if tree:random(4) == 1 then children[tree:random(#children)]:cancel() end
  if tree:random(6) == 1 then live:cancel() end
  if tree:random(4) == 1 then children[1]:join() end
  if tree:random(4) == 1 then tree:step(depth + 1) end
end

function steps.timeout(tree, depth)
  task.timeout(tree:random(15) / 10, tree.body, tree, depth + 1)
end

function steps.shield(tree, depth) task.shield(tree.body, tree, depth + 1) end

function steps.race(tree, depth)
  local function one() tree:body(depth + 1) end
  task.race(one, one)
end

function steps.each(tree, depth)
  local _, errs = task.each({1, 2, 3}, {limit = tree:random(3),
    stop_on_error = tree:random(3) == 1}, function() tree:body(depth + 1) end)
  tree.read = tree.read + #errs
end

function steps.protect(tree, depth)
  local ok, err = pcall(tree.body, tree, depth + 1)
  if not ok then tree:check_error(err) end
end

function steps.generate(tree, depth)
  local count = 0
  for _ in coroutine.wrap(function()
    for _ = 1, 3 do
      task.timeout(tree:random(30) / 10, function()
        tree:body(depth + 1)
        coroutine.yield(true)
      end)
    end
  end) do
    count = count + 1
    task.sleep(0.1)
    if tree:random(4) == 1 then break end -- leaves it in the middle
  end
end

function steps.collect(tree)
  if tree:random(40) == 1 then collectgarbage() else collectgarbage("step") end
end

local names = {}
for name in pairs(steps) do names[#names + 1] = name end
table.sort(names)

function Tree:step(depth)
  local name = depth < DEPTH and names[self:random(#names)] or "sleep"
  steps[name](self, depth)
end

local EXPECTED = {io = "planned", timeout = "timed out", cancelled = "cancelled"}

--- Only what was planned may come out, and each kind with its own words.
function Tree:check_error(err)
  local kind = errors.kind(err)
  if not EXPECTED[kind] or not tostring(err):find(EXPECTED[kind], 1, true) then
    error("unexpected: " .. tostring(err) .. "\n" .. tostring(err.trace), 0)
  end
  if kind == "io" then assert(self.failures > 0, "an error from nowhere") end
end

local function check(tree, before)
  local ok, err = pcall(tree.body, tree, 0)
  if not ok then tree:check_error(err) end
  assert(tree.begun == tree.ended,
    ("%d bodies began, %d ended"):format(tree.begun, tree.ended))
  assert(task.count() == before, "a task is left")
  assert(task.deadline() == nil and not task.cancelled(), "a scope is left")
end

--- Grow and run the tree of this seed in the task that calls.
---@param seed integer
---@return integer bodies how many ran
function stress.run(seed)
  local tree = setmetatable({state = seed, begun = 0, ended = 0, failures = 0, read = 0},
    Tree)
  local before = task.count()
  local ok, err = pcall(check, tree, before)
  if not ok then error(("seed %d: %s"):format(seed, tostring(err)), 0) end
  return tree.begun
end

return stress
