-- Files and folders through the loop: results, refusals, locks, cancellation.
local fs = require "fs"
local task = require "task"

test("a file is written, read, appended to and removed", function(t)
  local path = t:tmpdir() .. "/a"
  fs.write(path, "one\0two")
  t:equal(fs.read(path), "one\0two")
  fs.append(path, "+")
  t:equal(fs.read(path), "one\0two+")
  t:equal(fs.stat(path).mode, "0600")
  t:equal(fs.remove(path), true)
  t:equal(fs.exists(path), false)
end)

test("an empty file is the empty string", function(t)
  local path = t:tmpdir() .. "/a"
  fs.write(path, "")
  t:equal(fs.read(path), "")
end)

test("mode and stat", function(t)
  local path = t:tmpdir() .. "/a"
  fs.write(path, "12345", {mode = "0644"})
  local st = fs.stat(path)
  t:equal({st.type, st.size, st.mode, st.nlink}, {"file", 5, "0644", 1})
  t:equal(st.mtime > 1.6e9, true)
  fs.chmod(path, "0400")
  t:equal(fs.stat(path).mode, "0400")
  t:equal(fs.stat(path .. "/below"), nil)
  t:equal(fs.stat(path .. "x"), nil)
end)

test("a decimal mode is caught", function(t)
  local path = t:tmpdir() .. "/a"
  t:raises(function() fs.write(path, "", {mode = 600}) end, "usage", '"0600"')
  t:raises(function() fs.write(path, "", {mode = "rw"}) end, "usage", '"0600"')
  t:raises(function() fs.write(path, "", {mode = "0888"}) end, "usage", '"0600"')
  t:raises(function() fs.chmod(path, 640) end, "usage", "0600")
end)

test("errors name the path, the reason and the mend", function(t)
  local dir = t:tmpdir()
  t:raises(function() fs.read(dir .. "/none") end, "not_found",
    "/none: no such file.*check")
  t:raises(function() fs.read(dir) end, "io", "directory")
  t:raises(function() fs.write(dir .. "/no/such", "") end, "not_found",
    "make the folder first")
  t:raises(function() fs.write("/dev/full", "x", {atomic = false}) end, "io",
    "/dev/full.*free some space")
  t:raises(function() fs.read "" end, "usage", "empty")
  t:raises(function() fs.read "a\0b" end, "usage", "NUL")
  t:raises(function() fs.read() end, "usage", "expects a path")
  t:raises(function() fs.write(dir .. "/a", {}) end, "usage")
  t:raises(function() fs.write(dir .. "/a", "", {mod = "0600"}) end, "usage", "mode")
end)

test("reading is bounded", function(t)
  local path = t:tmpdir() .. "/a"
  fs.write(path, ("x"):rep(1000))
  t:raises(function() fs.read(path, {max = 999}) end, "limit", "max = 999")
  t:equal(#fs.read(path, {max = 1000}), 1000)
end)

test("exclusive writing is a conflict when the name exists", function(t)
  local path = t:tmpdir() .. "/a"
  fs.write(path, "one", {exclusive = true})
  t:raises(function() fs.write(path, "two", {exclusive = true}) end, "conflict",
    "already exists")
  t:equal(fs.read(path), "one")
end)

test("a secret is written as what it is", function(t)
  local dir = t:tmpdir()
  fs.write(dir .. "/source", "secret-canary-1")
  fs.write(dir .. "/copy", secret("file:" .. dir .. "/source"))
  t:equal(fs.read(dir .. "/copy"), "secret-canary-1")
end)

test("folders are made, listed in order and removed with all in them", function(t)
  local dir = t:tmpdir() .. "/x"
  t:equal(fs.mkdir(dir .. "/b/c", {parents = true, mode = "0700"}), true)
  t:equal(fs.mkdir(dir .. "/b/c", {parents = true}), false)
  t:equal(fs.mkdir{path = dir .. "/a"}, true)
  t:raises(function() fs.mkdir(dir .. "/a") end, "conflict")
  fs.write(dir .. "/b/c/f", "x")
  t:equal(fs.list(dir), {"a", "b"})
  t:equal(fs.stat(dir .. "/b/c").mode, "0700")
  t:raises(function() fs.remove(dir .. "/b") end, "io", "remove_tree")
  fs.remove_tree(dir)
  t:equal(fs.exists(dir), false)
  t:raises(function() fs.remove_tree(dir) end, "not_found")
  t:equal(fs.remove_tree(dir, {missing_ok = true}), false)
  t:equal(fs.remove(dir, {missing_ok = true}), false)
end)

test("remove_tree refuses the root, dots and links", function(t)
  local dir = t:tmpdir()
  fs.mkdir(dir .. "/real")
  fs.symlink("real", dir .. "/link")
  t:raises(function() fs.remove_tree "/" end, "usage")
  t:raises(function() fs.remove_tree(dir .. "/..") end, "usage")
  t:raises(function() fs.remove_tree(dir .. "/link") end, "usage", "symbolic link")
  t:equal(fs.exists(dir .. "/real"), true)
end)

test("links are made, read, switched and resolved", function(t)
  local dir = fs.realpath(t:tmpdir())
  fs.mkdir(dir .. "/gen-1")
  fs.symlink_replace("gen-1", dir .. "/live")
  t:equal(fs.readlink(dir .. "/live"), "gen-1")
  t:equal(fs.realpath(dir .. "/live"), dir .. "/gen-1")
  t:equal(fs.stat(dir .. "/live", {follow = false}).type, "link")
  t:equal(fs.stat(dir .. "/live").type, "directory")
  fs.symlink_replace("gone", dir .. "/live")
  t:equal(fs.exists(dir .. "/live"), false)
  t:equal(fs.exists(dir .. "/live", {follow = false}), true)
  t:raises(function() fs.symlink("x", dir .. "/live") end, "conflict")
end)

test("rename replaces", function(t)
  local dir = t:tmpdir()
  fs.write(dir .. "/a", "new")
  fs.write(dir .. "/b", "old")
  fs.rename(dir .. "/a", dir .. "/b")
  t:equal(fs.read(dir .. "/b"), "new")
  t:equal(fs.list(dir), {"b"})
  t:raises(function() fs.rename(dir .. "/a", dir .. "/c") end, "not_found", "/a")
end)

test("a temporary folder goes with its scope", function(t)
  local path
  do
    local dir, guard <close> = fs.tmpdir()
    path = dir
    fs.write(dir .. "/f", "x")
    t:equal(fs.stat(dir).mode, "0700")
  end
  t:equal(fs.exists(path), false)
end)

test("many files at once, the loop goes on meanwhile", function(t)
  local dir, ticks = t:tmpdir(), 0
  local ticker = task.daemon(function()
    while true do
      task.sleep "1ms"
      ticks = ticks + 1
    end
  end)
  local names = {}
  for i = 1, 200 do names[i] = dir .. "/" .. i end
  local _, errors = task.each(names, {limit = 50}, function(path, i)
    fs.write(path, "n" .. i)
  end)
  ticker:cancel()
  t:equal(#errors, 0)
  t:equal(#fs.list(dir), 200)
  t:equal(fs.read(dir .. "/77"), "n77")
  t:equal(ticks > 0, true)
  t:defer(function() pcall(ticker.join, ticker) end)
end)

test("a lock is held once and names its holder", function(t)
  local path = t:tmpdir() .. "/lock"
  local lock = fs.lock(path)
  local err = t:raises(function() fs.lock(path) end, "conflict",
    "process " .. require("process").pid)
  t:equal(err.retryable, true)
  lock:close()
  lock:close()
  local again <close> = fs.lock(path)
  t:equal(tostring(again):find(path, 1, true) ~= nil, true)
end)

test("waiting for a lock ends when it is free", {clock = "virtual"}, function(t)
  local path = t:tmpdir() .. "/lock"
  local lock = fs.lock(path)
  local group <close> = task.group()
  group:spawn(function()
    task.sleep "3s"
    lock:close()
  end)
  local guard <close> = fs.lock(path, {wait = "10s"})
end)

test("waiting for a lock ends with conflict", {clock = "virtual"}, function(t)
  local path = t:tmpdir() .. "/lock"
  local guard <close> = fs.lock(path)
  t:raises(function() fs.lock(path, {wait = "5s"}) end, "conflict", "locked by")
end)

test("waiting for a lock can be cancelled", function(t)
  local path = t:tmpdir() .. "/lock"
  local guard <close> = fs.lock(path)
  t:raises(function()
    task.timeout("50ms", function() fs.lock(path, {wait = "1h"}) end)
  end, "timeout")
end)

test("a lock of a process that was killed is free", function(t)
  local process = require "process"
  local path = t:tmpdir() .. "/lock"
  do
    local child <close> = process.spawn{
      argv = {"flock", path, "sh", "-c", "echo held; sleep 60"}}
    t:equal(child:read_line(), "held")
    t:raises(function() fs.lock(path) end, "conflict")
  end
  local guard <close> = fs.lock(path, {wait = "5s"})
end)

test("a cancelled write has ended when the task goes on", function(t)
  local dir = t:tmpdir()
  local path, big = dir .. "/a", ("new"):rep(1 << 20)
  fs.write(path, "old")
  t:raises(function()
    task.timeout(0.001, function()
      fs.write(path, big)
      task.sleep "1h"
    end)
  end, "timeout")
  t:equal(#fs.read(path), #big)
  t:equal(fs.list(dir), {"a"})
end)

test("reading a pipe that nobody writes to can be cancelled", function(t)
  local process = require "process"
  local path = t:tmpdir() .. "/fifo"
  process.run{argv = {"mkfifo", path}}
  local writer <close> = process.spawn{argv = {"sh", "-c",
    "exec 3>" .. path .. "; echo open; sleep 60"}}
  local got
  t:raises(function()
    task.timeout("200ms", function()
      repeat got = fs.read(path) until got ~= "" -- empty while no writer has it open
    end)
  end, "timeout")
  t:equal(got == nil or got == "", true)
  writer:close()
end)

test("writing to a pipe that nobody reads is an error, not a wait", function(t)
  local path = t:tmpdir() .. "/fifo"
  require "process".run{argv = {"mkfifo", path}}
  t:raises(function() fs.append(path, "x") end, "io", "fifo")
  t:raises(function() fs.write(path, "x", {atomic = false}) end, "io", "fifo")
end)

--- Run a script in a mount namespace of its own, where DIR is a file system of 64 KiB.
local function on_small_disk(t, script)
  local dir = t:tmpdir()
  local text = script:gsub("DIR", dir)
  local line = [[mount -t tmpfs -o size=64k none "$1" && exec "$0" -e "$2"]]
  return require "process".run{check = false, argv = {"unshare", "-m", "sh", "-c", line,
    require "load".paths().program, dir, text}}
end

test("a disk that is really full: the old file stays, no temporary one does", function(t)
  local r = on_small_disk(t, [[
local fs, process = require "fs", require "process"
fs.write("DIR/key", "old")
local ok, err = pcall(fs.write, "DIR/key", ("x"):rep(200000))
print(ok, err.kind, err.code, fs.read "DIR/key", table.concat(fs.list "DIR", " "))
ok, err = pcall(fs.append, "DIR/log", ("x"):rep(200000))
print(ok, err.kind, err.code)
fs.remove "DIR/log"
fs.write("DIR/lock", "") fs.write("DIR/fill", ("x"):rep(48000), {atomic = false})
pcall(fs.append, "DIR/fill", ("x"):rep(65536))
fs.lock("DIR/lock"):close()
ok, err = pcall(fs.write, "DIR/key", "new")
print(ok, err.code, fs.read "DIR/key")
process.run{argv = {"mount", "-o", "remount,ro", "DIR"}}
for _, name in ipairs{"write", "append"} do
  ok, err = pcall(fs[name], "DIR/key", "new")
  print(ok, err.kind, err.code)
end
print(fs.read "DIR/key")]])
  t:equal({r.status, r.stderr}, {0, ""})
  t:equal(r.stdout, "false\tio\tENOSPC\told\tkey\nfalse\tio\tENOSPC\n" ..
    "false\tENOSPC\told\nfalse\tio\tEROFS\nfalse\tio\tEROFS\nold\n")
end)

test("reading and writing ask for permission", function(t)
  local process = require "process"
  local dir = fs.realpath(t:tmpdir())
  fs.write(dir .. "/in", "x")
  local function denied(script)
    local r = process.run{check = false, argv = {"/proc/self/exe", "--allow-read=" .. dir,
      "--allow-write=" .. dir, "-e", "fs = require 'fs' " .. script:gsub("DIR", dir)}}
    return r.status == 1 and r.stderr:find "denied" ~= nil
  end
  t:equal(denied "fs.read 'DIR/in' fs.write('DIR/out', 'x')", false)
  for _, script in ipairs{
    "fs.read '/etc/passwd'", "fs.list '/etc'", "fs.stat '/etc'", "fs.exists '/etc'",
    "fs.realpath '/etc'", "fs.readlink '/etc/mtab'", "fs.check_owner '/etc/passwd'",
    "fs.write('/tmp/no', '')", "fs.append('/tmp/no', '')", "fs.mkdir '/tmp/no'",
    "fs.remove '/tmp/no'", "fs.remove_tree '/tmp/no'", "fs.chmod('/tmp', '0777')",
    "fs.chown('/tmp', 'root')", "fs.symlink('a', '/tmp/no')", "fs.lock '/tmp/no'",
    "fs.rename('DIR/in', '/tmp/no')", "fs.symlink_replace('a', '/tmp/no')", "fs.tmpdir()",
  } do
    t:equal(denied(script), true, script)
  end
end)

test("sweep removes what killed writes left, and nothing else", function(t)
  local dir = t:tmpdir()
  for _, name in ipairs{".secrun-0123456789abcdef", ".secrun-notes", "key.pem"} do
    fs.write(dir .. "/" .. name, "x")
  end
  t:equal(fs.sweep(dir), 1)
  t:equal(fs.list(dir), {".secrun-notes", "key.pem"})
end)
