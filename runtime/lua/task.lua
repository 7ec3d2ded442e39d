--- Tasks: everything that waits, waits here.
--
--     local task = require "task"
--     local g <close> = task.group{limit = 8}
--     g:spawn(renew, "www")
--     local results, errors = task.each(names, {limit = 4}, check)

local core = require "task.core"
local args = require "args"
local error_object = require("errors").object

local task = {}
for name, fn in pairs(core) do
  if name ~= "fail" then task[name] = fn end
end

local EACH = {
  {name = "limit", type = "integer", positive = true, doc = "items at once (16)"},
  {name = "stop_on_error", type = "boolean", doc = "the first error cancels the rest"},
}

--- The errors of task.each: a list by item position. One that nobody looks at sets the
--- exit status to 1 and is logged when the program ends.
local unread = setmetatable({}, {__mode = "k"})
local pending, made = {}, 0 -- those not read yet, with their place in time
local errors_mt = {}

local function read(list)
  local real = getmetatable(list) == "task.errors" and unread[list]
  pending[real] = nil
  return real.items
end

function errors_mt.__index(list, key) return read(list)[key] end
--- How many items failed; the errors stand at their items' positions.
function errors_mt.__len(list)
  local n = 0
  for _ in pairs(read(list)) do n = n + 1 end
  return n
end

function errors_mt.__pairs(list) return pairs(read(list)) end
errors_mt.__metatable = "task.errors"
errors_mt.__name = "task.errors"

local function error_list(items)
  local real = {items = items}
  local list = setmetatable({}, errors_mt)
  unread[list] = real
  made = made + 1
  if next(items) ~= nil then pending[real] = made end
  return list
end

--- Called when the program ends: errors of task.each that nobody read. Returns their list.
function task.unread_errors()
  local lists, left = {}, {}
  for real in pairs(pending) do lists[#lists + 1] = real end
  table.sort(lists, function(a, b) return pending[a] < pending[b] end)
  for _, real in ipairs(lists) do
    for _, err in pairs(real.items) do left[#left + 1] = err end
  end
  pending = {}
  if #left > 0 then core.fail() end
  return left
end

--- Call fn(item, position) for every item, at most `limit` at once; siblings go on when one
--- fails. Returns results and errors, both by position (a result may be nil).
---@param list any[]
---@param options {limit: integer?, stop_on_error: boolean?}
---@param fn fun(item: any, position: integer): any
---@return table results
---@return table errors by position, `#errors` is their number; one nobody reads sets exit status 1
function task.each(list, options, fn)
  if type(options) == "function" then options, fn = nil, options end
  options = args.check("task.each", EACH, options)
  if type(fn) ~= "function" then error("task.each: a function is missing", 2) end
  local results, errors = {}, {}
  local function one(item, i)
    local function note(ok, ...)
      if ok then
        results[i] = ...
      elseif task.cancelled() or options.stop_on_error then
        error((...), 0)
      else
        errors[i] = ...
      end
    end
    note(xpcall(fn, error_object, item, i))
  end
  local group <close> = core.group{limit = options.limit or 16}
  for i, item in ipairs(list) do group:spawn(one, item, i) end
  group:close()
  return results, error_list(errors)
end

--- Run the functions at once; the first to finish gives its results (or its error), the
--- others are cancelled.
---@param ... fun(): any
function task.race(...)
  local fns = table.pack(...)
  if fns.n == 0 then error("task.race: a function is missing", 2) end
  local winner
  local group <close> = core.group()
  for i = 1, fns.n do
    group:spawn(function()
      local outcome = table.pack(xpcall(fns[i], error_object))
      if winner then return end
      if not outcome[1] and task.cancelled() then error(outcome[2], 0) end
      winner = outcome
      group:cancel()
    end)
  end
  group:close()
  if winner[1] then return table.unpack(winner, 2, winner.n) end
  error(winner[2], 0)
end

return task
