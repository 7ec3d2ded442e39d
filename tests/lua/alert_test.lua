--- Alerts from raise to receipt: the store, the outbox, mails and webhooks.

local alert = require "alert"
local fs = require "fs"
local http = require "http"
local json = require "json"
local outbox = require "alert_outbox"
local program = require "program"
local routes = require "alert_routes"
local smtp_sink = require "smtp_sink"
local store = require "store"
local task = require "task"
local time = require "time"
local webhook = require "alert_webhook"

local HOUR, DAY = 3600, 86400
local VIRTUAL = {clock = "virtual", timeout = "400d"}
local KEY = "hook-canary-55"

local function open(t)
  local db = store.open("sqlite:" .. t:tmpdir() .. "/secrun.db")
  t:defer(function()
    alert.use()
    db:close()
  end)
  return db
end

local function sink_of(t, options)
  local sink = smtp_sink.start(options)
  t:defer(function() sink:close() end)
  return sink
end

local function mail_channel(sink, to)
  return {to = to or {"ops@example.com"}, smtp = {host = "127.0.0.1", port = sink.port,
    tls = "none", from = "secrun <secrun@example.com>", timeout = "20s"}}
end

--- A webhook receiver; answer(req, n) → response.
local function hook_of(t, answer)
  local hook = {got = {}}
  local server = http.serve{listen = "127.0.0.1:0", handler = function(req)
    hook.got[#hook.got + 1] = {id = req.headers["secrun-delivery"],
      body = json.decode(req.body), at = time.now(),
      good = webhook.verify(KEY, req.headers["secrun-signature"], req.body, time.now())}
    return answer and answer(req, #hook.got) or {status = 204}
  end}
  t:defer(function() server:close{grace = 0} end)
  hook.channel = {webhook = {url = server.url, secret = KEY, timeout = "20s"}}
  return hook
end

local function config_of(channels, more)
  local alerts = {channels = channels}
  for key, value in pairs(more or {}) do alerts[key] = value end
  local config = routes.read(alerts) -- secrets of tests are plain text
  return config
end

local function expiry(subject, severity, more)
  local made = {kind = "expiry", subject = subject, severity = severity,
    message = "expires soon"}
  for key, value in pairs(more or {}) do made[key] = value end
  return alert.raise(made)
end

-- ------------------------------------------------------------------ rows

test("an alert is one row, whoever raises it and how often", function(t)
  local db = open(t)
  alert.use(db)
  local names = {}
  for i = 1, 20 do names[i] = i end
  task.each(names, {limit = 20}, function(i)
    expiry("www", i % 3 == 0 and "critical" or "warning", {details = {by = i}})
  end)
  local all = alert.list()
  t:equal({#all, all[1].severity, all[1].state, all[1].version}, {1, "critical", "firing",
    19})
  t:equal(alert.get("expiry", "www").id, "expiry/www")
  t:equal(alert.get("expiry", "other"), nil)
  t:equal(alert.resolve{kind = "expiry", subject = "other"}, false)
  t:equal(alert.resolve{kind = "expiry", subject = "www"}, true)
  t:equal(alert.resolve{kind = "expiry", subject = "www"}, false)
end)

test("bad alerts are refused with the mend", function(t)
  t:raises(function() expiry("www", "info") end, "usage", "alert.use")
  alert.use(open(t))
  t:raises(function() expiry("www", "fatal") end, "usage", "info|warning|critical")
  t:raises(function() expiry("", "info") end, "usage", "subject")
  t:raises(function() expiry("a\nb", "info") end, "usage", "control")
  t:raises(function()
    alert.raise{kind = "Bad Kind", subject = "x", severity = "info"}
  end, "usage", "lower%-case")
  t:raises(function() expiry("www", "info", {mesage = "x"}) end, "usage",
    "did you mean message")
  t:raises(function() expiry("www", "info", {details = {f = print}}) end, "usage",
    "details.f is a function")
  t:raises(function() alert.ack{kind = "expiry", subject = "www", by = "kim"} end,
    "not_found", "expiry/www")
  t:equal(#alert.list(), 0)
end)

test("a secret that slipped into an alert is not kept", function(t)
  local path = t:tmpdir() .. "/s"
  fs.write(path, "canary-in-details-9")
  local held = secret("file:" .. path)
  local db = open(t)
  alert.use(db)
  expiry("www", "info", {message = "got canary-in-details-9",
    details = {error = "x canary-in-details-9\0\xff", list = {"canary-in-details-9"}}})
  t:raises(function() expiry("api", "info", {details = {key = held}}) end, "usage", "key")
  assert(not json.encode(db:rows "SELECT * FROM alert"):find("canary", 1, true))
end)

-- ------------------------------------------------------------------ receipt

test("a mail and a webhook are received as they were promised", function(t)
  local db, sink, hook = open(t), sink_of(t), hook_of(t)
  alert.use(db, config_of{ops = mail_channel(sink), hook = hook.channel})
  expiry("www", "critical", {org = "Example", owner = "web", deadline = time.now() + DAY,
    details = {names = {"www.example.com"}, error = "no route",
      next = "secrun renew www"}})
  t:equal(alert.deliver(), {told = 2, sent = 2, failed = 0})
  local got = sink:messages()[1]
  t:equal(got.subject, "[secrun] CRITICAL: www: expires soon")
  assert(got.text:find("secrun renew www", 1, true))
  assert(got.html:find("no route", 1, true))
  t:equal(got.headers["auto-submitted"], "auto-generated")
  local id = got.headers["x-secrun-delivery"]
  t:equal(got.headers["message-id"], "<" .. id .. "@example.com>")
  t:equal({#hook.got, hook.got[1].good, hook.got[1].body.alerts[1].subject},
    {1, true, "www"})
  t:equal(hook.got[1].id, hook.got[1].body.delivery)
  t:equal(alert.deliver(), {told = 0, sent = 0, failed = 0})
  local history = alert.history("expiry/www")
  t:equal({#history, history[1].state, history[1].reason}, {2, "sent", "new"})
end)

test("several alerts at once are one mail", function(t)
  local db, sink = open(t), sink_of(t)
  alert.use(db, config_of{ops = mail_channel(sink)})
  for i = 1, 12 do expiry("site" .. i, i == 7 and "critical" or "warning") end
  t:equal(alert.deliver().sent, 1)
  local got = sink:messages()[1]
  assert(got.subject:find("^%[secrun%] 1 critical, 11 warning: site7, "), got.subject)
  for i = 1, 12 do assert(got.text:find("site" .. i .. " ", 1, true)) end
end)

test("routes choose the channels, and the end goes where the beginning went", function(t)
  local db, a, b = open(t), hook_of(t), hook_of(t)
  local channels = {a = a.channel, b = b.channel}
  alert.use(db, config_of(channels, {routes = {{severity = "critical", to = {"a"}}},
    default = {"b"}}))
  expiry("x", "critical")
  expiry("y", "info")
  alert.deliver()
  t:equal({#a.got, #b.got, a.got[1].body.alerts[1].subject}, {1, 1, "x"})
  alert.use(db, config_of(channels, {default = {"b"}}))
  alert.resolve{kind = "expiry", subject = "x", message = "renewed"}
  alert.deliver()
  t:equal({#a.got, #b.got, a.got[2].body.alerts[1].state}, {2, 1, "resolved"})
end)

test("without channels an alert is only logged", function(t)
  local db = open(t)
  alert.use(db)
  expiry("www", "warning")
  t:equal(alert.deliver(), {told = 0, sent = 0, failed = 0})
  t:equal(alert.get("expiry", "www").told_state, "firing")
  t:equal(alert.next_at() > time.now() + HOUR, true)
end)

-- ------------------------------------------------------------------ time

test("a week of downtime gives one alert a subject, with the right severity", VIRTUAL,
function(t)
  local db, hook = open(t), hook_of(t)
  alert.use(db, config_of{hook = hook.channel})
  expiry("old", "info")
  alert.deliver()
  time.advance(7 * DAY)
  for i = 1, 30 do expiry("s" .. i, i % 2 == 0 and "critical" or "warning") end
  expiry("old", "critical")
  for _ = 1, 5 do alert.deliver() end
  t:equal(#hook.got, 2)
  local seen = {}
  for _, one in ipairs(hook.got[2].body.alerts) do
    assert(not seen[one.subject])
    seen[one.subject] = one.severity
  end
  t:equal({seen.s1, seen.s2, seen.old, #hook.got[2].body.alerts},
    {"warning", "critical", "critical", 31})
end)

test("a server tells what is raised, repeats, and stops when it is acknowledged", VIRTUAL,
function(t)
  local db, hook = open(t), hook_of(t)
  local config = config_of{hook = hook.channel}
  alert.use(db, config)
  local running = task.daemon(alert.run, db, config)
  task.sleep(60)
  expiry("a", "warning")
  expiry("b", "warning")
  task.sleep(60)
  t:equal({#hook.got, #hook.got[1].body.alerts}, {1, 2})
  task.sleep(2 * DAY)
  t:equal({#hook.got, hook.got[2].body.alerts[1].reason}, {3, "repeat"})
  alert.ack{kind = "expiry", subject = "a", by = "kim", expires = time.now() + 3 * DAY}
  alert.resolve{kind = "expiry", subject = "b"}
  task.sleep(2 * DAY)
  t:equal({#hook.got, hook.got[4].body.alerts[1].state}, {4, "resolved"})
  task.sleep(1.5 * DAY)
  t:equal({#hook.got, hook.got[5].body.alerts[1].subject}, {5, "a"})
  running:cancel()
end)

test("a child waits behind its cause", VIRTUAL, function(t)
  local db, hook = open(t), hook_of(t)
  alert.use(db, config_of{hook = hook.channel})
  alert.raise{kind = "ca-down", subject = "ca", severity = "warning"}
  expiry("a", "warning", {cause = "ca-down/ca"})
  expiry("b", "critical", {cause = "ca-down/ca"})
  alert.deliver()
  t:equal(#hook.got[1].body.alerts, 2)
  t:equal(hook.got[1].body.alerts[1].subject, "b")
  alert.resolve{kind = "ca-down", subject = "ca"}
  time.advance(120)
  alert.deliver()
  local told = {}
  for _, one in ipairs(hook.got[2].body.alerts) do told[one.id] = one.reason end
  t:equal(told, {["ca-down/ca"] = "resolved", ["expiry/a"] = "new"})
end)

-- ------------------------------------------------------------------ channels that fail

--- Deliver every so often for so long.
local function keep_delivering(seconds, every)
  for _ = 1, seconds // (every or 1800) do
    alert.deliver()
    time.advance(every or 1800)
  end
end

test("a channel that fails is tried again, and becomes an alert to the others", VIRTUAL,
function(t)
  local db, sink = open(t), sink_of(t, {refuse = {mail = "451 4.3.0 later"}})
  local hook = hook_of(t)
  local config = config_of({ops = mail_channel(sink), hook = hook.channel},
    {routes = {{kind = "expiry", to = {"ops"}}}})
  alert.use(db, config)
  expiry("www", "warning")
  t:equal(alert.deliver(), {told = 1, sent = 0, failed = 1})
  local health = alert.channels().ops
  t:equal({health.failures, health.waiting, health.lost}, {1, 1, 0})
  assert(health.error:find("451", 1, true) and health.next_at > time.now())
  t:equal(alert.deliver(), {told = 0, sent = 0, failed = 0}) -- left alone for a while
  keep_delivering(2 * HOUR)
  local told = hook.got[1].body.alerts[1]
  t:equal({#hook.got, told.id}, {1, "channel/ops"})
  assert(told.message:find("451") and told.details.next[2] == "secrun alerts test ops")
  sink:refuse{}
  keep_delivering(3 * HOUR)
  t:equal({sink.count, #hook.got, hook.got[2].body.alerts[1].state}, {1, 2, "resolved"})
  t:equal({alert.channels().ops.failures, alert.channels().ops.waiting}, {0, 0})
end)

test("what a server refuses for good is given up and told", VIRTUAL, function(t)
  for _, case in ipairs{
    {{rcpt = "550 5.1.1 no such user"}, "550"}, {{message = "554 5.6.0 spam"}, "554"}} do
    local db, sink, hook = open(t), sink_of(t, {refuse = case[1]}), hook_of(t)
    alert.use(db, config_of({ops = mail_channel(sink), hook = hook.channel},
      {routes = {{kind = "expiry", to = {"ops"}}}}))
    expiry("www", "warning")
    alert.deliver()
    t:equal({alert.channels().ops.lost, alert.channels().ops.waiting}, {1, 0})
    assert(hook.got[1].body.alerts[1].message:find(case[2], 1, true))
    t:equal(alert.history("expiry/www")[1].state, "failed")
  end
end)

test("a mail server that wants another password is waited for", VIRTUAL, function(t)
  local db = open(t)
  local sink = sink_of(t, {tls = "starttls", auth = {user = "u", password = "right-one"}})
  local channel = {smtp = {host = "127.0.0.1", port = sink.port, ca = sink.ca, user = "u",
    password = "wrong-canary-3", from = "s@example.com"}, to = {"ops@example.com"}}
  alert.use(db, config_of{ops = channel})
  expiry("www", "warning")
  alert.deliver()
  local health = alert.channels().ops
  t:equal({health.waiting, health.lost}, {1, 0})
  assert(health.error:find("535", 1, true) and not health.error:find("canary", 1, true))
  channel.smtp.password = "right-one"
  time.advance(60)
  t:equal(alert.deliver().sent, 1)
  t:equal({sink.count, sink:messages()[1].user}, {1, "u"})
end)

test("recipients that may come later get the mail later, the others once", VIRTUAL,
function(t)
  local db, grey = open(t), true
  local sink = sink_of(t, {refuse = {rcpt = function(address)
    return grey and address:find("^b@") and "450 4.2.0 greylisted" or nil
  end}})
  alert.use(db, config_of{ops = mail_channel(sink, {"a@x.example", "b@x.example"})})
  expiry("www", "warning")
  alert.deliver()
  grey = false
  time.advance(120)
  alert.deliver()
  local got = sink:messages()
  t:equal({#got, got[1].to, got[2].to}, {2, {"a@x.example"}, {"b@x.example"}})
  t:equal(got[1].raw, got[2].raw)
end)

test("a webhook is tried again when it asks for it, and not when it is gone", VIRTUAL,
function(t)
  local db = open(t)
  local slow = hook_of(t, function(_, n)
    return n == 1 and {status = 429, headers = {["Retry-After"] = "900"}} or nil
  end)
  local gone = hook_of(t, function() return {status = 410} end)
  alert.use(db, config_of{slow = slow.channel, gone = gone.channel})
  expiry("www", "warning")
  keep_delivering(HOUR)
  assert(slow.got[2].at - slow.got[1].at >= 900)
  t:equal({#gone.got, alert.channels().gone.lost}, {1, 1})
  local seen = {}
  for i = 2, #slow.got do seen[slow.got[i].body.alerts[1].id] = slow.got[i] end
  t:equal({seen["expiry/www"].id, seen["expiry/www"].good}, {slow.got[1].id, true})
  assert(seen["channel/gone"])
end)

test("a webhook that hangs holds no other channel up", VIRTUAL, function(t)
  local db = open(t)
  local stuck = hook_of(t, function() task.sleep(DAY) end)
  local hook = hook_of(t)
  alert.use(db, config_of{stuck = stuck.channel, hook = hook.channel})
  local began = time.now()
  expiry("www", "warning")
  t:equal(alert.deliver(), {told = 2, sent = 1, failed = 1})
  t:equal(hook.got[1].at - began < 1, true)
  assert(alert.channels().stuck.error:find("timeout"))
end)

test("after three days a delivery is given up", VIRTUAL, function(t)
  local db, sink = open(t), sink_of(t, {refuse = {connect = "421 busy"}})
  alert.use(db, config_of{ops = mail_channel(sink)})
  expiry("www", "info")
  keep_delivering(4 * DAY, 12 * HOUR)
  t:equal({alert.channels().ops.waiting, alert.channels().ops.lost}, {0, 1})
end)

-- ------------------------------------------------------------------ several processes

test("two processes never send one delivery at once", VIRTUAL, function(t)
  local db = open(t)
  local hook = hook_of(t, function() task.sleep(10) end)
  local config = config_of{hook = hook.channel}
  alert.use(db, config)
  expiry("www", "warning")
  local names = {1, 2, 3, 4, 5}
  local results = task.each(names, {limit = 5}, function()
    return alert.deliver(db, config)
  end)
  local sent = 0
  for _, one in ipairs(results) do sent = sent + one.sent end
  t:equal({sent, #hook.got}, {1, 1})
end)

test("who slept longer than the lease records nothing", VIRTUAL, function(t)
  local db = open(t)
  alert.use(db, config_of{hook = hook_of(t).channel})
  db:exec("INSERT INTO alert_outbox (id, channel, state, items, alerts, created_at, "
    .. "due_at, attempts, fence) VALUES ('d', 'hook', 'queued', '[]', '', 0, 0, 0, 0)")
  local now = time.now()
  local mine = outbox.claim(db, "hook", now)
  t:equal({mine.id, mine.fence, outbox.claim(db, "hook", now)}, {"d", 1})
  local theirs = outbox.claim(db, "hook", now + outbox.LEASE + 1)
  t:equal(theirs.fence, 2)
  local err = t:raises(function() outbox.sent(db, mine, now, "250") end, "conflict")
  t:equal(err.code, "FENCE")
  outbox.sent(db, theirs, now, "250")
  t:raises(function() outbox.failed(db, theirs, now, {text = "late"}) end, "conflict")
  t:equal(alert.channels().hook.failures, 0)
end)

--- A process that raises, delivers, and is killed when the server has taken the mail and
--- not yet said so.
local KILLED = [[
local alert, routes, store = require "alert", require "alert_routes", require "store"
local url, port = ...
local config = routes.read{channels = {ops = {to = {"ops@example.com"}, smtp = {
  host = "127.0.0.1", port = tonumber(port), tls = "none", from = "s@example.com"}}}}
local db <close> = store.open(url)
alert.use(db, config)
alert.raise{kind = "expiry", subject = "www", severity = "critical", message = "soon"}
alert.deliver()
]]

test("a process killed between sending and recording sends the mail again", function(t)
  local folder = t:tmpdir()
  local url, child = "sqlite:" .. folder .. "/secrun.db", nil
  local sink = sink_of(t)
  sink.on_message = function()
    if child then child:kill "SIGKILL" end
    child = nil
  end
  local script = program.file(folder, "raise.lua", KILLED)
  child = program.start{script, url, tostring(sink.port)}
  local running <close> = child
  running:wait()
  t:equal(sink.count, 1)
  local db <close> = store.open(url)
  local config = config_of{ops = mail_channel(sink)}
  config.channels.ops.smtp.from = "s@example.com"
  t:equal(alert.deliver(db, config).sent, 1)
  t:equal(alert.deliver(db, config).sent, 0)
  local got = sink:messages()
  t:equal({#got, got[1].raw == got[2].raw}, {2, true})
  assert(got[1].headers["message-id"]:find("^<%x+@example.com>$"))
end)

test("a test message goes to one channel at once", function(t)
  local sink = sink_of(t)
  local config = config_of{ops = mail_channel(sink)}
  t:equal(alert.test(config, "ops").reply:sub(1, 3), "250")
  assert(sink:messages()[1].subject:find("a test: alerts get through", 1, true))
  t:raises(function() alert.test(config, "opps") end, "not_found", "opps")
  sink:refuse{rcpt = "550 5.1.1 who"}
  t:raises(function() alert.test(config, "ops") end, "not_found", "550")
end)
