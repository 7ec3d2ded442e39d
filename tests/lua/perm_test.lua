--- Permissions as a script meets them: flags of a child secrun, and the fenced libraries.

local fs = require "fs"
local json = require "json"
local load_ = require "load"
local process = require "process"

local BINARY = load_.paths().binary .. "/secrun"

--- Run `body` in a child with these flags; what it returns, or its error's kind and text.
local function child(flags, body)
  local argv = {BINARY}
  for _, flag in ipairs(flags) do argv[#argv + 1] = flag end
  argv[#argv + 1] = "-e"
  argv[#argv + 1] = [[
    local json = require "json"
    local function body() ]] .. body .. [[ end
    local ok, value = pcall(body)
    if not ok then value = {kind = value.kind, text = tostring(value)} end
    print(json.encode{ok = ok, value = value})]]
  local result = process.run{argv = argv, timeout = "20s"}
  return json.decode(result.stdout)
end

local function denied(t, flags, body, pattern)
  local answer = child(flags, body)
  assert(not answer.ok, "it was allowed: " .. body)
  t:equal(answer.value.kind, "denied", answer.value.text)
  assert(answer.value.text:find(pattern, 1, true), answer.value.text)
end

local function allowed(flags, body)
  local answer = child(flags, body)
  if not answer.ok then error(answer.value.text) end
  return answer.value
end

local function quoted(path) return ("%q"):format(path) end

test("without flags everything is stock", function(t)
  t:equal(allowed({}, "return type(debug.getupvalue) .. type(package.loadlib)"),
    "functionfunction")
  t:equal(allowed({}, "return io.open('/etc/hosts') ~= nil"), true)
end)

test("io and os ask before they read", function(t)
  local inside = t:tmpdir()
  local file = inside .. "/a"
  fs.write(file, "line\n")
  local flags = {"--allow-read=" .. inside}
  t:equal(allowed(flags, "return io.open(" .. quoted(file) .. "):read()"), "line")
  t:equal(allowed(flags, "return (io.lines(" .. quoted(file) .. ")())"), "line")
  local outside = {"io.open('/etc/passwd')", "io.lines('/etc/passwd')",
    "io.input('/etc/passwd')", "io.open(" .. quoted(inside .. "/../../etc/passwd") .. ")",
    "dofile('/etc/passwd')", "loadfile('/etc/passwd')", "secret 'file:/etc/passwd'",
    "require('cage').data{file = '/etc/passwd'}", "io.open('/etc/passwd', 'r+')"}
  for _, body in ipairs(outside) do
    denied(t, flags, body, "add it to --allow-read")
  end
end)

test("io and os ask before they write", function(t)
  local inside = t:tmpdir()
  local file = quoted(inside .. "/a")
  local flags = {"--allow-write=" .. inside}
  t:equal(allowed(flags, "local f = io.open(" .. file .. ", 'w') f:write('x') f:close() "
    .. "return os.rename(" .. file .. ", " .. quoted(inside .. "/b") .. ")"), true)
  local other = quoted(t:tmpdir() .. "/c")
  for _, body in ipairs{"io.open(" .. other .. ", 'w')", "io.open(" .. other .. ", 'a')",
    "io.open(" .. other .. ", 'r+')", "io.output(" .. other .. ")",
    "os.remove(" .. other .. ")", "os.rename(" .. file .. ", " .. other .. ")",
    "os.tmpname()", "io.tmpfile()"} do
    denied(t, flags, body, "add it to --allow-write")
  end
end)

test("a link does not lead out", function(t)
  local inside, outside = t:tmpdir(), t:tmpdir()
  fs.symlink(outside .. "/new", inside .. "/link")
  denied(t, {"--allow-write=" .. inside},
    "io.open(" .. quoted(inside .. "/link") .. ", 'w')", "add it to --allow-write")
  assert(not fs.exists(outside .. "/new"))
end)

test("the environment is asked for by name", function(t)
  local flags = {"--allow-env=HOME,LC_*"}
  t:equal(allowed(flags, "return os.getenv('HOME') or ''"), os.getenv("HOME") or "")
  denied(t, flags, "os.getenv('PATH')", "add it to --allow-env")
  denied(t, flags, "secret 'env:PATH'", "add it to --allow-env")
end)

test("programs ask, also those that print a secret", function(t)
  denied(t, {"--allow-run=true"}, "secret{exec = {'sh', '-c', 'echo secret'}}",
    "add it to --allow-run")
  denied(t, {"--deny-run"}, "require('process').run{argv = {'true'}}", "--deny-run")
  t:equal(allowed({"--allow-run=printf"},
    "return tostring(secret{exec = {'printf', 'something'}})"), "[secret exec:printf]")
end)

test("read-only forbids files and programs", function(t)
  denied(t, {"--read-only"}, "io.open('/tmp/x', 'w')", "--read-only forbids it")
  denied(t, {"--read-only"}, "require('fs').write('/tmp/x', '')", "--read-only forbids")
  denied(t, {"--read-only"}, "secret{exec = {'true'}}", "--read-only forbids it")
  t:equal(allowed({"--read-only"}, "return io.open('/etc/hosts') ~= nil"), true)
end)

test("deny wins over allow", function(t)
  denied(t, {"--allow-read=/etc", "--deny-read=/etc/passwd"}, "io.open('/etc/passwd')",
    "--deny-read=/etc/passwd forbids it")
end)

test("under a limit native code and insides of functions are out of reach", function(t)
  t:equal(allowed({"--allow-net=a.example"}, [[
    local names = {}
    for name in pairs(debug) do names[#names + 1] = name end
    table.sort(names)
    return {names = names, loadlib = package.loadlib == nil, cpath = package.cpath,
      searchers = #package.searchers, func = debug.getinfo(print, "Sf").func == nil,
      what = debug.getinfo(print).what, level = debug.getinfo(1).short_src ~= nil,
      same = require("debug") == debug}]]),
    {names = {"getinfo", "traceback"}, loadlib = true, cpath = "", searchers = 2,
      func = true, what = "C", level = true, same = true})
end)

test("os.execute and io.popen name process.run, with or without limits", function(t)
  for _, flags in ipairs{{}, {"--allow-net=a.example"}} do
    for _, body in ipairs{"os.execute('true')", "io.popen('true')", "os.execute()"} do
      local answer = child(flags, body)
      t:equal(answer.value.kind, "usage")
      assert(answer.value.text:find("process.run", 1, true), answer.value.text)
    end
  end
end)

test("a wrong flag is a usage error before anything runs", function(t)
  for _, flag in ipairs{"--allow-nte=x", "--allow-net", "--allow-net=a b"} do
    local result = process.run{argv = {BINARY, flag, "-e", "print 'ran'"}, check = false}
    t:equal({result.status, result.stdout}, {2, ""})
  end
end)

test("a script's needs narrow what it may", function(t)
  local path = t:tmpdir() .. "/a.lua"
  fs.write(path, [[
description = "Reads what it says it reads."
needs = {read = {"/usr"}, run = false}
function main()
  print(pcall(io.open, "/etc/hosts"))
  print(pcall(secret, {exec = {"true"}}))
  print(debug.getupvalue)
end]])
  local lines = process.run{argv = {BINARY, path}}.stdout
  assert(lines:find("/etc/hosts: the script's `needs` does not name it"), lines)
  assert(lines:find("may not run true"), lines)
  assert(lines:find("\nnil\n"), lines)
end)

test("under a read limit, code comes from the script's own folder only", function(t)
  local dir, other = t:tmpdir(), t:tmpdir()
  fs.write(dir .. "/near.lua", "return 'near'")
  fs.write(other .. "/far.lua", "return 'far'")
  fs.write(dir .. "/main.lua", ([[
    print((require "near"))
    package.path = %q .. "/?.lua;" .. package.path
    print((try(require, "far")), select(2, try(require, "far")).kind)
    print(select(2, try(require("load").own, "/")).kind)
    print(select(2, try(require("load").file, %q)).kind)
  ]]):format(other, other .. "/far.lua"))
  local result = process.run{argv = {BINARY, "--allow-read=/nowhere", dir .. "/main.lua"},
    check = false}
  t:equal(result.stdout, "near\nnil\tdenied\ndenied\ndenied\n", result.stderr)
  result = process.run{check = false, argv = {BINARY, "--allow-read=/nowhere", "-e",
    'print(select(2, try(require("load").own, "/")).kind)', dir .. "/main.lua"}}
  assert(result.stdout:find("^denied\nnear\n"), result.stdout .. result.stderr)
end)
