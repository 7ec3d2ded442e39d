--- What another VM does with a store in store_test.lua: it leaves everything under way.
local store = require "store"
local task = require "task"

local store_vm = {}

--- Statements, a transaction, a watch and a handle, none of them brought to its end.
function store_vm.leave(path)
  local db = store.open(path, {migrate = false})
  for i = 1, 8 do
    task.daemon(function()
      for n = 1, math.maxinteger do
        db:batch{{"INSERT INTO item (id) VALUES ($id)", {id = "left-" .. i .. "-" .. n}},
          {"INSERT INTO item (id) VALUES ($id)", {id = "right-" .. i .. "-" .. n}}}
      end
    end)
  end
  task.daemon(function() db:watch():wait() end)
  task.daemon(function()
    db:transaction(function(t)
      t:exec("INSERT INTO item (id) VALUES ('never')")
      task.sleep(3600)
    end)
  end)
  db:exec("INSERT INTO item (id) VALUES ('first')")
end

package.loaded.store_vm = store_vm -- that VM does not search this folder
