--- Build a mail: headers, text and HTML as bytes that any mail server takes. Pure.
--
--     local mail = require "mail"
--     local text = mail.build{from = "secrun <secrun@example.com>", to = {"ops@example.com"},
--       subject = "www expires", text = "…", html = "<p>…", date = time.now(),
--       message_id = mail.message_id(key, "example.com")}
--     smtp.send{host = …, from = "secrun@example.com", to = …, message = text}
--
-- RFC 5322 and 2045 to 2047: lines end in CRLF and are short, what is not ASCII becomes
-- encoded words in headers and quoted-printable or base64 in bodies. A line end in a value
-- never makes a header: it is refused.

local args = require "args"
local digest = require "digest"
local encoding = require "encoding"
local errors = require "errors"

local mail = {}

local LINE = 76
local WORD = 60 -- of an encoded word; 75 are allowed

local function wrong(format, ...)
  errors.raise("usage", "mail: " .. format:format(...), {code = "BAD_MAIL"})
end

--- Bytes that are no UTF-8 become U+FFFD, so that every reader shows the same.
local function clean(text)
  if utf8.len(text) then return text end
  local out, at = {}, 1
  while at <= #text do
    local good, bad = utf8.len(text, at)
    local stop = good and #text or bad - 1
    out[#out + 1] = text:sub(at, stop)
    if not good then out[#out + 1] = "\u{FFFD}" end
    at = stop + 2
  end
  return table.concat(out)
end

------------------------------------------------------------------ headers

--- Cut text into pieces that take at most `room` bytes each once encoded, never within a
--- character.
local function pieces(text, room, encode)
  local found, current = {}, ""
  for _, code in utf8.codes(text) do
    local longer = current .. utf8.char(code)
    if current ~= "" and #encode(longer) > room then
      found[#found + 1] = encode(current)
      longer = utf8.char(code)
    end
    current = longer
  end
  found[#found + 1] = encode(current)
  return found
end

local function q_word(text)
  return (text:gsub("[^%w!*+/-]", function(c)
    return c == " " and "_" or ("=%02X"):format(c:byte())
  end))
end

--- Text as encoded words (RFC 2047), each short enough for a line with the longest name of
--- ours in front.
local function encoded_words(text)
  local _, foreign = text:gsub("[\128-\255]", "")
  local how = foreign * 4 > #text and "B" or "Q"
  local encode = how == "B" and encoding.base64_encode or q_word
  local words = pieces(text, WORD - #"=?UTF-8?Q??=", encode)
  for i, word in ipairs(words) do words[i] = ("=?UTF-8?%s?%s?="):format(how, word) end
  return words
end

--- Whether a value can stand in a header as it is.
local function is_plain(text)
  return not text:find("[^\32-\126]") and not text:find("=?", 1, true)
    and not text:find("^%s") and not text:find("%s$") and not text:find(("%S"):rep(WORD))
end

local function refuse_lines(name, value)
  if type(value) ~= "string" then
    wrong("%s is text, got %s", name, type(value))
  end
  if value:find("[\r\n%z]") then
    wrong("%s has a line end or a NUL in it, which would begin another header", name)
  end
end

--- "Name: value" folded at blanks. `words` stay whole.
local function fold(name, words, joint)
  local lines, line = {}, name .. ":"
  for i, word in ipairs(words) do
    local tail = i < #words and joint or ""
    if #line + 1 + #word + #tail > LINE + 1 and not line:find(":$") then
      lines[#lines + 1] = line
      line = ""
    end
    line = line .. " " .. word .. tail
  end
  lines[#lines + 1] = line
  return table.concat(lines, "\r\n") .. "\r\n"
end

local function split_words(text)
  local words = {}
  for word in text:gmatch("[^ ]+") do words[#words + 1] = word end
  return words
end

--- A header with free text.
local function text_header(name, value)
  refuse_lines(name, value)
  value = clean(value)
  if is_plain(value) and not value:find("  ", 1, true) then
    return fold(name, split_words(value), "")
  end
  return fold(name, encoded_words(value), "")
end

------------------------------------------------------------------ addresses

--- Take "Name <someone@example.com>" or "someone@example.com" apart. Raises usage.
---@param text string
---@return string address
---@return string? name
function mail.address(text)
  refuse_lines("an address", text)
  local name, address = text:match("^%s*(.-)%s*<([^<>]*)>%s*$")
  if not address then address = text:match("^%s*(.-)%s*$") end
  require "smtp".check_address(address)
  name = name and name:match('^"(.*)"$') or name
  return address, name ~= "" and name or nil
end

--- An address with its name, as a header shows it.
local function shown_address(text)
  local address, name = mail.address(text)
  if not name then return address end
  name = clean(name)
  if name:find("[^\32-\126]") or name:find("=?", 1, true) then
    return table.concat(encoded_words(name), " ") .. " <" .. address .. ">"
  end
  if name:find("[^%w !#$%%&'*+/=?^_`{|}~-]") then
    name = '"' .. name:gsub('[\\"]', "\\%0") .. '"'
  end
  return name .. " <" .. address .. ">"
end

local function address_header(name, list)
  local shown = {}
  for i, text in ipairs(list) do shown[i] = shown_address(text) end
  return fold(name, shown, ",")
end

--- A Message-ID that is the same for the same key, so that a mail that is sent again can be
--- told from a new one.
---@param key string
---@param domain string
---@return string
function mail.message_id(key, domain)
  if not key:find("^[%w._-]+$") or #key > 64 then
    key = digest.hex(digest.sha256(key)):sub(1, 40)
  end
  domain = domain:match("[^@<>%s]+$") or "localhost"
  return ("<%s@%s>"):format(key, domain)
end

--- The instant as RFC 5322 writes it, in UTC.
---@param instant number UTC seconds
---@return string
function mail.date(instant)
  return os.date("!%a, %d %b %Y %H:%M:%S +0000", math.floor(instant)) --[[@as string]]
end

------------------------------------------------------------------ bodies

local function crlf(text)
  text = text:gsub("\r\n", "\n"):gsub("\r", "\n"):gsub("\n*$", "") .. "\n"
  return (text:gsub("\n", "\r\n"))
end

local function is_7bit(text)
  if text:find("[^\r\n\t\32-\126]") or text:find("[ \t]\r\n") then return false end
  for line in text:gmatch("([^\r\n]*)\r\n") do
    if #line > 78 or line:find("^From ") then return false end
  end
  return true
end

local function hex(c) return ("=%02X"):format(c:byte()) end

--- One line as quoted-printable: soft line ends before column 76, never within "=XX".
local function quoted_line(line)
  line = line:gsub("[^\t\32-\60\62-\126]", hex):gsub("[ \t]$", hex)
  local out = {}
  while #line > LINE do
    local cut = LINE - 1
    local escape = line:sub(cut - 1, cut):find("=", 1, true)
    if escape then cut = cut - 3 + escape end
    out[#out + 1] = line:sub(1, cut) .. "="
    line = line:sub(cut + 1)
  end
  out[#out + 1] = line
  return table.concat(out, "\r\n")
end

local function quoted_printable(text)
  return (text:gsub("([^\r\n]*)\r\n", function(line)
    return quoted_line(line) .. "\r\n"
  end))
end

local function base64_lines(text)
  return (encoding.base64_encode(text):gsub(("."):rep(LINE), "%0\r\n"):gsub("\r\n$", ""))
    .. "\r\n"
end

--- Headers and body of one part.
local function part(media, text)
  text = crlf(clean(text))
  local _, foreign = text:gsub("[\128-\255]", "")
  local how, body
  if is_7bit(text) then
    how, body = "7bit", text
  elseif foreign * 3 > #text then
    how, body = "base64", base64_lines(text)
  else
    how, body = "quoted-printable", quoted_printable(text)
  end
  return ("Content-Type: %s; charset=utf-8\r\nContent-Transfer-Encoding: %s\r\n\r\n%s")
    :format(media, how, body)
end

--- A boundary that stands in no part.
local function boundary_for(seed, parts)
  for n = 0, 99 do
    local made = "=_" .. digest.hex(digest.sha256(seed .. n)):sub(1, 32)
    local free = true
    for _, text in ipairs(parts) do free = free and not text:find(made, 1, true) end
    if free then return made end
  end
  error("mail: no boundary is free")
end

------------------------------------------------------------------ the whole

local BUILD = {
  {name = "from", type = "string", required = true, doc = '"Name <address>" or address'},
  {name = "to", type = "list", choices = "string", required = true, nonempty = true},
  {name = "subject", type = "string", required = true},
  {name = "text", type = "string", required = true, doc = "the plain body, UTF-8"},
  {name = "html", type = "string", doc = "the same as HTML"},
  {name = "date", type = "number", required = true, doc = "UTC seconds"},
  {name = "message_id", type = "string", required = true, doc = "from mail.message_id"},
  {name = "headers", type = "table", doc = "name → text"},
}

local FRAME = {from = true, to = true, subject = true, date = true, ["message-id"] = true,
  cc = true, bcc = true, sender = true, ["mime-version"] = true, ["content-type"] = true,
  ["content-transfer-encoding"] = true, received = true, ["return-path"] = true}

local function extra_headers(headers)
  local names, out = {}, {}
  for name in pairs(headers or {}) do
    if type(name) ~= "string" or not name:find("^[%w-]+$") then
      wrong("%q is no header's name", tostring(name))
    end
    if FRAME[name:lower()] then wrong("the header %s is made by mail.build", name) end
    names[#names + 1] = name
  end
  table.sort(names)
  for i, name in ipairs(names) do out[i] = text_header(name, headers[name]) end
  return table.concat(out)
end

--- The bytes of a mail, for smtp.send. Raises usage (code BAD_MAIL or BAD_ADDRESS).
---@param options table from, to, subject, text, html?, date, message_id, headers?
---@return string
function mail.build(options)
  local o = args.check("mail.build", BUILD, options)
  if not o.message_id:find("^<[%w._-]+@[%w.:%[%]-]+>$") then
    wrong("message_id is <key@domain>, got %q", o.message_id)
  end
  local head = "Date: " .. mail.date(o.date) .. "\r\n" .. address_header("From", {o.from})
    .. address_header("To", o.to) .. text_header("Subject", o.subject)
    .. "Message-ID: " .. o.message_id .. "\r\n" .. extra_headers(o.headers)
    .. "MIME-Version: 1.0\r\n"
  local text = part("text/plain", o.text)
  if not o.html then return head .. text end
  local html = part("text/html", o.html)
  local boundary = boundary_for(o.message_id, {text, html})
  local line = "\r\n--" .. boundary
  return table.concat{head, 'Content-Type: multipart/alternative;\r\n boundary="',
    boundary, '"\r\n', line, "\r\n", text, line, "\r\n", html, line, "--\r\n"}
end

return mail
