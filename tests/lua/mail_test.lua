--- Mails as bytes: headers, encodings, and what people put into subjects.

local mail = require "mail"
local mail_message = require "mail_message"

local function build(options)
  local given = {from = "secrun@example.com", to = {"ops@example.com"}, subject = "hello",
    text = "text\n", date = 1893456000, message_id = "<k@example.com>"}
  for key, value in pairs(options) do given[key] = value end
  return mail.build(given)
end

--- What every mail obeys: CRLF only, short lines, ASCII.
local function well_formed(text)
  assert(not text:gsub("\r\n", ""):find("[\r\n]"), "a line end that is not CRLF")
  for line in text:gmatch("([^\r\n]*)\r\n") do
    assert(#line <= 78, line)
    assert(not line:find("[^\t\32-\126]"), line)
  end
  return mail_message.parse(text)
end

test("a plain mail reads as it was written", function(t)
  t:equal(build{text = "hello\nworld"}, table.concat({
    "Date: Tue, 01 Jan 2030 00:00:00 +0000", "From: secrun@example.com",
    "To: ops@example.com", "Subject: hello", "Message-ID: <k@example.com>",
    "MIME-Version: 1.0", "Content-Type: text/plain; charset=utf-8",
    "Content-Transfer-Encoding: 7bit", "", "hello", "world", ""}, "\r\n"))
end)

test("text and HTML are alternatives, the better one last", function(t)
  local got = well_formed(build{text = "a\n", html = "<p>b</p>\n"})
  t:equal({got.parts[1].type, got.parts[2].type, #got.parts},
    {"text/plain", "text/html", 2})
  t:equal({got.text, got.html}, {"a\r\n", "<p>b</p>\r\n"})
  assert(got.headers["content-type"]:find("^multipart/alternative"))
end)

local TEXTS = {
  "", "plain", ("word "):rep(60) .. "end", ("x"):rep(500), "Zertifikat läuft ab",
  ("ü"):rep(120), "日本語の件名は長いことがありますので折り返しが必要です", "=?UTF-8?Q?fake?=",
  "emoji 🔐 in the middle of a rather long subject line that has to be folded somewhere",
  "trailing \t", "tab\there", "a = b == c", "  two  blanks  ", "dots\n.\n..\nend",
  "From the start\nFrom here", "soft " .. ("é "):rep(100),
}

test("any subject and body survive the way", function(t)
  for _, text in ipairs(TEXTS) do
    local subject = text:gsub("\n", " ")
    local got = well_formed(build{subject = subject, text = text, html = text})
    t:equal(got.subject or "", (subject:gsub("\t$", "\t")))
    local want = (text:gsub("\n", "\r\n")) .. "\r\n"
    t:equal(got.text, want)
    t:equal(got.html, want)
  end
end)

test("random bytes never break a mail", function()
  math.randomseed(7)
  for _ = 1, 300 do
    local bytes = {}
    for i = 1, math.random(0, 400) do
      bytes[i] = math.random(4) > 1 and math.random(32, 126) or math.random(1, 255)
    end
    local text = string.char(table.unpack(bytes))
    local subject = text:gsub("[\r\n]", " ")
    well_formed(build{subject = subject, text = text, html = text,
      headers = {["X-Any"] = subject}})
  end
end)

test("encoded words are at most 75 characters and end between characters", function()
  for _, subject in ipairs{("ü"):rep(200), ("a ü "):rep(80)} do
    for word in build{subject = subject}:gmatch("=%?UTF%-8%?[^%s]+") do
      assert(#word <= 75, word)
      assert(utf8.len(mail_message.words(word)), word)
    end
  end
end)

test("a line end never makes a header", function(t)
  for _, options in ipairs{{subject = "x\r\nBcc: all@example.com"}, {subject = "x\ny"},
    {subject = "x\0y"}, {from = "x\r\nBcc: a@b <a@b.c>"}, {to = {"a\n <a@b.c>"}},
    {headers = {["X-A"] = "1\r\nX-B: 2"}}, {headers = {["X-A: 1\r\nX-B"] = "2"}},
    {headers = {Bcc = "a@b.c"}}, {headers = {["content-type"] = "text/html"}},
    {message_id = "<a@b>\r\nX: 1"}, {message_id = "k"}, {to = {"a@b.c, d@e.f"}}} do
    t:raises(function() build(options) end, "usage")
  end
end)

test("names of people are quoted or encoded", function(t)
  local text = build{from = "Ops, Team <ops@example.com>",
    to = {"Jörg Müller <j@example.com>", '"A \\"B\\"" <a@example.com>', "c@example.com"}}
  assert(text:find('From: "Ops, Team" <ops@example.com>', 1, true), text)
  local got = well_formed(text)
  assert(got.headers.to:find("Jörg Müller <j@example.com>", 1, true), got.headers.to)
  t:equal({mail.address("Ops, Team <ops@example.com>")}, {"ops@example.com", "Ops, Team"})
  t:equal({mail.address(" ops@example.com ")}, {"ops@example.com"})
end)

test("the same key gives the same Message-ID, whatever it is made of", function(t)
  t:equal(mail.message_id("f-12.a", "example.com"), "<f-12.a@example.com>")
  local made = mail.message_id("expiry/www äöü", "secrun <x@example.com")
  t:equal(made, mail.message_id("expiry/www äöü", "example.com"))
  assert(made:find("^<%x+@example.com>$"), made)
  assert(made ~= mail.message_id("expiry/www äö", "example.com"))
end)
