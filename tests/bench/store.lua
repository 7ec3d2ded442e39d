-- The transaction of a durable step (a fenced UPDATE, an INSERT) as db:batch.
--   store.lua FILE TASKS COUNT      prints transactions per second
local store = require "store"
local task = require "task"
local time = require "time"

local path, tasks, count = arg[1], tonumber(arg[2]), tonumber(arg[3])
local db <close> = store.open(path, {migrate = false})

db:exec [[CREATE TABLE flow (id TEXT PRIMARY KEY, state TEXT NOT NULL,
  fence INTEGER NOT NULL, lease_until INTEGER NOT NULL,
  updated_at INTEGER NOT NULL) STRICT]]
db:exec [[CREATE TABLE step (flow TEXT NOT NULL REFERENCES flow(id), seq INTEGER NOT NULL,
  name TEXT NOT NULL, status TEXT NOT NULL, result TEXT, started_at INTEGER NOT NULL,
  PRIMARY KEY (flow, seq)) STRICT]]
for i = 1, tasks do
  db:exec("INSERT INTO flow VALUES ($id, 'running', 1, 0, 0)", {id = "flow-" .. i})
end

local UPDATE = "UPDATE flow SET lease_until = $lease, updated_at = $now "
  .. "WHERE id = $id AND fence = $fence AND state = 'running'"
local INSERT = "INSERT INTO step VALUES ($id, $seq, $name, 'ok', $result, $now)"

local function steps(id)
  for i = 1, count // tasks do
    local now = 1764000000000 + i
    db:batch{
      {UPDATE, {lease = now + 30000, now = now, id = id, fence = 1}, expect = 1},
      {INSERT, {id = id, seq = i, name = "collect the certificate", now = now,
        result = '{"order":"https://ca.example/order/1"}'}, expect = 1}}
  end
end

local began = time.mono()
local group <close> = task.group()
for i = 1, tasks do group:spawn(steps, "flow-" .. i) end
group:close()
print(("%.1f"):format(count // tasks * tasks / (time.mono() - began)))
