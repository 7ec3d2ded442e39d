--- What is wrong with a file, all at once: texts, each with its place and its mend.
--
--     local Check = setmetatable({}, {__index = problems})
--     Check.__index = Check
--     local check = problems.new(Check)
--     check:note("keep", "is a number, got %s", value)     -- "keep: is a number, got x"
--     check.problems                                       -- the list

local args = require "args"

local problems = {}

--- A collector of a class that inherits from this module.
---@generic T
---@param class T
---@return T
function problems.new(class) return setmetatable({problems = {}}, class) end

--- Note what is wrong at a place.
---@param place string
---@param format string
function problems:note(place, format, ...)
  self.problems[#self.problems + 1] = ("%s: %s"):format(place, format:format(...))
end

--- Check a table against a spec; false when it is wrong.
---@param place string
---@param spec table
---@param value any
---@return boolean
function problems:spec(place, spec, value)
  local ok, err = pcall(args.check, place, spec, value)
  if not ok then self.problems[#self.problems + 1] = err.message end
  return ok
end

return problems
