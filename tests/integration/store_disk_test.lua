-- A store on a disk that is full, read-only, or another machine's.
local fs = require "fs"
local process = require "process"
local program = require "load".paths().program

--- Run Lua text on a small file system of its own, mounted at `dir`, in a private namespace.
local function on_tmpfs(t, size, text)
  local dir = t:tmpdir()
  local line = [[mount -t tmpfs -o mode=0700,size="$3" none "$1" && exec "$0" -e "$2"]]
  return process.run{argv = {"unshare", "-m", "sh", "-c", line, program, dir,
    ("local dir = %q\n"):format(dir) .. text, size}, check = false, timeout = "60s"}
end

test("on a full disk nothing is lost, and it goes on once there is room", function(t)
  local result = on_tmpfs(t, "1m", [[
    local store, fs = require "store", require "fs"
    fs.write(dir .. "/filler", ("x"):rep(300 * 1024))
    local db <close> = store.open(dir .. "/secrun.db", {migrate = false})
    db:exec "CREATE TABLE item (n BIGINT, x TEXT)"
    local put = "INSERT INTO item VALUES ($n, $x)"
    local n, err = 0, nil
    repeat
      local ok
      ok, err = pcall(db.exec, db, put, {n = n + 1, x = ("x"):rep(3000)})
      if ok then n = n + 1 end
    until not ok
    print(err.kind, err.code, err.retryable, err.message:find(dir, 1, true) ~= nil)
    print(db:row("SELECT count(*) AS n FROM item").n == n)
    print(pcall(db.backup, db))
    fs.remove(dir .. "/filler")
    db:exec(put, {n = n + 1})
    print(db:row("SELECT max(n) AS n FROM item").n == n + 1, db:check().ok)
    print(#fs.list(dir .. "/backups"))
  ]])
  t:equal(result.stderr, "")
  local first, second, third, fourth, fifth =
    result.stdout:match("^(.-)\n(.-)\n(.-)\n(.-)\n(.-)\n$")
  t:equal({first, second, fourth, fifth},
    {"store\tFULL\ttrue\ttrue", "true", "true\ttrue", "0"})
  t:equal(third:find("^false.*no room left") ~= nil, true, third)
end)

test("a store on a read-only disk says so", function(t)
  local result = on_tmpfs(t, "1m", [[
    local store, process = require "store", require "process"
    local path = dir .. "/secrun.db"
    do
      local db <close> = store.open(path, {migrate = false})
      db:exec "CREATE TABLE item (n BIGINT)"
    end
    process.run{argv = {"mount", "-o", "remount,ro", dir}}
    local _, err = try(store.open, path, {migrate = false})
    print(err.kind, err.code, err.message)
    _, err = try(function()
      local db <close> = store.open(path, {migrate = false, read_only = true})
      db:rows "SELECT n FROM item"
    end)
    print(err.kind, err.code, err.message)
  ]])
  t:equal(result.stderr, "")
  t:equal(result.stdout:find("^store\tREADONLY\t.*secrun.db.*read%-only.*\n"
    .. "store\tCANTOPEN\t.*folder must be writable") ~= nil, true, result.stdout)
end)

test("a store on NFS is refused before anything is written", function(t)
  local dir = t:tmpdir()
  fs.write(dir .. "/nfs.c", [[
    #include <string.h>
    #include <sys/vfs.h>
    int statfs(const char *path, struct statfs *buf) {
      (void)path;
      memset(buf, 0, sizeof *buf);
      buf->f_type = 0x6969;
      return 0;
    }
  ]])
  process.run{argv = {"cc", "-shared", "-fPIC", "-D_GNU_SOURCE", "-o", dir .. "/nfs.so",
    dir .. "/nfs.c"}}
  local result = process.run{argv = {program, "-e", ([[
    local _, err = try(require "store".open, %q)
    print(err.kind, err.code, err.message)]]):format(dir .. "/a/secrun.db")},
    env = {LD_PRELOAD = dir .. "/nfs.so"}, check = false}
  t:equal(result.stdout:find("^store\tNFS\t.*is on NFS.*local disk") ~= nil, true,
    result.stdout .. result.stderr)
  t:equal(fs.exists(dir .. "/a/secrun.db"), false)
end)

test("a program that is stopped does not wait for a busy store for long", function(t)
  local path = t:tmpdir() .. "/secrun.db"
  local store = require "store"
  local db <close> = store.open(path, {migrate = false, hold = "1m"})
  db:exec "CREATE TABLE item (n BIGINT)"
  local status
  db:transaction(function()
    local child <close> = process.spawn{argv = {program, "-e", ([[
      local db = require "store".open(%q, {migrate = false, busy = "1h"})
      print "open"
      io.stdout:flush()
      db:exec "INSERT INTO item VALUES (1)"]]):format(path)}}
    t:equal(child:read_line("20s"), "open")
    child:kill("INT")
    status = child:wait("20s").status
  end)
  t:equal(status, 130)
  t:equal(db:rows("SELECT n FROM item"), {})
end)
