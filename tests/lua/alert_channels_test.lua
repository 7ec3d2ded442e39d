--- Routes, texts and webhooks of alerts, as people write them and read them.

local http = require "http"
local json = require "json"
local mail = require "mail"
local mail_message = require "mail_message"
local routes = require "alert_routes"
local text = require "alert_text"
local webhook = require "alert_webhook"

local NOW = 1893456000
local DAY = 86400
local REFERENCE = {["$secret"] = "env:X"}

local function smtp(more)
  local made = {host = "mail.example.com", from = "secrun@example.com"}
  for key, value in pairs(more or {}) do made[key] = value end
  return {smtp = made, to = {"ops@example.com"}}
end

local HOOK = {webhook = {url = "https://hooks.example.com/x", secret = REFERENCE}}

-- ------------------------------------------------------------------ the estate's part

test("a good configuration is read and completed", function(t)
  local config, problems = routes.read({channels = {ops = smtp(), hook = HOOK},
    routes = {{severity = "critical", to = {"hook"}}}}, {})
  t:equal(problems, {})
  t:equal(config.default, {"hook", "ops"})
  t:equal({routes.read(nil)}, {{channels = {}, routes = {}, default = {}, fail_after = 3},
    {}})
end)

test("every mistake is named with its place and its mend, at once", function()
  local _, problems = routes.read({
    channels = {
      plain = smtp{user = "u", password = "in the file"},
      half = smtp{user = "u"},
      bare = smtp{user = "u", password = REFERENCE, tls = "none"},
      typo = smtp{prot = 25}, nobody = {smtp = {host = "h", from = "not an address"}},
      both = {smtp = {host = "h", from = "a@b.c"}, webhook = HOOK.webhook},
      open = {webhook = {url = "http://hooks.example.com/x", secret = REFERENCE}},
      named = {webhook = {url = "https://u:p@hooks.example.com/", secret = "text"}},
      slow = {webhook = {url = "https://h.example", secret = REFERENCE, timeout = "10m"}},
    },
    routes = {{severity = "criticall", to = {"halff"}}, {org = "Nope", to = {}},
      {kind = {1}, to = {"half"}}, {too = {"half"}}},
    default = {"x"},
  }, {Example = {}})
  local all = table.concat(problems, "\n")
  for _, words in ipairs{
    'alerts.channels.plain.smtp.password: is secret "env:NAME"',
    "alerts.channels.half.smtp: has one of user and password",
    "alerts.channels.bare.smtp: a password is not sent without TLS",
    "alerts.channels.typo.smtp: unknown option prot; did you mean port?",
    "alerts.channels.nobody: has no to",
    "alerts.channels.nobody.smtp.from: the mail address \"not an address\"",
    "alerts.channels.both: has smtp or webhook, one of them",
    "alerts.channels.open.webhook.url: is an https:// URL",
    "alerts.channels.named.webhook.url: has a name or password in it",
    "alerts.channels.named.webhook.secret: is secret",
    "alerts.channels.slow.webhook.timeout: is at most 45s",
    'alerts.routes[1].to: there is no channel "halff"; did you mean half?',
    'alerts.routes[1].severity: is info, warning or critical, got "criticall"',
    "alerts.routes[2].to: is empty", "alerts.routes[2].org: there is no orgs.Nope",
    "alerts.routes[3].kind: is text", "alerts.routes[4]: unknown option too",
    'alerts.default: there is no channel "x"; there are: ',
  } do
    if not all:find(words, 1, true) then error(words .. "\nis not in\n" .. all) end
  end
  _, problems = routes.read({channels = {smtp()}})
  assert(problems[1]:find("alerts.channels.1: a channel's name", 1, true), problems[1])
end)

test("the first route that holds decides, the default takes the rest", function(t)
  local config = routes.read{channels = {a = HOOK, b = HOOK, c = HOOK}, default = {"c"},
    routes = {{severity = {"warning", "critical"}, to = {"a"}, continue = true},
      {severity = "critical", to = {"a", "b"}},
      {org = "X", kind = "expiry", to = {"b"}}}}
  local function to(row) return table.concat((routes.channels(config, row)), " ") end
  t:equal(to{severity = "critical", kind = "expiry"}, "a b")
  t:equal(to{severity = "warning", kind = "expiry"}, "a")
  t:equal(to{severity = "info", kind = "expiry", org = "X"}, "b")
  t:equal({routes.channels(config, {severity = "info", kind = "late", org = "X"})},
    {{"c"}, false})
end)

-- ------------------------------------------------------------------ texts

local function item(more)
  local made = {id = "expiry/www", kind = "expiry", subject = "www",
    severity = "critical", reason = "climbed", org = "Example", owner = "web team",
    message = "expires in 3 days",
    starts_at = NOW - 3 * DAY, deadline = NOW + 3 * DAY, details = {
      names = {"www.example.com"}, not_after = NOW + 3 * DAY, due = NOW - 27 * DAY,
      tried = "secrun renew", error = "connect: no route to host",
      next = {"secrun renew www"}}}
  for key, value in pairs(more or {}) do made[key] = value end
  return made
end

test("a mail says what, whose, when, what failed and what to type", function(t)
  local shown = text.mail({item()}, NOW)
  t:equal(shown.subject, "[secrun] CRITICAL: www: expires in 3 days")
  for _, words in ipairs{"www.example.com", "Example", "web team",
    "2030-01-04T00:00:00Z (in 3 days)", "2029-12-05T00:00:00Z (27 days ago)",
    "connect: no route to host", "secrun renew www",
    "secrun alerts ack expiry/www --for 12h", "become worse"} do
    assert(shown.text:find(words, 1, true), words)
    assert(shown.html:find(words, 1, true), words)
  end
end)

test("what is over is told without a command", function(t)
  local shown = text.mail({item{reason = "resolved", ends_at = NOW}}, NOW)
  t:equal(shown.subject, "[secrun] resolved: expiry www is over")
  assert(not shown.text:find("Type next") and not shown.html:find("Type next"))
end)

test("several alerts are one table, the worst first", function(t)
  local shown = text.mail({item{severity = "info", subject = "c", id = "expiry/c"},
    item{subject = "b", id = "expiry/b"}, item{subject = "d", reason = "resolved"},
    item{subject = "a", id = "expiry/a", deadline = NOW}}, NOW)
  t:equal(shown.subject, "[secrun] 2 critical, 1 info, 1 resolved: a, b, c, d")
  local order = "CRITICAL  a .*CRITICAL  b .*INFO +c .*resolved +d "
  assert(shown.text:find(order), shown.text)
  local many = {}
  for i = 1, 500 do many[i] = item{subject = "s" .. i, id = "expiry/s" .. i} end
  shown = text.mail(many, NOW)
  assert(#shown.subject <= 140 and shown.text:find("and 300 more"), shown.subject)
end)

test("outside data cannot leave its place", function()
  local evil = 'x"><script>alert(1)</script>\r\nBcc: a@b.c\27[2J\u{202E}'
  local shown = text.mail({item{subject = evil, owner = evil, message = evil,
    details = {error = evil, [evil] = evil, next = evil}}}, NOW)
  assert(not shown.html:find("<script>", 1, true), shown.html)
  for _, one in pairs(shown) do
    assert(not one:find("\27", 1, true) and not one:find("\u{202E}", 1, true))
  end
  assert(not shown.subject:find("[\r\n]"))
  local built = mail.build{from = "a@b.c", to = {"d@e.f"}, subject = shown.subject,
    text = shown.text, html = shown.html, date = NOW, message_id = "<k@b.c>"}
  assert(not mail_message.parse(built).headers.bcc)
end)

test("a webhook's payload has every instant as RFC 3339", function(t)
  local payload = text.payload("d1", "hook", {item()}, NOW)
  t:equal({payload.version, payload.delivery, payload.sent_at, payload.summary},
    {1, "d1", "2030-01-01T00:00:00Z", "[secrun] CRITICAL: www: expires in 3 days"})
  t:equal(payload.alerts[1].details.not_after, "2030-01-04T00:00:00Z")
  t:equal({payload.alerts[1].state, payload.alerts[1].deadline},
    {"firing", "2030-01-04T00:00:00Z"})
end)

-- ------------------------------------------------------------------ webhooks

local function receiver(t, handler)
  local server = http.serve{listen = "127.0.0.1:0", handler = handler}
  t:defer(function() server:close{grace = 0} end)
  return {url = server.url .. "/alerts?token=t", secret = "key-canary-77"}
end

test("a webhook is signed over its instant and body", function(t)
  local got
  local hook = receiver(t, function(req)
    got = req
    return {status = 202}
  end)
  t:equal(webhook.send(hook, "d1", text.payload("d1", "hook", {item()}, NOW)),
    {reply = "202"})
  t:equal({got.method, got.headers["secrun-delivery"], got.headers["content-type"]},
    {"POST", "d1", "application/json"})
  local header, now = got.headers["secrun-signature"], os.time()
  assert(webhook.verify("key-canary-77", header, got.body, now))
  assert(not webhook.verify("another", header, got.body, now))
  assert(not webhook.verify("key-canary-77", header, got.body .. " ", now))
  assert(not webhook.verify("key-canary-77", header, got.body, now + 400))
  assert(not webhook.verify("key-canary-77", "t=1,v1=zz", got.body, now))
  t:equal(json.decode(got.body).alerts[1].id, "expiry/www")
  -- as openssl dgst -sha256 -hmac key computes it
  t:equal(webhook.signature("key", 1, "{}"),
    "t=1,v1=1ba6b8171186efc613e8bcc0cbdab2748f24984d7c5a84faa2637afa0e40d224")
end)

test("answers say whether to try again", function(t)
  for _, case in ipairs{{410, false, "not_found"}, {404, false, "not_found"},
    {400, false, "http"}, {401, false, "auth"}, {429, true, "rate_limited"},
    {500, true, "http"}, {503, true, "http"}, {302, false, "protocol"}} do
    local hook = receiver(t, function()
      return {status = case[1], headers = {["Retry-After"] = "77",
        Location = "http://127.0.0.1:1/"}, body = "no key-canary-77"}
    end)
    local err = t:raises(function() webhook.send(hook, "d", {}) end, case[3])
    t:equal({err.retryable, err.status}, {case[2], case[1]})
    if case[1] == 429 or case[1] == 503 then t:equal(err.retry_after, 77) end
    assert(not tostring(err):find("token=t", 1, true), tostring(err))
  end
end)

test("a webhook that hangs meets its time-out", {clock = "virtual"}, function(t)
  local hook = receiver(t, function() require "task".sleep(100) end)
  local err = t:raises(function() webhook.send(hook, "d", {}) end, "timeout")
  t:equal(err.retryable, true)
end)

test("URLs that are not for alerts are refused", function(t)
  for _, url in ipairs{"https://h.example/x", "https://h.example:8443",
    "http://localhost/x",
    "http://127.0.0.1:80", "http://[::1]:8080/"} do
    t:equal(webhook.wrong_url(url), nil, url)
  end
  for _, url in ipairs{"http://h.example", "ftp://127.0.0.1", "https://u:p@h.example/",
    "http://127.0.0.1.example.com/", "http://localhost@h.example/", "x", "https://",
    "https://h.example/a b", "http://localhost:80@h.example"} do
    assert(webhook.wrong_url(url), url)
  end
end)
