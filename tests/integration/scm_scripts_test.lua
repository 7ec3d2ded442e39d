-- The scripts that ask SCM, against the sandbox: inventory, orgs, profiles, enroll, revoke.
local estate_home = require "estate_home"
local fs = require "fs"
local json = require "json"
local process = require "process"
local scm_server = require "scm_server"

local LONG = {timeout = "60s", leaks = true}

local TEXT = [[
scm = {url = %q, ca = %q, customer_uri = "sandbox", login = "api",
  password = secret "env:SCM_PASSWORD", org = "Example Corp", lag = "1s"}
state = %q
certificates = {{name = "shop", domains = {"shop.example.com"},
  product = "InstantSSL Pro"}}
]]

--- A sandbox with an estate of its own; run(script, words…) → result.
local function start(t, certificates)
  local server = scm_server.start{certificates = certificates,
    settings = {apply_after = 0, issue_after = 0}}
  t:defer(function() server:close() end)
  local home = t:tmpdir()
  fs.write(home .. "/ca.pem", server.ca)
  fs.write(home .. "/estate.lua", TEXT:format(server.url, home .. "/ca.pem",
    home .. "/state"))
  return function(script, ...)
    return process.run{check = false, timeout = "30s",
      env = {SCM_PASSWORD = "api-password"},
      argv = {estate_home.program, script, "--config", home .. "/estate.lua", ...}}
  end
end

local expect = estate_home.expect

test("the inventory is filtered by expiry and by any field", LONG, function(t)
  local run = start(t, 400)
  local all = json.decode(expect(run("inventory", "--json"), 0).stdout)
  local soon = json.decode(expect(run("inventory", "--json", "--expires-within", "30d"),
    0).stdout)
  assert(#all > 200 and #soon > 5 and #soon < #all, #all .. " " .. #soon)
  for i = 2, #soon do assert(soon[i - 1].expires <= soon[i].expires) end
  local ev = json.decode(expect(run("inventory", "--json", "profile=ev*",
    "--expires-within", "90d"), 0).stdout)
  assert(#ev > 0)
  for _, row in ipairs(ev) do assert(row.profile:find("^EV"), row.profile) end
  expect(run("inventory", "--expires-within", "5d"), 0, "common_name", "certificates\n$")
end)

test("the inventory as CSV has every field, and no formula", LONG, function(t)
  local run = start(t, 50)
  local text = expect(run("inventory", "--csv"), 0).stdout
  t:equal(text:match("^[^\n]+"), "id,common_name,names,org,profile,status,requested,"
    .. "expires,serial,requester,via,issuer,comments,login")
  t:equal(text:find("\n[=+@]"), nil)
end)

test("words that are no filter are told apart", LONG, function(t)
  local run = start(t, 0)
  expect(run("inventory", "statu=x"), 2, "did you mean status")
  expect(run("inventory", "www"), 2, "FIELD=GLOB")
  expect(run("inventory", "--json", "--csv"), 2, "not both")
  expect(run("inventory", "--org", "nobody"), 0)
end)

test("organizations and profiles are listed", LONG, function(t)
  local run = start(t, 0)
  expect(run("orgs"), 0, "Example Corp", "Example Corp/IT")
  expect(run("profiles"), 0, "InstantSSL Pro", "EV SSL")
end)

test("a certificate is enrolled, found in the inventory, and revoked", LONG, function(t)
  local run = start(t, 0)
  expect(run("enroll", "--product", "InstantSSL Pro", "wiki.example.com"), 0,
    "wiki.example.com +renewed", "installed to")
  local rows = json.decode(expect(run("inventory", "--json",
    "common_name=wiki.example.com"), 0).stdout)
  t:equal(#rows, 1)
  expect(run("revoke", "--id", tostring(rows[1].id)), 2, "--reason")
  expect(run("revoke", "--id", tostring(rows[1].id), "--reason", "test", "--code",
    "keyCompromize"), 2, "keyCompromise")
  expect(run("revoke", "--id", tostring(rows[1].id), "--reason", "test"), 0, "revoked")
  rows = json.decode(expect(run("inventory", "--json", "--expired",
    "common_name=wiki.example.com"), 0).stdout)
  t:equal(rows[1].status, "Revoked")
end)

test("enrolling explains what is missing", LONG, function(t)
  local run = start(t, 0)
  expect(run("enroll", "--product", "EV SL", "a.example.com"), 2, "EV SSL")
  expect(run("enroll", "--product", "EV SSL"), 2, "give the domains")
  expect(run("enroll", "a.example.com"), 2, "give %-%-product")
  expect(run("enroll", "--product", "EV SSL", "*.example.com"), 2, "wildcard")
  expect(run("enroll", "--products"), 0, "InstantSSL Premium Wildcard")
end)
