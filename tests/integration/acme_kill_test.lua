-- A renewal killed with SIGKILL between every two steps goes on where it stopped.
local fs = require "fs"
local pebble = require "pebble"
local process = require "process"
local x509 = require "x509"

local CHILD = debug.getinfo(1, "S").source:gsub("^@", "")
CHILD = CHILD:gsub("_test%.lua$", "_child.lua")

local function run(ca, state, fatal)
  return process.run{argv = {fs.readlink("/proc/self/exe"), CHILD, ca.directory, ca.ca,
    ca.http01, state, tostring(fatal)}, timeout = "40s", check = false}
end

local function steps(state)
  local list = {}
  for step in fs.read(state .. "/steps"):gmatch("[^\n]+") do list[#list + 1] = step end
  return list
end

test("killed after each step, one certificate is issued, with the same key",
  {timeout = "120s", leaks = true}, function(t)
    local ca, whole = pebble.start(t), t:tmpdir()
    local first = run(ca, whole, 0)
    t:equal(first.status, 0, first.stderr)
    local names = steps(whole)
    assert(#names >= 10, table.concat(names, " "))
    for n, name in ipairs(names) do
      local state, before = t:tmpdir(), ca:issued()
      t:equal(run(ca, state, n).signal, "SIGKILL", name)
      local key = x509.read_key{pem = fs.read(state .. "/a.test/key.pem")}
      local second = run(ca, state, 0)
      t:equal(second.status, 0, name .. ": " .. second.stderr)
      t:equal(second.stdout:match("%x+"), key.spki_sha256, name)
      t:equal(ca:issued() - before, 1, name)
    end
  end)

test("until done the same certificate comes back", {timeout = "60s", leaks = true},
  function(t)
  local ca, state = pebble.start(t), t:tmpdir()
  local one, two = run(ca, state, 0), run(ca, state, 0)
  t:equal(one.status, 0, one.stderr)
  t:equal(two.stdout, one.stdout)
  t:equal(ca:issued(), 1)
end)
