-- Rows through the store: values, batches, transactions, watching, refusals.
local store = require "store"
local task = require "task"

local function open(t, options)
  local db = store.open("sqlite:" .. t:tmpdir() .. "/secrun.db", options)
  db:exec("CREATE TABLE item (id TEXT PRIMARY KEY, n INTEGER, x REAL) STRICT")
  return db
end

local function count(db) return db:row("SELECT count(*) AS n FROM item").n end

test("values come back as they went in", function(t)
  local db <close> = open(t)
  local put = "INSERT INTO item (id, n, x) VALUES ($id, $n, $x)"
  db:exec(put, {id = "a", n = math.maxinteger, x = 0.1})
  db:exec(put, {id = "b", n = math.mininteger, x = -0.0})
  db:exec(put, {id = "é€😀", n = true})
  t:equal(db:rows("SELECT * FROM item ORDER BY id"), {
    {id = "a", n = math.maxinteger, x = 0.1}, {id = "b", n = math.mininteger, x = -0.0},
    {id = "é€😀", n = 1}})
  t:equal(db:row("SELECT id FROM item WHERE n = $n", {n = 2}), nil)
  t:equal(db:rows("SELECT id FROM item WHERE n = $n", {n = 2}), {})
end)

test("closing takes no virtual time", {clock = "virtual"}, function(t)
  local ticks = task.daemon(function()
    while true do task.sleep(3600) end
  end)
  local db, began = open(t), require "time".now()
  db:close()
  t:equal(require "time".now(), began)
  ticks:cancel()
end)

test("a parameter that is nil is NULL, an absent column is nil", function(t)
  local db <close> = open(t)
  db:exec("INSERT INTO item (id, n) VALUES ($id, $n)", {id = "a", n = nil})
  local row = db:row("SELECT * FROM item WHERE n IS NULL")
  t:equal({row.id, row.n}, {"a"})
end)

test("one name may stand in several places", function(t)
  local db <close> = open(t)
  t:equal(db:row("SELECT $a AS a, $b AS b, $a || $b || $a AS c", {a = "1", b = "2"}),
    {a = "1", b = "2", c = "121"})
end)

test("a name that is misspelt, missing or of a wrong type is named", function(t)
  local db <close> = open(t)
  local sql = "SELECT id FROM item WHERE id = $name"
  t:raises(function() db:rows(sql, {nmae = "x"}) end, "usage", "did you mean %$name")
  t:raises(function() db:rows(sql, {name = "x", other = 1}) end, "usage", "%$other")
  t:raises(function() db:rows(sql) end, "usage", "wants %$name")
  t:raises(function() db:rows(sql, {"x"}) end, "usage", "parameters are named")
  t:raises(function() db:rows(sql, {name = {}}) end, "usage", "%$name is a table")
  t:raises(function() db:rows(sql, {name = "\xff"}) end, "usage", "base64")
  t:raises(function() db:rows(sql, {name = "a\0b"}) end, "usage", "base64")
  t:raises(function() db:rows(sql, {name = 0 / 0}) end, "usage", "finite")
  t:raises(function() db:rows(sql, "x") end, "usage", "table by name")
  t:raises(function() db:rows(nil) end, "usage", "SQL text")
end)

test("SQL that only one engine reads is refused with its line", function(t)
  local db <close> = open(t)
  for sql, what in pairs{
    ["SELECT ?"] = "%$name", ["SELECT :a"] = "%$name", ["SELECT\n1,\n`a`"] = "line 3",
    ["SELECT 'a"] = "closing quote", ["SELECT 1; SELECT 2"] = "more than one",
    ["SELECT CURRENT_TIMESTAMP"] = "time", ["SELECT datetime('now')"] = "time",
    ["BEGIN"] = "db:batch", ["PRAGMA journal_mode = DELETE"] = "sets its databases up",
    [""] = "empty", ["-- nothing"] = "empty", ["SELEKT 1"] = "syntax",
    ["SELECT 1 AS a, 2 AS a"] = "two columns"} do
    t:raises(function() db:rows(sql) end, "usage", what)
  end
end)

test("rows does not write", function(t)
  local db <close> = open(t)
  t:raises(function() db:rows("DELETE FROM item") end, "usage", "exec or batch")
end)

test("RETURNING gives rows, changes counts", function(t)
  local db <close> = open(t)
  db:exec("INSERT INTO item (id, n) VALUES ('a', 1), ('b', 2)")
  t:equal(db:exec("UPDATE item SET n = n + 1 RETURNING id, n"),
    {changes = 2, rows = {{id = "a", n = 2}, {id = "b", n = 3}}})
  t:equal(db:exec("UPDATE item SET n = 0 WHERE id = 'z'"), {changes = 0, rows = {}})
end)

test("a batch is all or nothing", function(t)
  local db <close> = open(t)
  local put = "INSERT INTO item (id, n) VALUES ($id, 1)"
  local result = db:batch{{put, {id = "a"}, expect = 1}, {"SELECT n FROM item"}}
  t:equal(result, {{changes = 1, rows = {}}, {changes = 0, rows = {{n = 1}}}})
  local err = t:raises(function()
    db:batch{{put, {id = "b"}},
      {"UPDATE item SET n = 2 WHERE id = $id", {id = "z"}, expect = 1, code = "FENCE"}}
  end, "conflict", "affected 0 rows")
  t:equal({err.code, err.index, err.retryable}, {"FENCE", 2, false})
  local twice = {{put, {id = "c"}}, {put, {id = "a"}}}
  err = t:raises(function() db:batch(twice) end, "conflict")
  t:equal({err.code, err.index}, {"UNIQUE", 2})
  t:equal(count(db), 1)
end)

test("`when` runs a statement only if an earlier one affected a row", function(t)
  local db <close> = open(t)
  local put = "INSERT INTO item (id) VALUES ($id)"
  local result = db:batch{{"SELECT 1 AS yes WHERE $x = 1", {x = 2}},
    {put, {id = "a"}, when = 1, expect = 1}, {put, {id = "b"}, when = 2}}
  t:equal({result[2].skipped, result[3].skipped, count(db)}, {true, true, 0})
  result = db:batch{{"SELECT 1 AS yes WHERE $x = 1", {x = 1}},
    {put, {id = "a"}, when = 1, expect = 1}, {put, {id = "b"}, when = 2}}
  t:equal({result[2].skipped, result[3].changes, count(db)}, {nil, 1, 2})
end)

test("a batch that is wrong is refused before anything is run", function(t)
  local db <close> = open(t)
  local put = "INSERT INTO item (id) VALUES ('a')"
  t:raises(function() db:batch{} end, "usage", "1 to 1000")
  t:raises(function() db:batch{put} end, "usage", "statement 1")
  t:raises(function() db:batch{{put}, {put, nil, expects = 1}} end, "usage",
    "statement 2.*did you mean expect")
  t:raises(function() db:batch{{put}, {put, nil, expect = -1}} end, "usage", "expect")
  t:raises(function() db:batch{{put}, {put, nil, when = 2}} end, "usage", "earlier")
  t:raises(function() db:batch{{put}, {put, {x = 1}}} end, "usage", "%$x")
  t:equal(count(db), 0)
end)

test("a transaction commits when it returns, and rolls back when it raises", function(t)
  local db <close> = open(t)
  local put = "INSERT INTO item (id) VALUES ($id)"
  local a, b = db:transaction(function(tx)
    tx:exec(put, {id = "a"})
    t:equal(count(db), 0)
    return tx:row("SELECT count(*) AS n FROM item").n, nil
  end)
  t:equal({a, b, count(db)}, {1, nil, 1})
  t:raises(function()
    db:transaction(function(tx)
      tx:exec(put, {id = "b"})
      error("no")
    end)
  end, "internal", "no")
  t:equal(count(db), 1)
end)

test("a transaction in which a statement failed cannot be committed", function(t)
  local db <close> = open(t)
  local put = "INSERT INTO item (id) VALUES ($id)"
  t:raises(function()
    db:transaction(function(tx)
      tx:exec(put, {id = "a"})
      pcall(tx.exec, tx, put, {id = "a"})
    end)
  end, "conflict", "UNIQUE")
  t:equal(count(db), 0)
end)

test("a transaction that takes too long is rolled back, others go on", function(t)
  local db <close> = open(t, {hold = "50ms"})
  local kept
  t:raises(function()
    db:transaction(function(tx)
      kept = tx
      tx:exec("INSERT INTO item (id) VALUES ('a')")
      db:exec("INSERT INTO item (id) VALUES ('b')") -- waits for the writer
      tx:exec("INSERT INTO item (id) VALUES ('c')")
    end)
  end, "timeout", "rolled back")
  t:equal(db:rows("SELECT id FROM item"), {{id = "b"}})
  t:raises(function() kept:exec("SELECT 1") end, "usage", "over")
end)

test("a transaction that never ends is ended too", function(t)
  local db <close> = open(t, {hold = "50ms"})
  t:raises(function()
    db:transaction(function(tx)
      while true do tx:exec("INSERT INTO item (id) VALUES (random())") end
    end)
  end, "timeout", "rolled back")
  t:equal(count(db), 0)
end)

test("transactions that share a commit: one that fails takes none along", function(t)
  local db <close> = open(t)
  local failed = 0
  task.each({1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, {limit = 12}, function(i)
    local ok = pcall(db.batch, db, {
      {"INSERT INTO item (id) VALUES ($id)", {id = "i" .. i}},
      {"UPDATE item SET n = 1 WHERE id = $id", {id = i % 3 == 0 and "none" or "i" .. i},
        expect = 1}})
    if not ok then failed = failed + 1 end
  end)
  t:equal({failed, count(db)}, {4, 8})
end)

test("a task that is cancelled leaves, what it queued is committed", function(t)
  local db <close> = open(t)
  local g = task.group()
  g:spawn(function() db:exec("INSERT INTO item (id) VALUES ('a')") end)
  task.sleep(0)
  g:cancel()
  g:close()
  db:exec("INSERT INTO item (id) VALUES ('b')")
  t:equal(count(db), 2)
end)

test("a transaction whose task is cancelled is rolled back at once", function(t)
  local db <close> = open(t)
  local begun = false
  local g = task.group()
  g:spawn(function()
    db:transaction(function(tx)
      tx:exec("INSERT INTO item (id) VALUES ('a')")
      begun = true
      task.sleep(3600)
    end)
  end)
  while not begun do task.sleep(0.001) end
  g:cancel()
  g:close()
  db:exec("INSERT INTO item (id) VALUES ('b')")
  t:equal(db:rows("SELECT id FROM item"), {{id = "b"}})
end)

test("a watcher returns at a commit, and false when the time is over", function(t)
  local db <close> = open(t)
  local w <close> = db:watch()
  t:equal(w:wait(0), false)
  db:exec("INSERT INTO item (id) VALUES ('a')")
  db:exec("INSERT INTO item (id) VALUES ('b')")
  t:equal({w:wait(60), w:wait(0)}, {true, false})
  db:exec("UPDATE item SET n = 1 WHERE id = 'z'") -- changes nothing
  t:equal(w:wait(0), false)
  local woken
  local g <close> = task.group()
  g:spawn(function() woken = w:wait() end)
  task.sleep(1)
  db:exec("DELETE FROM item")
  g:close()
  t:equal(woken, true)
end)

test("results are bounded", function(t)
  local db <close> = open(t, {max_rows = 3, max_bytes = 2000})
  local numbers = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c "
    .. "WHERE n < $n) SELECT n FROM c"
  t:equal(#db:rows(numbers, {n = 3}), 3)
  local err = t:raises(function() db:rows(numbers, {n = 4}) end, "limit",
    "more than 3 rows")
  t:equal(err.code, "ROWS")
  t:raises(function() db:rows("SELECT $x AS x", {x = ("x"):rep(3000)}) end, "limit",
    "2000 bytes")
end)

test("two handles share one database; a closed one says so", function(t)
  local path = t:tmpdir() .. "/secrun.db"
  local one <close> = store.open(path)
  local two = store.open(path)
  one:exec("CREATE TABLE x (a TEXT)")
  t:equal(two:rows("SELECT a FROM x"), {})
  two:close()
  two:close()
  t:raises(function() two:rows("SELECT a FROM x") end, "usage", "closed")
  t:equal(one:rows("SELECT a FROM x"), {})
end)

test("a store that is opened again right after it was closed", function(t)
  local path = t:tmpdir() .. "/secrun.db"
  for i = 1, 5 do
    local db <close> = store.open(path)
    db:exec("CREATE TABLE IF NOT EXISTS x (a BIGINT)")
    db:exec("INSERT INTO x VALUES ($i)", {i = i})
    t:equal(db:row("SELECT count(*) AS n FROM x").n, i)
  end
end)

test("names of stores are checked", function(t)
  t:raises(function() store.open("secrun.db") end, "usage", "path absolute")
  t:raises(function() store.open("postgresql://x/y") end, "usage", "no database engine")
  t:raises(function() store.open(nil) end, "usage", "sqlite:/path")
  t:raises(function() store.open("/tmp/x", {read_onyl = true}) end, "usage", "read_only")
end)

test("a VM that ends in the middle costs others nothing", function(t)
  local db <close> = open(t)
  for _, ending in ipairs{"close", "collect"} do
    local vm = require "vm".new()
    local folder = debug.getinfo(1, "S").source:match("^@(.*)/")
    vm:call("_G", "dofile", folder .. "/store_vm.lua")
    vm:call("store_vm", "leave", db.place)
    if ending == "close" then vm:close() end
    vm = nil
    collectgarbage()
    db:exec("INSERT INTO item (id) VALUES ($id)", {id = ending})
    t:equal(vm, nil)
    t:equal(count(db) >= 2, true)
    t:equal(db:row("SELECT count(*) AS n FROM item WHERE id = 'never'").n, 0)
    t:equal(db:row([[SELECT sum(CASE WHEN id LIKE 'left%' THEN 1 WHEN id LIKE 'right%'
      THEN -1 ELSE 0 END) AS n FROM item]]).n, 0)
    db:exec("DELETE FROM item")
  end
end)
