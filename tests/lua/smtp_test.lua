--- Mail handed to servers that take it, refuse it, hang and vanish.

local mail = require "mail"
local program = require "program"
local smtp = require "smtp"
local smtp_sink = require "smtp_sink"
local stream = require "stream"
local task = require "task"
local time = require "time"

local FROM, TO = "secrun@example.com", {"ops@example.com", "b@example.com"}

local function hidden(t, text)
  local path = t:tmpdir() .. "/secret"
  require "fs".write(path, text)
  return secret("file:" .. path)
end

local function message(options)
  local given = {from = "secrun <" .. FROM .. ">", to = TO, subject = "www expires",
    text = "hello\n", date = 1893456000, message_id = "<k1@example.com>"}
  for key, value in pairs(options or {}) do given[key] = value end
  return mail.build(given)
end

local function start(t, options)
  local sink = smtp_sink.start(options)
  t:defer(function() sink:close() end)
  return sink
end

local function send(sink, options)
  local given = {host = "127.0.0.1", port = sink.port, tls = "none", from = FROM, to = TO,
    message = message()}
  for key, value in pairs(options or {}) do given[key] = value end
  return smtp.send(given)
end

-- ------------------------------------------------------------------ taken

for _, mode in ipairs{"starttls", "implicit"} do
  test("a mail goes over verified TLS with a login: " .. mode, function(t)
    local sink = start(t, {tls = mode, auth = {user = "u", password = "pass-canary-1",
      required = true, tls_only = true}})
    local text = message{text = ".dot\n..\n" .. ("x"):rep(300) .. "\nend\n"}
    local sent = send(sink, {tls = mode, ca = sink.ca, user = "u", message = text,
      password = hidden(t, "pass-canary-1"), helo = "client.example"})
    t:equal(sent, {accepted = TO, refused = {}, reply = "250 taken as 1",
      encrypted = true})
    local got = sink:messages()[1]
    t:equal(got.raw, text)
    t:equal({got.from, got.to, got.user, got.helo}, {FROM, TO, "u", "client.example"})
    assert(got.tls)
  end)
end

test("a big mail goes through small buffers", function(t)
  local sink = start(t)
  local text = message{text = ("0123456789"):rep(7):rep(1, "") .. "\n",
    html = ("<p>line</p>\n"):rep(150000)}
  send(sink, {message = text})
  t:equal(#sink:messages()[1].raw, #text)
end)

test("recipients that are refused are told, the others get the mail", function(t)
  local sink = start(t, {refuse = {rcpt = function(address)
    return address:find("^b@") and "550 5.1.1 no such user" or nil
  end}})
  local sent = send(sink)
  t:equal(sent.accepted, {"ops@example.com"})
  t:equal(sent.refused, {{to = "b@example.com", code = 550, enhanced = "5.1.1",
    text = "no such user", temporary = false}})
  t:equal(sink:messages()[1].to, {"ops@example.com"})
end)

-- ------------------------------------------------------------------ refused

local REFUSALS = {
  {"connect", "421 4.3.2 busy", "rate_limited", true, "the greeting is refused: 421"},
  {"connect", "drop", "io", true, "instead of the greeting"},
  {"ehlo", "550 no", "protocol", false, "EHLO is refused"},
  {"mail", "553 5.1.8 who", "auth", false, "MAIL <secrun@example.com> is refused"},
  {"rcpt", "550 5.1.1 no such user", "not_found", false, "RCPT <ops@example.com>"},
  {"rcpt", "450 4.2.0 greylisted", "protocol", true, "try again later"},
  {"data", "451 4.3.0 later", "protocol", true, "DATA is refused"},
  {"message", "552 5.3.4 big", "limit", false, "the message is refused"},
  {"message", "554 5.6.0 spam", "protocol", false, "the message is refused"},
  {"message", "drop", "io", true, "instead of the reply to the message"},
  {"message", "lose", "io", true, "instead of the reply to the message"},
}

test("a refusal says which command, which words, and whether to try again", function(t)
  for _, case in ipairs(REFUSALS) do
    local stage, rule, kind, again, words = table.unpack(case)
    local sink <close> = smtp_sink.start{refuse = {[stage] = rule}}
    local err = t:raises(function() send(sink) end, kind)
    t:equal(err.retryable, again, stage .. " " .. rule)
    if not err.message:find(words, 1, true) then error(err.message) end
    assert(err.message:find("127.0.0.1:" .. sink.port, 1, true), err.message)
  end
end)

test("the first recipient that may be served later decides", function(t)
  local replies = {["ops@example.com"] = "550 5.1.1 no", ["b@example.com"] = "450 later"}
  local sink = start(t, {refuse = {rcpt = function(address) return replies[address] end}})
  local err = t:raises(function() send(sink) end, "protocol", "b@example.com")
  t:equal({err.status, err.retryable}, {450, true})
end)

test("a wrong password is an error of auth that shows no password", function(t)
  local canary = "pass-canary-2"
  local sink = start(t, {tls = "starttls", auth = {user = "u", password = "other"},
    refuse = {auth = "535 5.7.8 not pass-canary-2"}})
  local err = t:raises(function()
    send(sink, {tls = "starttls", ca = sink.ca, user = "u", password = hidden(t, canary)})
  end, "auth", "AUTH is refused: 535")
  t:equal(err.retryable, false)
  assert(not tostring(err):find(canary, 1, true), tostring(err))
  t:equal(sink.count, 0)
end)

test("a server without a login gets no mail of somebody who has a password", function(t)
  local sink = start(t, {tls = "starttls"})
  t:raises(function()
    send(sink, {tls = "starttls", ca = sink.ca, user = "u",
      password = hidden(t, "secret-3")})
  end, "auth", "offers no login")
  t:equal(sink.count, 0)
end)

-- ------------------------------------------------------------------ TLS

test("without STARTTLS nothing is said in the clear", function(t)
  local sink = start(t, {auth = true})
  t:raises(function()
    send(sink, {tls = "starttls", user = "u", password = hidden(t, "secret-4")})
  end, "tls", "does not offer STARTTLS")
  t:raises(function() send(sink, {tls = "implicit"}) end, "tls", 'tls = "starttls"')
  t:equal(sink.count, 0)
end)

test("a server that is not trusted gets nothing", function(t)
  for _, mode in ipairs{"starttls", "implicit"} do
    local sink <close> = smtp_sink.start{tls = mode}
    local err = t:raises(function() send(sink, {tls = mode}) end, "tls", "refused")
    t:equal(err.retryable, false)
    t:raises(function() send(sink, {tls = mode, ca = sink.ca, host = "127.0.0.2"}) end)
    t:equal(sink.count, 0)
  end
end)

-- ------------------------------------------------------------------ time

--- A server that greets and then says nothing more.
local function hanging(t, greeting)
  local listener = stream.listen{}
  local running = task.daemon(function()
    while true do
      local ok, conn = pcall(listener.accept, listener)
      if not ok then return end
      t:defer(function() conn:close() end)
      if greeting then conn:write(greeting) end
    end
  end)
  t:defer(function()
    running:cancel()
    pcall(running.join, running)
    listener:close()
  end)
  return listener
end

test("a server that hangs meets the time-outs, on the virtual clock", {clock = "virtual"},
function(t)
  local began = time.mono()
  local err = t:raises(function() send(hanging(t), {connect_timeout = "7s"}) end,
    "timeout", "the connection took longer than connect_timeout = 7s")
  t:equal(err.retryable, true)
  t:equal(math.floor(time.mono() - began), 7)
  t:raises(function() send(hanging(t, "220 hi\r\n"), {timeout = "9s"}) end, "timeout",
    "the reply to EHLO took longer than timeout = 9s")
  t:equal(math.floor(time.mono() - began), 16)
end)

test("the loop goes on while a server thinks about the message", {clock = "virtual"},
function(t)
  local sink = start(t, {refuse = {message = function()
    task.sleep(50)
    return "250 2.0.0 at last"
  end}})
  local ticks = 0
  local ticker = task.daemon(function()
    while true do
      task.sleep(10)
      ticks = ticks + 1
    end
  end)
  t:equal(send(sink).reply, "250 at last")
  ticker:cancel()
  assert(ticks >= 4, ticks)
end)

test("a mail that is cancelled leaves nothing behind", {clock = "virtual"}, function(t)
  local listener = hanging(t, "220 hi\r\n")
  t:raises(function() task.timeout(3, send, listener) end, "timeout")
end)

-- ------------------------------------------------------------------ bad input

test("bad options are refused before anything is sent", function(t)
  local sink = start(t)
  local function bad(pattern, options)
    t:raises(function() send(sink, options) end, "usage", pattern)
  end
  bad("did you mean host", {hots = "x"})
  bad("mail address", {to = {"a b@example.com"}})
  bad("mail address", {to = {"a@example.com>\r\nRSET"}})
  bad("mail address", {from = "nobody"})
  bad("CRLF", {message = "Subject: x\n\nhello\n"})
  bad("CRLF", {message = "Subject: x\r\n\r\n" .. ("x"):rep(999) .. "\r\n"})
  bad("without TLS", {user = "u", password = "p"})
  bad("user and password", {user = "u"})
  bad("expected a name", {host = "mail.example.com/x"})
  bad("expected a name", {helo = "a b"})
  t:equal(sink.connections, 0)
end)

test("permissions are asked", function()
  local run = program.run{"--allow-net=mail.example:25", "-e",
    'require "smtp".send{host = "127.0.0.1", port = 9, tls = "none", from = "a@b.c", '
    .. 'to = {"a@b.c"}, message = "x\\r\\n"}'}
  assert(run.status ~= 0 and run.stderr:find("127.0.0.1:9", 1, true)
    and run.stderr:find("denied", 1, true), run.stderr)
end)
