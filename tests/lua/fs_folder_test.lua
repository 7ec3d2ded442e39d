--- fs.folder: one folder held open, its lock, its files by name.

local fs = require "fs"
local process = require "process"
local task = require "task"

test("a folder is made with those above, and tells what is in it", function(t)
  local dir = t:tmpdir() .. "/a/b"
  local folder <close>, names = fs.folder(dir, {make = true})
  t:equal(fs.stat(dir).mode, "0700")
  t:equal(names, {})
  folder:write("key", "secret")
  folder:close()
  local again <close>, found = fs.folder(dir)
  t:equal(found, {key = true})
  t:equal(again:read("key"), "secret")
  t:equal(again:read("other"), nil)
  t:equal(fs.stat(dir .. "/key").mode, "0600")
end)

test("a folder that lacks is an error without make", function(t)
  local dir = t:tmpdir()
  t:raises(function() fs.folder(dir .. "/none") end, "not_found", "none")
  fs.write(dir .. "/file", "x")
  t:raises(function() fs.folder(dir .. "/file") end, "io", "cannot open the folder")
  t:raises(function() fs.folder(dir .. "/file/x", {make = true}) end, "io", "file/x")
end)

test("the lock excludes another task and ends with close, without any file", function(t)
  local dir = t:tmpdir()
  local folder = fs.folder(dir, {lock = true})
  local _, err = try(fs.folder, dir, {lock = true})
  t:equal({err.kind, err.retryable}, {"conflict", true})
  fs.folder(dir):close() -- without a lock it can be opened
  folder:close()
  folder:close()
  fs.folder(dir, {lock = true}):close()
  t:equal(fs.list(dir), {})
end)

test("the lock excludes another process", function(t)
  local dir = t:tmpdir()
  local program = require("load").paths().program
  local folder <close> = fs.folder(dir, {lock = true})
  local script = ("require 'fs'.folder(%q, {lock = true})"):format(dir)
  local result = process.run{argv = {program, "-e", script}, check = false}
  t:equal({result.status, result.stderr:find "is locked by another process" ~= nil},
    {1, true})
  folder:close()
  t:equal(process.run{argv = {program, "-e", script}}.status, 0)
end)

test("a locked folder is swept of what killed writes left, an unlocked one is not",
  function(t)
    local dir = t:tmpdir()
    local left, other = ".secrun-0123456789abcdef", ".secrun-notes"
    fs.write(dir .. "/" .. left, "half")
    fs.write(dir .. "/" .. other, "mine")
    local _, names = fs.folder(dir)
    t:equal(names, {[left] = true, [other] = true})
    local folder <close>, now = fs.folder(dir, {lock = true})
    t:equal(now, {[other] = true})
    t:equal(fs.list(dir), {other})
    folder:close()
  end)

test("files are removed in order, and one that lacks is no error", function(t)
  local dir = t:tmpdir()
  local folder <close> = fs.folder(dir, {lock = true})
  for _, name in ipairs{"a", "b", "c"} do folder:write(name, name, {fsync = false}) end
  folder:remove({"a", "gone", "b"}, {durable = 1})
  t:equal(fs.list(dir), {"c"})
  folder:remove{"c"}
  t:equal(fs.list(dir), {})
end)

test("the folder is the one that was opened, whatever its path leads to now", function(t)
  local base = t:tmpdir()
  local folder <close> = fs.folder(base .. "/one", {make = true, lock = true})
  fs.rename(base .. "/one", base .. "/two")
  fs.mkdir(base .. "/one")
  folder:write("file", "x")
  t:equal(fs.list(base .. "/one"), {})
  t:equal(fs.list(base .. "/two"), {"file"})
end)

test("a name must be a name", function(t)
  local folder <close> = fs.folder(t:tmpdir())
  for _, name in ipairs{"", ".", "..", "a/b", "/etc/passwd", "a\0b"} do
    t:raises(function() folder:read(name) end, "usage", "a name of a file")
    t:raises(function() folder:write(name, "x") end, "usage")
    t:raises(function() folder:remove{name} end, "usage")
  end
  t:raises(function() folder:write("a", "x", {mod = "0600"}) end, "usage", "mode")
  t:raises(function() folder:write("a", "x", {mode = 640}) end, "usage", '"0600"')
end)

test("closing while a write is under way neither loses it nor the lock", function(t)
  local dir = t:tmpdir()
  local folder = fs.folder(dir, {lock = true})
  local g <close> = task.group()
  g:spawn(function() folder:write("file", ("x"):rep(1 << 20)) end)
  task.sleep(0)
  folder:close()
  t:raises(function() folder:read "file" end, "usage", "closed")
  g:close()
  t:equal(#fs.read(dir .. "/file"), 1 << 20)
  fs.folder(dir, {lock = true}):close()
end)

test("permissions are asked for the folder and for each file", function(t)
  local dir = fs.realpath(t:tmpdir())
  local function denied(script)
    local r = process.run{check = false, argv = {"/proc/self/exe", "--allow-read=" .. dir,
      "--allow-write=" .. dir .. "/sub", "-e",
      "fs = require 'fs' " .. script:gsub("DIR", dir)}}
    return r.status == 1 and r.stderr:find "denied" ~= nil
  end
  t:equal(denied "fs.folder('DIR/sub', {make = true}):write('a', 'x')", false)
  t:equal(denied "fs.folder('DIR', {lock = true})", true)
  t:equal(denied "fs.folder('DIR'):write('a', 'x')", true)
  t:equal(denied "fs.folder('DIR'):remove{'a'}", true)
  t:equal(denied "fs.folder('/etc')", true)
  t:equal(fs.list(dir), {"sub"})
end)
