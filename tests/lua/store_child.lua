-- The other process of store_process_test.lua.
--   store_child.lua write FILE NAME      batches until it is killed; a line for each that
--                                        was acknowledged
--   store_child.lua hold FILE SECONDS    a transaction that lasts; "held", then "done"
--   store_child.lua leave FILE           ends while transactions are under way
local store = require "store"
local task = require "task"

local what, path, word = arg[1], arg[2], arg[3]
local db <close> = store.open(path, {migrate = false, hold = "1m"})
local act = {}

--- Each batch writes two rows that belong together; four tasks at once, so that some share
--- a commit.
function act.write()
  local group <close> = task.group()
  for t = 1, 4 do
    group:spawn(function()
      for n = 1, math.maxinteger do
        local id = ("%s-%d-%d"):format(word, t, n)
        db:batch{{"INSERT INTO item (id, half) VALUES ($id, 1)", {id = id}},
          {"INSERT INTO item (id, half) VALUES ($id, 2)", {id = id}}}
        io.stdout:write(id, "\n")
        io.stdout:flush()
      end
    end)
  end
end

function act.hold()
  db:transaction(function(t)
    t:exec("INSERT INTO item (id, half) VALUES ('held', 1)")
    print("held")
    io.stdout:flush()
    task.sleep(tonumber(word))
  end)
  print("done")
end

--- The tasks are daemons: the program ends without waiting for them.
function act.leave()
  for i = 1, 20 do
    task.daemon(function()
      db:batch{{"INSERT INTO item (id, half) VALUES ($i, 1)", {i = i}},
        {"INSERT INTO item (id, half) VALUES ($i, 2)", {i = i}}}
    end)
  end
  task.sleep(0)
end

act[what]()
