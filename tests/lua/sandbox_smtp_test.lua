-- The SMTP sink of the sandbox, spoken to line by line.

local encoding = require "encoding"
local mail_message = require "mail_message"
local smtp_sink = require "smtp_sink"
local stream = require "stream"
local task = require "task"

local function start(t, options)
  local sink = smtp_sink.start(options)
  t:defer(function() sink:close() end)
  return sink
end

-- ------------------------------------------------------------------ a client

local Client = {}
Client.__index = Client

--- The code and the lines of the next reply.
function Client:reply()
  local lines = {}
  repeat
    lines[#lines + 1] = assert(self.conn:read("line", {timeout = "5s"}), "no reply")
  until lines[#lines]:sub(4, 4) ~= "-"
  return tonumber(lines[1]:sub(1, 3)), lines
end

--- Say a line and expect a code; the reply's lines.
function Client:say(line, code)
  self.conn:write(line .. "\r\n")
  local got, lines = self:reply()
  if got ~= code then
    error(("%s: got %s, want %d"):format(line, table.concat(lines, " / "), code), 2)
  end
  return lines
end

function Client:envelope(from, ...)
  self:say(("MAIL FROM:<%s>"):format(from), 250)
  for _, to in ipairs{...} do self:say(("RCPT TO:<%s>"):format(to), 250) end
  self:say("DATA", 354)
end

local function connect(t, sink, tls)
  local conn = stream.connect{host = "127.0.0.1", port = sink.port, tls = tls}
  t:defer(function() conn:close() end)
  local client = setmetatable({conn = conn}, Client)
  client.code, client.greeting = client:reply()
  return client
end

local MAIL = "From: a@a.test\r\nTo: b@b.test\r\nSubject: Hello\r\n\r\nOne line.\r\n"

local function has(lines, word)
  for _, line in ipairs(lines) do
    if line:find(word, 1, true) then return true end
  end
  return false
end

-- ------------------------------------------------------------------ taking mail

test("messages carry envelope, headers, subject and text", function(t)
  local sink = start(t)
  local client = connect(t, sink)
  client:say("EHLO me.test", 250)
  client:envelope("a@a.test", "b@b.test", "c@c.test")
  client:say("Subject: =?utf-8?Q?gr=C3=BC=C3=9Fe?= =?UTF-8?B?IGFuIGFsbGU=?=\r\n"
    .. "To: b@b.test,\r\n c@c.test\r\n\r\n..dots\r\nend\r\n.", 250)
  client:say("QUIT", 221)
  local mail = sink:wait(1, "5s")[1]
  t:equal(mail.from, "a@a.test")
  t:equal(mail.to, {"b@b.test", "c@c.test"})
  t:equal(mail.helo, "me.test")
  t:equal(mail.subject, "grüße an alle")
  t:equal(mail.headers["TO"], "b@b.test, c@c.test")
  t:equal(mail.text, ".dots\r\nend\r\n")
  t:equal(mail.tls, nil)
end)

test("commands may be sent in one go, and several mails on one connection", function(t)
  local sink = start(t)
  local client = connect(t, sink)
  client:say("EHLO me", 250)
  client.conn:write("MAIL FROM:<a@a.test> SIZE=100 BODY=8BITMIME\r\n"
    .. "RCPT TO:<b@b.test>\r\nDATA\r\n")
  t:equal({client:reply(), client:reply(), (client:reply())}, {250, 250, 354})
  client:say(MAIL .. ".", 250)
  client:envelope("", "b@b.test")
  client:say(MAIL .. ".", 250)
  t:equal(#sink:wait(2), 2)
  t:equal(sink:messages()[1].parameters, {SIZE = "100", BODY = "8BITMIME"})
  t:equal(sink:messages()[2].from, "")
end)

test("only the last messages are kept, all are counted", function(t)
  local sink = start(t, {keep = 2})
  local client = connect(t, sink)
  client:say("EHLO me", 250)
  for _ = 1, 4 do
    client:envelope("a@a.test", "b@b.test")
    client:say(MAIL .. ".", 250)
  end
  t:equal(#sink:wait(4), 2)
  t:equal({sink:messages()[1].id, sink:messages()[2].id}, {3, 4})
  sink:clear()
  t:equal(sink.count, 0)
  t:raises(function() sink:wait(1, 0.02) end, "timeout", "0 of 1 messages")
end)

test("the order of commands is kept", function(t)
  local client = connect(t, start(t))
  client:say("MAIL FROM:<a@a.test>", 503)
  client:say("EHLO", 501)
  client:say("HELO me", 250)
  client:say("RCPT TO:<b@b.test>", 503)
  client:say("MAIL FROM:a@a.test", 501)
  client:say("MAIL FROM:<a@a.test>", 250)
  client:say("MAIL FROM:<a@a.test>", 503)
  client:say("DATA", 503)
  client:say("RCPT TO:<>", 501)
  client:say("RSET", 250)
  client:say("RCPT TO:<b@b.test>", 503)
  client:say("STARTTLS", 502)
  client:say("AUTH PLAIN AA==", 502)
  client:say("BURN", 500)
  client:say("NOOP", 250)
end)

test("size, line length and line ends are held to", function(t)
  local sink = start(t, {max_size = 5000})
  local client = connect(t, sink)
  assert(has(client:say("EHLO me", 250), "SIZE 5000"))
  client:say("MAIL FROM:<a@a.test> SIZE=5001", 552)
  for _, case in ipairs{
    {("x"):rep(900) .. "\r\n", 6, 552},
    {("x"):rep(999) .. "\r\n", 1, 554},
    {"bare\nfeed\r\n", 1, 554},
    {("x"):rep(998) .. "\r\n", 1, 250},
  } do
    client:envelope("a@a.test", "b@b.test")
    client:say(case[1]:rep(case[2]) .. ".", case[3])
  end
  t:equal(sink.count, 1)
  client.conn:write(("x"):rep(20000) .. "\r\n")
  t:equal(client:reply(), 500)
  t:equal(client.conn:read(), nil)
end)

-- ------------------------------------------------------------------ TLS and AUTH

test("STARTTLS encrypts, and starts the dialogue anew", function(t)
  local sink = start(t, {tls = {required = true}})
  local client = connect(t, sink)
  assert(has(client:say("EHLO me", 250), "STARTTLS"))
  client:say("MAIL FROM:<a@a.test>", 530)
  client:say("STARTTLS", 220)
  client.conn:starttls{ca = sink.ca, servername = "localhost"}
  client:say("MAIL FROM:<a@a.test>", 503)
  assert(not has(client:say("EHLO me", 250), "STARTTLS"))
  client:say("STARTTLS", 503)
  client:envelope("a@a.test", "b@b.test")
  client:say(MAIL .. ".", 250)
  t:equal(sink:wait()[1].tls, "TLSv1.3")
end)

test("implicit TLS is there from the first byte", function(t)
  local sink = start(t, {tls = "implicit"})
  local client = connect(t, sink, {ca = sink.ca, servername = "localhost"})
  client:say("EHLO me", 250)
  client:envelope("a@a.test", "b@b.test")
  client:say(MAIL .. ".", 250)
  t:equal(sink:wait()[1].tls, "TLSv1.3")
end)

test("a wrong CA is refused, and the sink goes on", function(t)
  local sink, other = start(t, {tls = "starttls"}), start(t, {tls = "starttls"})
  local client = connect(t, sink)
  client:say("STARTTLS", 220)
  t:raises(function()
    client.conn:starttls{ca = other.ca, servername = "localhost"}
  end, "tls")
  connect(t, sink):say("EHLO me", 250)
end)

test("AUTH PLAIN and LOGIN, right and wrong", function(t)
  local b64 = encoding.base64_encode
  local sink = start(t, {auth = {user = "u", password = "p", required = true}})
  local client = connect(t, sink)
  client:say("AUTH PLAIN " .. b64 "\0u\0p", 503)
  assert(has(client:say("EHLO me", 250), "AUTH PLAIN LOGIN"))
  client:say("MAIL FROM:<a@a.test>", 530)
  client:say("AUTH CRAM-MD5", 504)
  client:say("AUTH PLAIN !", 501)
  client:say("AUTH PLAIN " .. b64 "u", 501)
  client:say("AUTH PLAIN " .. b64 "\0u\0wrong", 535)
  client:say("AUTH LOGIN", 334)
  client:say("*", 501)
  client:say("AUTH LOGIN", 334)
  client:say(b64 "u", 334)
  client:say(b64 "p", 235)
  client:say("AUTH PLAIN " .. b64 "\0u\0p", 503)
  client:envelope("a@a.test", "b@b.test")
  client:say(MAIL .. ".", 250)
  t:equal(sink:wait()[1].user, "u")
  local second = connect(t, sink)
  second:say("EHLO me", 250)
  second:say("AUTH PLAIN", 334)
  second:say(b64 "\0u\0p", 235)
end)

test("AUTH can be for encrypted connections only", function(t)
  local sink = start(t, {tls = "starttls", auth = {tls_only = true}})
  local client = connect(t, sink)
  assert(not has(client:say("EHLO me", 250), "AUTH"))
  client:say("AUTH PLAIN AA==", 538)
  client:say("STARTTLS", 220)
  client.conn:starttls{ca = sink.ca, servername = "localhost"}
  assert(has(client:say("EHLO me", 250), "AUTH"))
  client:say("AUTH PLAIN " .. encoding.base64_encode "\0anybody\0any", 235)
end)

-- ------------------------------------------------------------------ refusals on request

test("each stage is refused as told", function(t)
  local sink = start(t, {refuse = {
    rcpt = function(address) return address:find "^no" and "550 5.1.1 no such user" end,
    message = {"451 4.7.1 greylisted"}, data = {"421 4.3.2 not now"}}})
  local client = connect(t, sink)
  client:say("EHLO me", 250)
  client:say("MAIL FROM:<a@a.test>", 250)
  client:say("RCPT TO:<nobody@b.test>", 550)
  client:say("RCPT TO:<b@b.test>", 250)
  client:say("DATA", 421)
  client:say("DATA", 354)
  client:say(MAIL .. ".", 451)
  client:envelope("a@a.test", "b@b.test")
  client:say(MAIL .. ".", 250)
  t:equal(sink:wait()[1].to, {"b@b.test"})
  sink:refuse{mail = "550 5.7.1 go away"}
  client:say("MAIL FROM:<a@a.test>", 550)
end)

test("an answer can be lost before and after the message was taken", function(t)
  local sink = start(t, {refuse = {message = {"drop", "lose"}}})
  for taken = 0, 1 do
    local client = connect(t, sink)
    client:say("EHLO me", 250)
    client:envelope("a@a.test", "b@b.test")
    client.conn:write(MAIL .. ".\r\n")
    t:equal(client.conn:read(), nil)
    t:equal(sink.count, taken)
  end
end)

test("a sink that is busy says so at once", function(t)
  local client = connect(t, start(t, {refuse = {connect = "554 5.3.2 closed"}}))
  t:equal(client.code, 554)
  t:equal(client.conn:read(), nil)
end)

test("options and stages that do not exist are named", function(t)
  t:raises(function() smtp_sink.start{refuse = {recpt = "550 x"}} end, "usage", "rcpt")
  t:raises(function() smtp_sink.start{tls = "startls"} end, "usage", "starttls")
  t:raises(function() smtp_sink.start{auth = {mechanisms = {"NTLM"}}} end, "usage",
    "PLAIN")
  t:raises(function() smtp_sink.start{listen = "here"} end, "usage", "host:port")
end)

test("a client that vanishes, or waits for ever, does not hold the end up", function(t)
  local sink = start(t)
  local client = connect(t, sink)
  client.conn:write "EHLO me\r\nMAIL FR"
  client.conn:close()
  local idle = connect(t, sink)
  idle:say("EHLO me", 250)
  sink:close()
  t:equal(idle.conn:read(), nil)
  t:raises(function() connect(t, sink) end, "connect")
end)

test("many clients at once", function(t)
  local sink = start(t)
  local _, failed = task.each({1, 2, 3, 4, 5, 6, 7, 8}, function()
    local client = connect(t, sink)
    client:say("EHLO me", 250)
    for _ = 1, 5 do
      client:envelope("a@a.test", "b@b.test")
      client:say(MAIL .. ".", 250)
    end
  end)
  t:equal(#failed, 0)
  t:equal(#sink:wait(40), 40)
end)

-- ------------------------------------------------------------------ taking mail apart

test("multiparts are taken apart, whatever their encoding", function(t)
  local mail = mail_message.parse(table.concat({
    'Content-Type: multipart/mixed; boundary="b 1"', "", "preamble",
    "--b 1", "Content-Type: multipart/alternative; boundary=b2", "",
    "--b2", "Content-Type: text/plain; charset=utf-8",
    "Content-Transfer-Encoding: quoted-printable", "", "gr=C3=BC=C3=9F=", "e", "",
    "--b2", "Content-Type: text/html", "", "<p>hi</p>", "--b2--",
    "--b 1", "Content-Type: application/json",
    "Content-Disposition: attachment; filename=\"a.json\"",
    "Content-Transfer-Encoding: base64", "", encoding.base64_encode '{"a":1}',
    "--b 1--", "epilogue", ""}, "\r\n"))
  t:equal(mail.text, "grüße\r\n")
  t:equal(mail.html, "<p>hi</p>")
  t:equal(#mail.parts, 3)
  t:equal({mail.parts[3].filename, mail.parts[3].body}, {"a.json", '{"a":1}'})
end)

test("odd mails do not break it", function(t)
  for _, text in ipairs{"", "\r\n", "\r\nbody", "no colon\r\n\r\nx", ": x\r\n\r\n",
    "Content-Type: multipart/mixed; boundary=\r\n\r\n--\r\n",
    "Content-Type: multipart/mixed; boundary=x\r\n\r\n--x",
    "Subject: =?utf-8?B?!!?=\r\nContent-Transfer-Encoding: base64\r\n\r\n!!"} do
    t:equal(type(mail_message.parse(text).text), "string")
  end
  local deep = ("Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n"):rep(50)
  t:equal(#mail_message.parse(deep).parts, 1)
end)
