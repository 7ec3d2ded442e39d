--- What a test gives its helpers, for programs that are no tests: a folder, and things to
--- do at the end.
--
--     stage.run(function() local ca = pebble.start(stage) … end)

local fs = require "fs"

local stage = {ends = {}}

function stage:defer(fn) table.insert(self.ends, 1, fn) end

function stage:tmpdir()
  local path = fs.tmpdir()
  self:defer(function() fs.remove_tree(path) end)
  return path
end

local function finish()
  for _, fn in ipairs(stage.ends) do fn() end
end

--- Run fn, then what was deferred, also when it failed; gives what fn gave.
function stage.run(fn)
  local guard <close> = setmetatable({}, {__close = finish})
  return (fn())
end

return stage
