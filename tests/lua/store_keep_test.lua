-- The store's file: who may have it, its schema, backups, damage, a full disk.
local fs = require "fs"
local migrate = require "store_migrate"
local store = require "store"

local function made(path, n)
  local db <close> = store.open(path, {migrate = false})
  db:exec("CREATE TABLE IF NOT EXISTS item (n BIGINT)")
  db:exec("WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < $n) "
    .. "INSERT INTO item SELECT n FROM c", {n = n})
end

local function count(path)
  local db <close> = store.open(path, {migrate = false})
  return db:row("SELECT count(*) AS n FROM item").n
end

local function path_of(t) return t:tmpdir() .. "/secrun.db" end

------------------------------------------------------------------ files

test("folder and file are made for us alone", function(t)
  local folder = t:tmpdir() .. "/a/b"
  made(folder .. "/secrun.db", 1)
  t:equal({fs.stat(folder).mode, fs.stat(folder .. "/secrun.db").mode}, {"0700", "0600"})
  local db <close> = store.open(folder .. "/secrun.db")
  db:exec("INSERT INTO item VALUES (1)")
  t:equal(fs.stat(folder .. "/secrun.db-wal").mode, "0600")
end)

test("a store that others could change is refused", function(t)
  local path = path_of(t)
  made(path, 1)
  fs.chmod(path, "0660")
  t:raises(function() store.open(path) end, "denied", "chmod 0600")
  fs.chmod(path, "0600")
  fs.chmod(path:match("^(.*)/"), "0777")
  t:raises(function() store.open(path) end, "denied", "chmod go%-w")
  fs.chmod(path:match("^(.*)/"), "0755")
  fs.chmod(path, "0644") -- read by others: put right
  t:equal(count(path), 1)
  t:equal(fs.stat(path).mode, "0600")
end)

test("a link is followed to one and the same store", function(t)
  local path, link = path_of(t), t:tmpdir() .. "/link.db"
  made(path, 1)
  fs.symlink(path, link)
  local one <close> = store.open(path, {migrate = false})
  local two <close> = store.open(link, {migrate = false})
  one:exec("INSERT INTO item VALUES (2)")
  t:equal({two.place, #two:rows("SELECT n FROM item")}, {path, 2})
end)

test("what is missing or no store of ours is not made or touched", function(t)
  local path = path_of(t)
  t:raises(function() store.open(path, {create = false}) end, "not_found", "no store at")
  t:equal(fs.exists(path), false)
  fs.write(path, ("not a database "):rep(100))
  local err = t:raises(function() store.open(path) end, "store", "damaged")
  t:equal(err.code, "CORRUPT")
  t:equal(fs.read(path), ("not a database "):rep(100))
  t:raises(function() store.open(t:tmpdir()) end, "usage", "not a file")
end)

test("a database of another program is left alone", function(t)
  local path = path_of(t)
  require "process".run{argv = {"python3", "-c", "import sqlite3, sys; "
    .. "sqlite3.connect(sys.argv[1]).execute('CREATE TABLE moz_cookies (a)')", path}}
  fs.chmod(path, "0600")
  local err = t:raises(function() store.open(path) end, "store", "another program")
  t:equal(err.code, "NOT_A_STORE")
end)

test("read only: rows come, nothing is written", function(t)
  local path = path_of(t)
  made(path, 2)
  local db <close> = store.open(path, {read_only = true, migrate = false})
  t:equal(#db:rows("SELECT n FROM item"), 2)
  for _, fn in ipairs{"exec", "batch", "transaction", "worker_lock"} do
    local err = t:raises(function() db[fn](db, "DELETE FROM item") end, "store",
      "read only")
    t:equal(err.code, "READONLY")
  end
  t:raises(function() store.open(path_of(t), {read_only = true}) end, "not_found")
end)

------------------------------------------------------------------ schema

local ONE = {version = 1, name = "one", sql = [[
  CREATE TABLE a (id TEXT PRIMARY KEY, at BIGINT NOT NULL); -- times; in ms
  CREATE INDEX a_at ON a(at);]]}
local TWO = {version = 2, name = "two",
  sql = "CREATE TABLE b (x DOUBLE PRECISION, a TEXT REFERENCES a(id))"}

test("migrations are applied once, in any number of runs", function(t)
  local db <close> = store.open(path_of(t), {migrate = false})
  migrate.run(db, {ONE})
  migrate.run(db, {ONE})
  db:exec("INSERT INTO a VALUES ('x', 1)")
  migrate.run(db, {ONE, TWO})
  t:equal(db:rows("SELECT version, name FROM migration ORDER BY version"),
    {{version = 1, name = "one"}, {version = 2, name = "two"}})
  t:equal(db:rows("SELECT id FROM a"), {{id = "x"}})
  local backups = fs.list(db.place:match("^(.*)/") .. "/backups")
  t:equal({#backups, backups[1]:match("^before%-schema%-2%-")}, {1, "before-schema-2-"})
end)

test("several that migrate one store at once do it once", function(t)
  local path = path_of(t)
  local db <close> = store.open(path, {migrate = false})
  migrate.run(db, {ONE})
  db:exec("INSERT INTO a VALUES ('x', 1)")
  require "task".each({1, 2, 3, 4}, {limit = 4}, function()
    local own <close> = store.open(path, {migrate = false})
    migrate.run(own, {ONE, TWO})
  end)
  t:equal(#db:rows("SELECT version FROM migration"), 2)
  t:equal(#db:rows("SELECT id FROM a"), 1)
end)

test("what killed backups left is swept, not what may be under way", function(t)
  local path = path_of(t)
  made(path, 1)
  local folder = path:match("^(.*)/") .. "/backups"
  fs.mkdir(folder)
  fs.write(folder .. "/.secrun-00000000000000aa", "old")
  fs.write(folder .. "/.secrun-00000000000000bb", "new")
  require "process".run{argv = {"touch", "-d", "2 days ago",
    folder .. "/.secrun-00000000000000aa"}}
  local db <close> = store.open(path, {migrate = false})
  db:backup()
  t:equal(#fs.list(folder), 2)
  t:equal(fs.exists(folder .. "/.secrun-00000000000000aa"), false)
end)

test("a column keeps to its type, as PostgreSQL has it", function(t)
  local db <close> = store.open(path_of(t), {migrate = false})
  migrate.run(db, {ONE, TWO})
  local err = t:raises(function() db:exec("INSERT INTO a VALUES ('x', 'soon')") end,
    "store", "TEXT value in INTEGER column")
  t:equal(err.code, "TYPE")
  t:raises(function() db:exec("INSERT INTO a VALUES ('x', 1.5)") end, "store")
  db:exec("INSERT INTO a VALUES ($id, $at)", {id = "x", at = 3.0})
  t:equal(math.type(db:row("SELECT at FROM a").at), "integer")
  err = t:raises(function() db:exec("INSERT INTO b VALUES (1, 'none')") end, "conflict")
  t:equal(err.code, "FOREIGN_KEY")
end)

test("a migration that fails leaves nothing of itself", function(t)
  local db <close> = store.open(path_of(t), {migrate = false})
  local bad = {version = 2, name = "two", sql = "CREATE TABLE b (x TEXT); CREATE TABL c"}
  t:raises(function() migrate.run(db, {ONE, bad}) end, "usage", "syntax")
  t:equal(db:rows("SELECT version FROM migration"), {{version = 1}})
  t:raises(function() db:rows("SELECT x FROM b") end, "usage", "no such table")
end)

test("a store of a newer or another program is refused, and not changed", function(t)
  local db <close> = store.open(path_of(t), {migrate = false})
  migrate.run(db, {ONE, TWO})
  local err = t:raises(function() migrate.run(db, {ONE}) end, "store", "newer secrun")
  t:equal(err.code, "SCHEMA_NEWER")
  err = t:raises(function()
    migrate.run(db, {ONE, {version = 2, name = "other", sql = "CREATE TABLE c (x TEXT)"}})
  end, "store", "another build")
  t:equal(err.code, "SCHEMA_OTHER")
  t:equal(#db:rows("SELECT version FROM migration"), 2)
end)

test("an older store that may only be read is refused with the mend", function(t)
  local path = path_of(t)
  made(path, 1)
  local db <close> = store.open(path, {migrate = false, read_only = true})
  local err = t:raises(function() migrate.run(db, {ONE}) end, "store", "open it once")
  t:equal(err.code, "SCHEMA_OLDER")
end)

------------------------------------------------------------------ backup, restore

test("a backup is a snapshot in one file, and comes back", function(t)
  local path = path_of(t)
  made(path, 3)
  local db = store.open(path, {migrate = false})
  local backup = db:backup()
  db:exec("DELETE FROM item")
  t:equal(backup:match("/backups/secrun%-%d+T%d+Z%.db$") ~= nil, true)
  t:equal(fs.stat(backup).mode, "0600")
  t:equal(#fs.list(backup:match("^(.*)/")), 1)
  local err = t:raises(function() store.restore(backup, path) end, "conflict", "in use")
  t:equal(err.code, "LOCKED")
  db:close()
  local kept = store.restore(backup, path)
  t:equal({count(path), count(kept)}, {3, 0})
end)

test("a backup replaces no file", function(t)
  local path, file = path_of(t), t:tmpdir() .. "/mine"
  made(path, 1)
  fs.write(file, "mine")
  local db <close> = store.open(path, {migrate = false})
  t:raises(function() db:backup(file) end, "conflict", "exists")
  t:raises(function() db:backup(t:tmpdir() .. "/none/x.db") end, "not_found", "folder")
  t:equal(fs.read(file), "mine")
end)

test("only a sound backup is restored", function(t)
  local path, bad = path_of(t), t:tmpdir() .. "/bad.db"
  made(path, 1)
  for _, text in ipairs{"", "text", ("SQLite format 3\0"):rep(1000)} do
    fs.write(bad, text)
    local err = t:raises(function() store.restore(bad, path) end, "usage", "bad.db")
    t:equal(err.code, "BACKUP")
  end
  t:raises(function() store.restore(bad .. "x", path) end, "not_found")
  t:equal(count(path), 1)
  t:equal(#fs.list(path:match("^(.*)/")), 2) -- the store and its .lock
end)

test("a restore that was interrupted is finished before the store is used", function(t)
  local path = path_of(t)
  made(path, 1)
  local db = store.open(path, {migrate = false})
  local backup = db:backup()
  db:close()
  fs.rename(path, path .. ".replaced-x") -- killed between the renames
  fs.write(path .. ".restoring", fs.read(backup))
  local err = t:raises(function() store.open(path) end, "store", "restore.*again")
  t:equal({err.code, fs.exists(path)}, {"RESTORE", false})
  store.restore(backup, path)
  t:equal(count(path), 1)
  t:equal(fs.exists(path .. ".restoring"), false)
end)

test("the log of the store that was is not played into the one restored", function(t)
  local path = path_of(t)
  made(path, 1)
  local db = store.open(path, {migrate = false})
  local backup = db:backup()
  db:exec("INSERT INTO item VALUES (2)")
  local log = fs.read(path .. "-wal")
  local file = fs.read(path)
  db:close()
  fs.write(path, file) -- as a killed process leaves them
  fs.write(path .. "-wal", log)
  t:equal(count(store.restore(backup, path)), 2) -- the old one is kept with its log
  t:equal(count(path), 1)
end)

------------------------------------------------------------------ damage

test("a damaged store names the newest backup and the command", function(t)
  local path = path_of(t)
  made(path, 400)
  local db = store.open(path, {migrate = false})
  db:backup()
  db:backup(path:match("^(.*)/") .. "/backups/newer.db")
  db:close()
  local text = fs.read(path)
  fs.write(path, text:sub(1, 4096) .. ("\xa5"):rep(#text - 4096))
  local err = t:raises(function() count(path) end, "store",
    "secrun store restore .*/backups/newer.db")
  t:equal(err.code, "CORRUPT")
  fs.write(path, ("x"):rep(8192))
  t:raises(function() store.open(path) end, "store", "restore .*/backups/newer.db")
  store.restore(path:match("^(.*)/") .. "/backups/newer.db", path)
  t:equal(count(path), 400)
end)

test("check finds a sound store sound, and says what is wrong with another", function(t)
  local path = path_of(t)
  made(path, 2000)
  local db = store.open(path, {migrate = false})
  t:equal(db:check(), {ok = true, problems = {}})
  db:close()
  local text = fs.read(path)
  fs.write(path, text:sub(1, 8192) .. ("\0"):rep(4096) .. text:sub(12289))
  local broken <close> = store.open(path, {migrate = false})
  local result = broken:check()
  t:equal(result.ok, false)
  t:equal(#result.problems > 0, true)
end)

------------------------------------------------------------------ no room

test("a store without room says so, keeps what it had, and goes on later", function(t)
  local path = path_of(t)
  made(path, 1)
  do
    local db <close> = store.open(path, {migrate = false, max_size = 64 * 1024})
    local put = "INSERT INTO item SELECT n FROM item"
    local err = t:raises(function()
      for _ = 1, 40 do db:exec(put) end
    end, "store", "no room")
    t:equal({err.code, err.retryable}, {"FULL", true})
    local n = db:row("SELECT count(*) AS n FROM item").n
    t:raises(function() db:exec(put) end, "store", "no room")
    t:equal(db:row("SELECT count(*) AS n FROM item").n, n)
    db:exec("DELETE FROM item WHERE n = 1 AND rowid > 1")
  end
  t:equal(count(path), 1)
end)

test("of transactions that share a commit, one without room takes none along", function(t)
  local path = path_of(t)
  made(path, 1)
  local db <close> = store.open(path, {migrate = false, max_size = 256 * 1024})
  local full = 0
  require "task".each({1, 2, 3, 4, 5, 6, 7, 8}, {limit = 8}, function(i)
    local ok, err = pcall(db.batch, db, {
      {"INSERT INTO item VALUES ($i)", {i = 100 + i}},
      {"CREATE TABLE big" .. i .. " AS SELECT $x AS x",
        {x = ("x"):rep(i == 4 and 1000000 or 1)}},
    })
    if not ok and err.code == "FULL" then full = full + 1 end
  end)
  t:equal(full, 1)
  t:equal(db:row("SELECT count(*) AS n FROM item WHERE n > 100").n, 7)
end)
