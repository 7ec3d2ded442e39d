-- `secrun renew` by SCM: OV at once, EV after people's approval, declined, lost, killed.
local deploy = require "deploy"
local estate_home = require "estate_home"
local fs = require "fs"
local process = require "process"
local scm = require "scm"
local scm_server = require "scm_server"
local store = require "store"
local task = require "task"

local LONG = {timeout = "120s", leaks = true}
local CRASH = estate_home.program:gsub("[^/]+$", "secrun_crash")
local PASSWORD = "api-password"

--- A sandbox for the test, and connections to it: `api` enrols, `approver` decides.
local function start(t, settings)
  settings = settings or {}
  settings.apply_after, settings.issue_after = 0, 0
  local server = scm_server.start{settings = settings}
  t:defer(function() server:close() end)
  local dir = t:tmpdir()
  fs.write(dir .. "/ca.pem", server.ca)
  local function connect(login)
    return scm.connect{url = server.url, ca = server.ca, customer_uri = "sandbox",
      login = login, password = login .. "-password"}
  end
  return {server = server, ca = dir .. "/ca.pem", api = connect "api",
    approver = connect "approver"}
end

local TEXT = [[
scm = {url = %q, ca = %q, customer_uri = "sandbox", login = "api",
  password = secret "env:SCM_PASSWORD", org = "Example Corp", lag = "1s"}
state = %q
allow_internal = {"test"}
certificates = {{name = "shop", domains = {%q}, product = %q,
  install = {dir = %q}, reload = {"sh", "-c", "echo x >>%s/reloads"}}}
]]

--- An estate of one certificate of a product.
local function home_of(t, sandbox, name, product)
  local home = t:tmpdir()
  fs.write(home .. "/estate.lua", TEXT:format(sandbox.server.url, sandbox.ca,
    home .. "/state", name, product, home .. "/shop", home))
  return home
end

local function renew(home, options)
  options = options or {}
  local env = {SCM_PASSWORD = options.password or PASSWORD,
    SECRUN_CRASH_AT = options.crash_at and tostring(options.crash_at)}
  return process.run{check = false, timeout = "60s", env = env,
    argv = {options.program or estate_home.program, "renew", "--wait",
      options.wait or "4s", "--config", home .. "/estate.lua"}}
end

--- The requests of a name that SCM has.
local function requests(sandbox, name)
  local list = {}
  for one in sandbox.api.ssl:list{commonName = name} do list[#list + 1] = one end
  return list
end

local function in_service(t, sandbox, home, name, what)
  local now = deploy.current(home .. "/shop")
  t:equal({now.matches, now.leaf:covers(name), now.reload_pending}, {true, true, false},
    what)
  t:equal(#requests(sandbox, name), 1, what)
  t:equal(fs.list(home .. "/state/keys"), {}, what)
end

test("an OV certificate by SCM is in service after one run", LONG, function(t)
  local sandbox = start(t)
  local name = "ov.example.com"
  local home = home_of(t, sandbox, name, "InstantSSL Pro")
  estate_home.expect(renew(home), 0, "shop +renewed")
  in_service(t, sandbox, home, name)
  estate_home.expect(renew(home), 0, "shop +fine")
  local details = sandbox.api.ssl:get(requests(sandbox, name)[1].sslId)
  assert(details.comments:find("renew:shop:", 1, true), details.comments)
end)

test("an EV certificate waits for approval, and goes on when it is given", LONG,
  function(t)
    local sandbox = start(t, {approval = "manual"})
    local name = "ev.example.com"
    local home = home_of(t, sandbox, name, "EV SSL")
    estate_home.expect(renew(home), 4, "shop +pending", "secrun flow why renew/shop/")
    local id = requests(sandbox, name)[1].sslId
    estate_home.expect(renew(home), 4, "shop +pending")
    t:equal(#requests(sandbox, name), 1)
    sandbox.approver.ssl:approve{id = id, message = "seen"}
    local result
    repeat
      result = renew(home)
      if result.status == 4 then task.sleep(1) end
    until result.status ~= 4
    estate_home.expect(result, 0, "shop +renewed")
    in_service(t, sandbox, home, name)
  end)

test("a request that a person declines ends the renewal with the reason", LONG,
  function(t)
    local sandbox = start(t, {approval = "manual"})
    local name = "no.example.com"
    local home = home_of(t, sandbox, name, "EV SSL")
    estate_home.expect(renew(home), 4, "shop +pending")
    sandbox.approver.ssl:decline{id = requests(sandbox, name)[1].sslId,
      message = "not ours"}
    local result
    repeat
      result = renew(home)
      if result.status == 4 then task.sleep(1) end
    until result.status ~= 4
    estate_home.expect(result, 1, "shop +FAILED", "Declined")
  end)

test("a wrong password says so, with SCM's words, and shows no password", LONG,
  function(t)
    local sandbox = start(t)
    local home = home_of(t, sandbox, "pw.example.com", "InstantSSL Pro")
    local result = renew(home, {password = "canary-wrong-password"})
    estate_home.expect(result, 1, "shop +FAILED", "auth")
    local text = result.stdout .. result.stderr
    t:equal(text:find("canary-wrong-password", 1, true), nil)
    t:equal(#requests(sandbox, "pw.example.com"), 0)
  end)

test("a product that cannot hold the names is refused by check", LONG, function(t)
  local sandbox = start(t)
  local home = home_of(t, sandbox, "*.example.com", "EV SSL")
  estate_home.expect(renew(home), 2, "wildcard")
end)

test("with the answer to the enrolment lost, one request exists at the end", LONG,
  function(t)
    local sandbox = start(t)
    local name = "lost.example.com"
    local home = home_of(t, sandbox, name, "InstantSSL Pro")
    sandbox.server:fault{path = "/api/ssl/v1/enroll", lose = true, times = 1}
    estate_home.expect(renew(home), 0, "shop +renewed")
    in_service(t, sandbox, home, name)
  end)

--- Renew with death at the n-th point, then on; whether there was an n-th point.
local function die_at(t, sandbox, n)
  local name = ("crash%d.example.com"):format(n)
  local home = home_of(t, sandbox, name, "InstantSSL Pro")
  local first = renew(home, {program = CRASH, crash_at = n, wait = "30s"})
  if first.signal ~= "SIGKILL" then
    estate_home.expect(first, 0, "renewed")
    return false
  end
  local what = first.stderr:match("crash point [^\n]+") or "killed"
  local again = renew(home, {wait = "30s"})
  if again.status ~= 0 then
    error(("%s: %s\n%s"):format(what, again.stdout, again.stderr), 0)
  end
  in_service(t, sandbox, home, name, what)
  local db <close> = store.open(home .. "/state/secrun.db")
  t:equal(db:rows("SELECT state FROM flow"), {{state = "ok"}}, what)
  return true
end

--- A person who approves whatever is asked for.
local function approve_all(sandbox)
  while true do
    for one in sandbox.approver.ssl:list{status = "Requested"} do
      sandbox.approver.ssl:approve{id = one.sslId, message = "yes"}
    end
    task.sleep(0.3)
  end
end

test("killed at any point of an OV enrolment that a person approves: one request",
  {timeout = "280s", leaks = true}, function(t)
    local sandbox = start(t, {approval = "manual"})
    local n, over = 0, false
    local function lane()
      while not over do
        n = n + 1
        if not die_at(t, sandbox, n) then over = true end
      end
    end
    local person <close> = task.group()
    person:spawn(approve_all, sandbox)
    local group <close> = task.group()
    for _ = 1, 5 do group:spawn(lane) end
    group:close()
    person:cancel()
    assert(n > 30, n .. " points only")
    print(("SCM crash points tried %d, violations 0"):format(n - 5))
  end)
