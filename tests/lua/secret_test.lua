--- Secrets: where they come from, and that they do not show.

local fs = require "fs"
local task = require "task"

local VALUE = "canary-secret-value"

local function file_with(t, text)
  local path = t:tmpdir() .. "/value"
  fs.write(path, text)
  return path
end

local function from(text)
  return secret{exec = {"printf", "%s", text}}
end

test("a file's final newline is not part of it", function(t)
  for _, text in ipairs{VALUE, VALUE .. "\n", VALUE .. "\r\n"} do
    assert(secret("file:" .. file_with(t, text)) == from(VALUE))
  end
  assert(secret("file:" .. file_with(t, VALUE .. "\n\n")) ~= from(VALUE))
end)

test("a secret from the environment", function()
  assert(tostring(secret "env:PATH") == "[secret env:PATH]")
  assert(secret "env:PATH" == from(os.getenv "PATH"))
end)

test("what is not there is not found, with the mend", function(t)
  t:raises(function() secret "env:NO_SUCH_VARIABLE" end, "not_found", "set it, or use")
  t:raises(function() secret "file:/no/such/file" end, "not_found", "check the path")
  t:raises(function() secret("file:" .. file_with(t, "\n")) end, "not_found", "empty")
  t:raises(function() secret{exec = {"true"}} end, "not_found", "printed nothing")
  t:raises(function() secret{exec = {"/no/such/program"}} end, "not_found")
end)

test("what is no source is refused and not repeated", function(t)
  local err = t:raises(function() secret "hunter2hunter2" end, "usage", "a source is")
  assert(not tostring(err):find("hunter2", 1, true))
  t:raises(function() secret(nil) end, "usage", "got nil")
  t:raises(function() secret{} end, "usage")
  t:raises(function() secret "file:/tmp" end, "usage", "not a regular file")
  t:raises(function() secret "env:" end, "usage", "name the variable")
  t:raises(function() secret "cred:../etc/passwd" end, "usage", "plain name")
end)

test("a program's command is a list", function(t)
  t:raises(function() secret{exec = {"pass show scm"}} end, "usage", "exec = {")
  t:raises(function() secret{exec = {}} end, "usage", "list of 1 to 64")
  t:raises(function() secret{exec = {"printf", 1}} end, "usage", "exec%[2%] is a number")
  t:raises(function() secret{exec = {"printf", "a\0b"}} end, "usage", "NUL")
end)

test("a program that fails or prints too much is an error", function(t)
  t:raises(function() secret{exec = {"false"}} end, "io", "ended with status 1")
  t:raises(function() secret{exec = {"sh", "-c", "kill -9 $$"}} end, "io", "signal 9")
  t:raises(function() secret{exec = {"head", "-c", "70000", "/dev/zero"}} end, "limit",
    "64 KiB")
end)

test("a program that hangs is stopped with its task", function(t)
  t:raises(function()
    task.timeout(0.1, function() secret{exec = {"sleep", "20"}} end)
  end, "timeout")
end)

test("it does not print, join, count, index, order or compare with texts", function(t)
  local s = from(VALUE)
  t:equal(tostring(s), "[secret exec:printf]")
  t:equal(("%s"):format(s), "[secret exec:printf]")
  t:raises(function() return "password=" .. s end, "usage", "cannot be joined")
  t:raises(function() return s .. "" end, "usage", "cannot be joined")
  t:raises(function() return #s end, "usage", "is secret")
  assert(s.value == nil and s ~= VALUE)
  t:raises(function() s.value = 1 end)
  t:raises(function() return s < from "zzz-secret-zzz" end)
  t:raises(function() return table.concat{s} end)
  assert(getmetatable(s) == false)
end)

test("it does not serialise", function(t)
  local json = require "json"
  local err = t:raises(function() json.encode{password = from(VALUE)} end)
  assert(not tostring(err):find(VALUE, 1, true))
end)

test("equal values are equal, others are not", function()
  assert(from(VALUE) == from(VALUE))
  assert(from(VALUE) ~= from(VALUE .. "x"))
  assert(from(VALUE) ~= from(VALUE:upper()))
end)

test("once closed it is gone", function(t)
  local s = from(VALUE)
  s:close()
  s:close()
  t:equal(tostring(s), "[secret exec:printf]")
  t:raises(function() return s == from(VALUE) end, "usage", "was closed")
end)

test("a reference from a cage resolves", function()
  local estate = require("cage").data{text = 's = secret{exec = {"printf", "%s", "'
    .. VALUE .. '"}}'}
  assert(secret(estate.s) == from(VALUE))
end)
