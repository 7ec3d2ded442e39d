--- `secrun watch` and `secrun alerts`: from installed files to what people receive.

local alert = require "alert"
local deploy = require "deploy"
local estate = require "estate"
local fs = require "fs"
local http = require "http"
local json = require "json"
local program = require "program"
local smtp_sink = require "smtp_sink"
local store = require "store"
local time = require "time"
local watch = require "watch"
local webhook = require "alert_webhook"
local x509 = require "x509"

local HOUR, DAY = 3600, 86400
local VIRTUAL = {clock = "virtual", timeout = "1000d"}
local KEY = x509.key{type = "p256"}

--- An estate of these names with a webhook that keeps what it gets.
local function setup(t, names, more)
  local home, got = t:tmpdir(), {}
  local server = http.serve{listen = "127.0.0.1:0", handler = function(req)
    assert(webhook.verify("hook-canary-1", req.headers["secrun-signature"], req.body,
      time.now()))
    for _, one in ipairs(json.decode(req.body).alerts) do got[#got + 1] = one end
    return {status = 204}
  end}
  fs.write(home .. "/hook", "hook-canary-1")
  local list = {}
  for i, name in ipairs(names) do
    list[i] = ('{name = "%s", domains = {"%s.example.com"}, owner = "web"}'):format(name,
      name)
  end
  local file = home .. "/estate.lua"
  fs.write(file, ([[
acme = {directory = "https://ca.example/dir"}
challenge = {webroot = "/var/www"}
state = "%s/state"
certificates = {%s}
alerts = {channels = {hook = {webhook = {url = "%s", secret = secret "file:%s/hook"}}}}
%s]]):format(home, table.concat(list, ", "), server.url, home, more or ""))
  local e = estate.load(file)
  fs.mkdir(e.state, {parents = true, mode = "0700"})
  local db = store.open(e.store)
  alert.use(db, alert.config(e))
  t:defer(function() server:close{grace = 0} end)
  t:defer(function()
    alert.use()
    db:close()
  end)
  return {e = e, db = db, got = got, home = home, file = file}
end

--- Put a certificate of that life into service.
local function install(s, name, days, key)
  local dir = s.e.state .. "/live/" .. name
  local cert = x509.sign{subject = {CN = name}, key = KEY,
    names = {name .. ".example.com"}, not_before = time.now(),
    not_after = time.now() + days * DAY}
  deploy.install{dir = dir, pem = cert:pem(), key = KEY}
  if key then fs.write(dir .. "/current/key.pem", key:pem()) end
end

local function look(s)
  local found = watch.look(s.db, s.e)
  alert.deliver()
  return found
end

--- What was told since the last time, as one line.
local function told(s)
  local list = {}
  for i, one in ipairs(s.got) do
    list[i] = one.id .. " " .. (one.state == "resolved" and "resolved" or one.severity)
    s.got[i] = nil
  end
  table.sort(list)
  return table.concat(list, ", ")
end

test("certificates renewed in time are silent, long and short ones", VIRTUAL, function(t)
  local s = setup(t, {"a", "b"})
  install(s, "a", 47)
  install(s, "b", 20)
  for _ = 1, 2 * 50 do
    for _, one in ipairs(look(s)) do
      if one.state == "due" then install(s, one.name, one.name == "a" and 47 or 20) end
    end
    time.advance(DAY / 2)
  end
  t:equal({#s.got, #alert.list()}, {0, 0})
end)

test("a renewal that is late is told once, climbs, and ends with the renewal", VIRTUAL,
function(t)
  local s = setup(t, {"www"})
  install(s, "www", 90)
  time.advance(60 * DAY + HOUR) -- due
  t:equal(look(s)[1].state, "due")
  t:equal(told(s), "")
  time.advance(DAY)
  t:equal({look(s)[1].state, told(s)}, {"late", "renewal-late/www warning"})
  time.advance(HOUR)
  look(s)
  t:equal(told(s), "") -- expiry info is there and follows from it
  t:equal(alert.get("expiry", "www").severity, "info")
  time.advance(22 * DAY)
  t:equal({look(s)[1].severity, told(s)}, {"critical", "renewal-late/www critical"})
  install(s, "www", 90)
  t:equal({look(s)[1].state, told(s)}, {"fine", "renewal-late/www resolved"})
  look(s)
  t:equal(told(s), "")
end)

test("a week without a look gives one alert a subject, at its worst", VIRTUAL, function(t)
  local names = {"a", "b", "c", "d"}
  local s = setup(t, names)
  for i, name in ipairs(names) do install(s, name, ({90, 10, 30, 300})[i]) end
  look(s)
  time.advance(7 * DAY)
  for _ = 1, 3 do look(s) end
  t:equal(told(s), "renewal-late/b warning")
  time.advance(60 * DAY)
  for _ = 1, 3 do look(s) end
  t:equal(told(s),
    "renewal-late/a warning, renewal-late/b critical, renewal-late/c critical")
end)

test("an expired certificate says when it ended and what to type", VIRTUAL, function(t)
  local s = setup(t, {"www"})
  install(s, "www", 30)
  time.advance(33 * DAY)
  look(s)
  local one = s.got[1]
  t:equal({one.severity, one.owner, one.details.next[1]},
    {"critical", "web", "secrun renew www"})
  assert(one.message:find("expired 3 days ago", 1, true), one.message)
  assert(one.details.not_after:find("^%d+%-%d+%-%d+T.*Z$"))
end)

test("what is missing, broken or unreadable is told, and its end", VIRTUAL, function(t)
  local s = setup(t, {"gone", "mixed"})
  install(s, "mixed", 90, x509.key{type = "p256"})
  local found = look(s)
  t:equal({found[1].state, found[2].state}, {"missing", "broken"})
  t:equal(told(s), "broken/mixed critical, missing/gone info")
  time.advance(1.5 * DAY)
  look(s)
  t:equal(told(s):match("missing/gone %a+"), "missing/gone warning")
  install(s, "gone", 90)
  install(s, "mixed", 90)
  look(s)
  t:equal(told(s), "broken/mixed resolved, missing/gone resolved")
  fs.remove(s.e.state .. "/live/gone/current")
  fs.mkdir(s.e.state .. "/live/gone/current")
  t:equal(look(s)[1].state, "unreadable")
  t:equal(told(s), "broken/gone warning")
end)

test("a certificate that left the estate is nobody's alert", VIRTUAL, function(t)
  local s = setup(t, {"a", "b"})
  look(s)
  told(s)
  table.remove(s.e.certificates, 1)
  look(s)
  t:equal(told(s), "missing/a resolved")
end)

test("looking at one certificate leaves the others alone", VIRTUAL, function(t)
  local s = setup(t, {"a", "b"})
  look(s)
  told(s)
  t:equal(#watch.look(s.db, s.e, {s.e.certificates[1]}), 1)
  t:equal(alert.get("missing", "b").state, "firing")
end)

-- ------------------------------------------------------------------ as people type it

--- An estate with a mail channel whose password comes from the environment.
local function mail_estate(t, sink)
  local home = t:tmpdir()
  local text = [[
acme = {directory = "https://ca.example/dir"}
challenge = {webroot = "/var/www"}
state = "HOME/state"
certificates = {{name = "www", domains = {"www.example.com"}, owner = "web"}}
alerts = {channels = {ops = {to = {"ops@example.com"}, smtp = {host = "127.0.0.1",
  port = PORT, ca = "HOME/ca.pem", user = "secrun",
  password = secret "env:MAIL_PASSWORD", from = "secrun <secrun@example.com>"}}}}
]]
  text = text:gsub("HOME", home):gsub("PORT", tostring(sink.port))
  fs.write(home .. "/estate.lua", text)
  fs.write(home .. "/ca.pem", sink.ca)
  return home
end

test("watch and alerts as commands: status, table, mail, ack, test", function(t)
  local canary = "mail-canary-4711"
  local sink = smtp_sink.start{tls = "starttls", auth = {user = "secrun",
    password = canary, required = true}}
  t:defer(function() sink:close() end)
  local home, all = mail_estate(t, sink), {}
  local function run(status, command, ...)
    local result = program.run({command, "--config", home .. "/estate.lua", ...},
      {env = {MAIL_PASSWORD = canary, USER = "kim", SUDO_USER = false}})
    all[#all + 1] = result.stdout .. result.stderr
    if result.status ~= status then
      error(("status %s: %s"):format(tostring(result.status), all[#all]), 2)
    end
    return all[#all]
  end
  assert(run(0, "watch", "--once"):find("www +missing .* info +there is no certificate"))
  t:equal(sink:messages()[1].subject, "[secrun] INFO: www: there is no certificate in "
    .. home .. "/state/live/www")
  assert(run(0, "alerts"):find("info +missing/www .* to ops .*\nops +works"))
  assert(run(0, "alerts", "show", "missing/www"):find("secrun renew www", 1, true))
  run(0, "alerts", "ack", "missing/www", "--for", "12h", "--comment", "on it")
  local shown = run(0, "alerts", "show", "missing/www", "--json")
  t:equal({json.decode(shown).ack_by, json.decode(shown).deliveries[1].state},
    {"kim", "sent"})
  run(0, "alerts", "test", "ops")
  t:equal(sink.count, 2)
  assert(run(2, "alerts", "test", "opps"):find("did you mean ops?", 1, true))
  assert(run(2, "alerts", "lst"):find("did you mean list?", 1, true))
  assert(run(2, "alerts", "ack", "missing/ww"):find("did you mean missing/www?", 1, true))
  assert(run(2, "alerts", "ack"):find("needs an alert", 1, true))
  sink:refuse{mail = "451 later"}
  assert(run(1, "alerts", "test", "ops"):find("451", 1, true))
  local text = table.concat(all)
  for _, name in ipairs(fs.list(home .. "/state")) do
    local path = home .. "/state/" .. name
    if name:find("secrun.db", 1, true) then text = text .. fs.read(path) end
  end
  assert(#text > 20000 and not text:find(canary, 1, true))
  assert(not text:find("traceback", 1, true), text:match("traceback.*"))
end)

test("an alert says what was tried and why it failed", function(t)
  local home = t:tmpdir()
  local text = [[
acme = {directory = "https://127.0.0.1:1/dir", terms_agreed = true}
challenge = {webroot = "HOME"}
state = "HOME/state"
certificates = {{name = "www", domains = {"www.corp.internal"},
  install = {dir = "HOME/www"}}}
]]
  fs.write(home .. "/estate.lua", (text:gsub("HOME", home)))
  local cert = x509.sign{subject = {CN = "www"}, key = KEY, names = {"www.corp.internal"},
    not_before = time.now() - 85 * DAY, not_after = time.now() + 5 * DAY}
  deploy.install{dir = home .. "/www", pem = cert:pem(), key = KEY}
  local function run(command, ...)
    return program.run{command, "--config", home .. "/estate.lua", ...}
  end
  t:equal({run("renew").status, run("watch", "--once").status}, {3, 1})
  local shown = json.decode(run("alerts", "show", "renewal-late/www", "--json").stdout)
  t:equal({shown.severity, shown.details.next[2]}, {"critical", "secrun renew www"})
  assert(shown.details.tried:find("it failed", 1, true), shown.details.tried)
  assert(shown.details.error:find("internal", 1, true), shown.details.error)
  assert(shown.details.next[1]:find("^secrun flow why renew/www/%d+$"))
end)

test("a channel that fails makes watch fail, and its secret is not shown", function(t)
  local sink = smtp_sink.start{tls = "starttls", auth = {user = "secrun", password = "x"}}
  t:defer(function() sink:close() end)
  local home = mail_estate(t, sink)
  local result = program.run({"watch", "--once", "--config", home .. "/estate.lua"},
    {env = {MAIL_PASSWORD = "mail-canary-12"}})
  local text = result.stdout .. result.stderr
  t:equal(result.status, 1)
  t:equal(program.run({"watch", "--once", "--no-fail", "--config", home
    .. "/estate.lua"}, {env = {MAIL_PASSWORD = "mail-canary-12"}}).status, 0)
  assert(text:find("535", 1, true) and not text:find("mail-canary-12", 1, true), text)
  result = program.run({"watch", "--once", "--config", home .. "/estate.lua"},
    {env = {MAIL_PASSWORD = false}})
  t:equal(result.status, 1)
end)
