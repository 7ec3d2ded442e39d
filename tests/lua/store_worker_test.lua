-- One worker a store, and owners that are gone.
local process = require "process"
local store = require "store"
local worker = require "store_worker"

test("one holder at a time, the others hear who it is", function(t)
  local db <close> = store.open(t:tmpdir() .. "/secrun.db")
  local lock <close> = db:worker_lock("secrun serve")
  t:equal(lock ~= nil, true)
  local second, holder = db:worker_lock("secrun renew")
  t:equal(second, nil)
  t:equal({holder.pid, holder.what}, {process.pid, "secrun serve"})
  t:equal({db:info().worker.pid, worker.holder(db).what}, {process.pid, "secrun serve"})
  t:equal(type(holder.host) .. type(holder.since), "stringnumber")
  lock:close()
  t:equal({db:info().worker, worker.holder(db)}, {})
  local third <close> = db:worker_lock()
  t:equal(third ~= nil, true)
end)

test("an owner lives as long as its process", function(t)
  local own = store.owner()
  t:equal(store.owner_gone(own), false)
  t:equal(own:match("^[^:]+:[%x-]+:(%d+):%d+$"), tostring(process.pid))
  t:equal(store.owner_gone((own:gsub("%d+$", "1"))), true)
  t:equal(store.owner_gone((own:gsub(":[%x-]+:", ":another-boot:"))), true)
  t:equal(store.owner_gone("elsewhere" .. own), nil)
  t:equal(store.owner_gone("no owner"), nil)
end)
