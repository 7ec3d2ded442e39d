--- `secrun check` and `secrun renew` before any CA is asked: what is wrong, and what is missing.

local fs = require "fs"
local process = require "process"
local program = require "program"

local GOOD = [[
acme = {directory = "https://ca.example/dir"}
challenge = {webroot = "HOME"}
state = "HOME/state"
certificates = {{name = "www", domains = {"www.example.com"}}}
]]

local function written(t, text)
  local home = t:tmpdir()
  fs.write(home .. "/estate.lua", (text:gsub("HOME", home)))
  return home
end

local function run(home, script, ...)
  return program.run({script, "--config", home .. "/estate.lua", ...})
end

local function expect(result, status, ...)
  local text = result.stdout .. result.stderr
  if result.status ~= status then
    error(("status %s, want %d\n%s"):format(tostring(result.status), status, text), 2)
  end
  for _, wanted in ipairs{...} do
    if not text:find(wanted, 1, true) then
      error(("no %q in\n%s"):format(wanted, text), 2)
    end
  end
  if text:find("traceback", 1, true) then error("a trace:\n" .. text, 2) end
end

test("every mistake of an estate file has a line of its own", function(t)
  local home = written(t, (GOOD:gsub("dir%a*\"}", 'dir", contact = {"me"}}')
    :gsub('www.example.com"}', 'WWW.example.com"}, reload = "x y"')))
  for _, script in ipairs{"check", "renew"} do
    expect(run(home, script), 2, "has 3 mistakes\n", '\n  acme: a contact is "mailto:',
      "\n  certificates[1] (www): reload is a list of words", "capitals")
  end
end)

test("an estate file that cannot be read or trusted is one line, status 2", function(t)
  local folder = t:tmpdir()
  expect(program.run({"check", "--config", folder}), 2, "cannot read " .. folder)
  expect(program.run({"renew", "--config", folder .. "/none"}), 2, "--config FILE")
  expect(program.run({"check"}, {env = {SECRUN_CONFIG = folder .. "/none"}}), 2, folder)
  if process.uid == 0 then
    local home = written(t, GOOD)
    fs.chmod(home .. "/estate.lua", "0666")
    expect(run(home, "check"), 2, "chmod go-w " .. home)
  end
end)

test("check names what the file asks for and this machine lacks", function(t)
  local home = written(t, [[
acme = {directory = "https://ca.example/dir", ca = "HOME/none.pem",
  eab = {kid = "k", hmac_key = secret "file:HOME/none.key"}}
challenge = {webroot = "HOME/html"}
state = "HOME/state"
certificates = {
  {name = "www", domains = {"www.example.com"}, reload = {"no-such-program-here"}},
  {name = "fine", domains = {"b.example.com"}, reload = {"sh", "-c", "true"},
    challenge = {webroot = "HOME"}, acme = {directory = "https://ca.example/dir"}},
}
alerts = {channels = {
  ops = {to = {"a@b.c"}, smtp = {host = "h", from = "a@b.c", ca = "HOME/mail.pem"}},
  hook = {webhook = {url = "https://h.example", secret = secret "file:HOME/none.hook"}},
}}
]])
  local result = run(home, "check")
  expect(result, 2, "unknown option acme")
  fs.write(home .. "/estate.lua", (fs.read(home .. "/estate.lua")
    :gsub(', acme = %b{}', "")))
  result = run(home, "check")
  expect(result, 1, "missing here: certificates[1] (www) acme.ca:", home .. "/none.pem",
    "acme.eab.hmac_key:", "there is no folder " .. home .. "/html",
    'no program "no-such-program-here"', "alerts.channels.ops.smtp.ca:",
    "alerts.channels.hook.webhook:", home .. "/none.hook")
  assert(not result.stderr:find("(fine) challenge", 1, true))
end)

test("check takes no names, renew a positive number of jobs", function(t)
  local home = written(t, GOOD)
  expect(run(home, "check"), 0, "is well-formed")
  expect(run(home, "check", "www"), 2, "takes no names")
  expect(run(home, "renew", "--jobs", "0"), 2, "--jobs needs a whole number, at least 1")
end)

test("a policy that cannot be asked, or does not let pass, is told", function(t)
  local home = written(t, GOOD .. 'policies = {"./ours.lua"}\n')
  expect(run(home, "check"), 2, "./ours.lua", "no such file")
  fs.write(home .. "/ours.lua", "function chek(r) return allow() end\n")
  expect(run(home, "check"), 2, 'policy "./ours.lua" has no function check')
  fs.write(home .. "/ours.lua", "function check(r) return r.x.y end\n")
  expect(run(home, "check"), 2, "ours.lua:1:")
  fs.write(home .. "/ours.lua",
    'function check(r) return need_approval("two", "ask") end\n')
  expect(run(home, "check"), 3, "need_approval: ask")
  expect(run(home, "renew", "--dry-run"), 3, "wants an approval")
end)

test("--dry-run writes nothing, and needs no place for state", function(t)
  local home = written(t, (GOOD:gsub("HOME/state", "/proc/none")))
  expect(run(home, "renew", "--dry-run"), 0, "would renew")
  t:equal(fs.list(home), {"estate.lua"})
end)

test("state that cannot be kept is one line with its place", function(t)
  local home = written(t, (GOOD:gsub("HOME/state", "/proc/none")))
  expect(run(home, "renew"), 1, "cannot be kept: cannot make the folder /proc/none")
end)

test("root keeps no state in a folder of somebody else", function(t)
  if process.uid ~= 0 then return end
  local home = written(t, GOOD)
  fs.mkdir(home .. "/state")
  fs.chown(home .. "/state", "nobody")
  expect(run(home, "renew"), 1, "root does not trust it")
  t:equal(fs.exists(home .. "/state/locks/www"), false)
end)

test("--help explains each option", function()
  for name, option in pairs{renew = "--dry-run", check = "--config FILE"} do
    local help = program.run({name, "--help"}).stdout
    assert(help:find("\n  " .. option, 1, true), help)
  end
end)
