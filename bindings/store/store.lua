--- Rows in a database that survive whatever happens to the process.
--
--     local db <close> = store.open("sqlite:/var/lib/secrun/secrun.db")
--     db:batch{
--       {"UPDATE flow SET fence = fence + 1 WHERE id = $id AND fence = $fence",
--         {id = id, fence = fence}, expect = 1},
--       {"INSERT INTO step(flow, seq) VALUES ($id, $seq)", {id = id, seq = 4}}}
--
-- What returned is on the disk. One process writes through one thread, which lets all
-- transactions that wait share a commit; reading never waits for writing. Parameters are by
-- name, `$name`; times are milliseconds since 1970 (store.ms), ids are text, bytes base64.

local args = require "args"
local core = require "store.core"
local errors = require "errors"
local keep = require "store_keep"
local migrate = require "store_migrate"
local worker = require "store_worker"

local store = {}

---@alias store.value integer|number|string|boolean nil is NULL
---@alias store.params table<string, store.value>
---@alias store.row table<string, integer|number|string> NULL is absent

---@class store.result
---@field changes integer rows that the statement changed
---@field rows store.row[] what it returned (SELECT, RETURNING)
---@field skipped boolean? its `when` did not hold

---@class store.statement
---@field [1] string SQL
---@field [2] store.params?
---@field expect integer? rows it must change or return, else the batch raises conflict
---@field when integer? run only if that earlier statement affected a row
---@field code string? of that conflict, "EXPECT" by default

------------------------------------------------------------------ transactions

---@class store.Transaction
local Transaction = {}
Transaction.__index = Transaction

--- One statement.
---@return store.result
function Transaction:exec(sql, params) return self.core:exec(sql, params) end
--- Rows as this transaction sees them.
---@return store.row[]
function Transaction:rows(sql, params) return self.core:rows(sql, params) end
---@return store.row?
function Transaction:row(sql, params) return self.core:row(sql, params) end

------------------------------------------------------------------ watching

---@class store.Watcher
local Watcher = {}
Watcher.__index = Watcher

--- Wait for a commit: ours are noticed at once, those of other processes within a quarter of
--- a second. Several in between count as one.
---@param timeout number|string? none by default
---@return boolean committed false: the time is over
function Watcher:wait(timeout)
  local committed = self.core:wait(timeout)
  self.core:catch_up()
  return committed
end

function Watcher:close() self.core:close() end
Watcher.__close = Watcher.close

------------------------------------------------------------------ databases

---@class store.Db
---@field place string the file
---@field url string
local Db = {}
Db.__index = Db

--- The rows of a query, a snapshot of what is committed. At most 100,000.
---@param sql string
---@param params store.params?
---@return store.row[]
function Db:rows(sql, params) return self.core:rows(sql, params) end

--- The first row of a query, or nil.
---@return store.row?
function Db:row(sql, params) return self.core:row(sql, params) end

--- One statement as a transaction of its own.
---@return store.result
function Db:exec(sql, params) return self.core:exec(sql, params) end

--- All of the statements, or none of them, in one go. Raises what went wrong with `index`, the
--- statement's number; conflict when `expect` does not hold.
---@param list store.statement[]
---@return store.result[]
function Db:batch(list) return self.core:batch(list) end

local function finish(t, ok, ...)
  if not ok then error((...), 0) end
  t.core:commit()
  t.core:close()
  return ...
end

--- Run fn(t) as one transaction: committed when it returns, rolled back when it raises. It
--- holds the writer, so it may wait for nothing but the store, and for five seconds in all.
--- After a statement failed it cannot be committed.
---@param fn fun(t: store.Transaction): ...
---@return any ... what fn returns
function Db:transaction(fn)
  local inner <close> = self.core:transaction()
  local t = setmetatable({core = inner}, Transaction)
  inner:begin()
  return finish(t, pcall(fn, t))
end

--- Something to wait for commits with; one a waiter.
---@return store.Watcher
function Db:watch() return setmetatable({core = self.core:watch()}, Watcher) end

--- The right to run flows on this store, which one process has at a time.
---@param what string? "secrun serve", for the others' messages
---@return table? lock to be closed
---@return store.holder? holder when another process has it
function Db:worker_lock(what) return worker.lock(self, what) end

--- Copy what is committed now to a new file, while writers go on. Raises conflict when it
--- exists.
---@param path string? backups/secrun-TIME.db beside the store by default
---@return string path
function Db:backup(path) return keep.backup(self.place, path) end

--- Read the whole file and say what is wrong with it.
---@return {ok: boolean, problems: string[]}
function Db:check() return keep.check(self.place) end

--- Schema, size, newest backup, and who works on it.
---@return table info {place, schema, missing, size, log, backup, backup_at, worker}
function Db:info()
  local info = keep.info(self.place)
  local missing
  info.schema, missing = migrate.state(self)
  info.missing = #missing
  info.place, info.worker = self.place, worker.holder(self)
  return info
end

--- Give it back. The file is closed when nobody in this process uses it any more.
function Db:close()
  if not self.closed then self.core:close() end
  self.closed = true
end
Db.__close = Db.close

------------------------------------------------------------------ module

local OPEN = {
  {name = "create", type = "boolean", doc = "make it when it is missing (true)"},
  {name = "migrate", type = "boolean", doc = "bring it to this program's schema (true)"},
  {name = "read_only", type = "boolean", doc = "no writing, no migration"},
  {name = "busy", type = "duration", doc = "how long to wait for other writers (30s)"},
  {name = "poll", type = "duration", doc = "how often watchers look for others (250ms)"},
  {name = "hold", type = "duration", doc = "how long db:transaction may take (5s)"},
  {name = "max_rows", type = "integer", doc = "of one result (100,000)"},
  {name = "max_bytes", type = "integer", doc = "of one result (64 MiB)"},
  {name = "max_size", type = "integer", doc = "of the file, bytes"},
}

local PASSED = {"read_only", "busy", "poll", "hold", "max_rows", "max_bytes", "max_size"}

--- The path that a store's URL names: "sqlite:/path" or an absolute path.
---@param url string
---@return string path
function store.path(url)
  if type(url) ~= "string" then
    errors.raise("usage", ('a store is named "sqlite:/path", got %s'):format(type(url)))
  end
  local scheme = url:match("^(%a[%w+.-]*):")
  local path = scheme == "sqlite" and url:gsub("^sqlite:", "") or url
  if scheme and scheme ~= "sqlite" then
    errors.raise("usage", ("no database engine for %q; this program has sqlite: "
      .. '"sqlite:/var/lib/secrun/secrun.db"'):format(url), {code = "ENGINE"})
  end
  if not path:find("^/[^/]") then
    errors.raise("usage", ('a store is named "sqlite:/path", the path absolute, got %q')
      :format(url))
  end
  return path
end

--- Open a store and bring it to this program's schema. Raises not_found (with create =
--- false), denied (owner or mode), or store: NFS, CORRUPT, BUSY, SCHEMA_NEWER …
---@param url string "sqlite:/path" or an absolute path
--- Of options that concern the file (busy, poll, hold, max_…), those of the first to open it
--- in this process hold.
---@param options table? create, read_only, busy …
---@return store.Db
function store.open(url, options)
  local path = store.path(url)
  options = args.check("store.open", OPEN, options)
  local place = core.ready(path, options.create ~= false and not options.read_only,
    options.read_only == true)
  local passed = {}
  for _, name in ipairs(PASSED) do passed[name] = options[name] end
  local inner = core.handle(place, passed)
  local db = setmetatable({core = inner, place = place, url = "sqlite:" .. place,
    read_only = options.read_only == true}, Db)
  local ok, err = pcall(function()
    inner:opened()
    if options.migrate ~= false then migrate.run(db) end
  end)
  if ok then return db end
  db:close()
  error(err, 0)
end

--- Put a backup in the place of a store that no process has open: conflict, code LOCKED,
--- otherwise. The backup is checked first (usage, code BACKUP).
---@param backup string
---@param url string the store, as for store.open
---@return string? kept where the file that was there is now
function store.restore(backup, url) return keep.restore(backup, store.path(url)) end

--- Seconds since 1970 as what a column holds: whole milliseconds.
---@param seconds number
---@return integer
function store.ms(seconds) return math.floor(seconds * 1000 + 0.5) end

--- And back.
---@param ms integer
---@return number seconds
function store.seconds(ms) return ms / 1000 end

--- Who this process is among those that share a store: "host:boot_id:pid:start_time".
---@return string
function store.owner() return (core.owner()) end

--- Whether that owner was a process of this machine and is gone.
---@param owner string
---@return boolean? gone nil: it is of another machine, or no owner at all
function store.owner_gone(owner) return core.owner_gone(owner) end

return store
