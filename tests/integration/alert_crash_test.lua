-- Every place where a run of `secrun watch` can die, one by one: the next run tells what
-- the first did not, and a mail or webhook that came twice is the same one.
local estate_home = require "estate_home"
local fs = require "fs"
local http = require "http"
local process = require "process"
local smtp_sink = require "smtp_sink"
local store = require "store"
local task = require "task"

local CRASH = estate_home.program:gsub("[^/]+$", "secrun_crash")
local FEWEST, MOST = 15, 200 -- places of such a run
local AT_ONCE = 4

local ESTATE = [[
acme = {directory = "https://ca.example/dir"}
challenge = {webroot = "/var/www"}
state = "HOME/state"
certificates = {{name = "www", domains = {"www.example.com"}}}
alerts = {channels = {
  ops = {to = {"ops@example.com"}, smtp = {host = "127.0.0.1", port = SMTP, tls = "none",
    from = "secrun@example.com", helo = "NAME.test"}},
  hook = {webhook = {url = "URL/NAME", secret = secret "file:HOME/key"}}}}
]]

--- A mail server and a webhook receiver that keep what each run sent them, by its name.
local function receivers(t)
  local got = {mails = {}, hooks = {}}
  local sink = smtp_sink.start()
  sink.on_message = function(message)
    local name = message.helo:match "^[^.]+"
    got.mails[name] = got.mails[name] or {}
    table.insert(got.mails[name], message.raw)
  end
  local server = http.serve{listen = "127.0.0.1:0", handler = function(req)
    local name = req.path:sub(2)
    got.hooks[name] = got.hooks[name] or {}
    table.insert(got.hooks[name], req.headers["secrun-delivery"] .. req.body)
    return {status = 204}
  end}
  t:defer(function() server:close{grace = 0} end)
  t:defer(function() sink:close() end)
  got.port, got.url = sink.port, server.url
  return got
end

--- A home of its own, whose store has its schema already.
local function home_of(t, got, name)
  local home = t:tmpdir()
  local text = ESTATE:gsub("HOME", home):gsub("SMTP", tostring(got.port))
    :gsub("URL", got.url):gsub("NAME", name)
  fs.write(home .. "/estate.lua", text)
  fs.write(home .. "/key", "key-of-the-hook")
  fs.mkdir(home .. "/state", {mode = "0700"})
  store.open(home .. "/state/secrun.db"):close()
  return home
end

local function watch(program, home, env)
  return process.run{argv = {program, "watch", "--once", "--config",
    home .. "/estate.lua"}, check = false, timeout = "60s", env = env}
end

--- At least once, and always the same.
local function same(list, what)
  assert(list and #list >= 1, what .. ": nothing came")
  for _, one in ipairs(list) do
    if one ~= list[1] then error(what .. ": what came twice is not the same", 0) end
  end
end

--- Die at the n-th place, then run again; whether there was such a place. The two channels
--- race, so the n-th place is not the same one in every run.
local function die_at(t, got, n)
  local name = "n" .. n
  local home = home_of(t, got, name)
  local first = watch(CRASH, home, {SECRUN_CRASH_AT = tostring(n)})
  if first.signal ~= "SIGKILL" then return false end
  local what = first.stderr:match "crash point [^\n]+" or "killed"
  for _ = 1, n % 4 == 0 and 2 or 1 do
    local again = watch(estate_home.program, home)
    if again.status ~= 0 then error(what .. ": " .. again.stdout .. again.stderr, 0) end
  end
  same(got.mails[name], what)
  same(got.hooks[name], what)
  local db <close> = store.open(home .. "/state/secrun.db")
  local rows = db:rows "SELECT state, told_state FROM alert"
  t:equal(rows, {{state = "firing", told_state = "firing"}}, what)
  t:equal(db:rows "SELECT channel, state FROM alert_outbox ORDER BY channel",
    {{channel = "hook", state = "sent"}, {channel = "ops", state = "sent"}}, what)
  return true
end

test("a watch that lives tells each channel once", function(t)
  local got = receivers(t)
  local home = home_of(t, got, "whole")
  for _ = 1, 2 do t:equal(watch(estate_home.program, home).status, 0) end
  t:equal({#got.mails.whole, #got.hooks.whole}, {1, 1})
end)

test("a watch that dies at any place is made good by the next", {timeout = "170s"},
function(t)
  local got, last, ended = receivers(t), 0, false
  local twice = 0
  while not ended do
    local batch = {}
    for i = 1, AT_ONCE do batch[i] = last + i end
    local there = task.each(batch, {limit = AT_ONCE, stop_on_error = true}, function(n)
      return die_at(t, got, n)
    end)
    for i, was in ipairs(there) do
      if was then last = batch[i] else ended = true end
    end
    assert(last < MOST, "it never comes to its end")
  end
  assert(last >= FEWEST, ("only %d places"):format(last))
  for _, list in pairs(got.mails) do twice = twice + (#list > 1 and 1 or 0) end
  print(("# alerts: %d crash points, 0 lost, %d mails came twice and were the same")
    :format(last, twice))
end)
