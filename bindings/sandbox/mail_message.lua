--- Take a mail apart, as far as showing and testing it needs.
--
--     local mail = mail_message.parse(text)
--     print(mail.subject, mail.headers.from, mail.text)
--     for _, part in ipairs(mail.parts) do print(part.type, #part.body) end

local encoding = require "encoding"

local mail_message = {}

local DEPTH = 8 -- of multiparts in multiparts

local function unstuffed(text) return (text:gsub("%s+$", "")) end

local function hex_bytes(text)
  return (text:gsub("=(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
end

--- One encoded word, =?charset?B|Q?text?=. What is not UTF-8 or ASCII stays as it is.
local function encoded_word(whole, charset, how, text)
  charset = charset:lower():gsub("%*.*$", "")
  if charset ~= "utf-8" and charset ~= "us-ascii" then return whole end
  if how:upper() == "Q" then return hex_bytes((text:gsub("_", " "))) end
  return try(encoding.base64_decode, text) or whole
end

local WORD = "=%?([^?%s]+)%?([bBqQ])%?([^?%s]*)%?="

--- A header's value with its encoded words (RFC 2047) in UTF-8.
---@param value string
---@return string
function mail_message.words(value)
  value = value:gsub("(%?=)%s+(=%?)", "%1%2") -- space between two words is none
  return (value:gsub("(" .. WORD .. ")", encoded_word))
end

--- Headers in order, and by lower-case name; folded lines are joined.
local function read_headers(head)
  local list, by_name = {}, {}
  head = head:gsub("\r\n([ \t])", "%1")
  for line in head:gmatch "[^\r\n]+" do
    local name, value = line:match "^([!-9;-~]+)[ \t]*:[ \t]*(.-)%s*$"
    if name then
      value = mail_message.words(value)
      list[#list + 1] = {name = name, value = value}
      local key = name:lower()
      by_name[key] = by_name[key] and by_name[key] .. ", " .. value or value
    end
  end
  local lookup = {__index = function(_, key)
    return type(key) == "string" and by_name[key:lower()] or nil
  end, __pairs = function() return next, by_name, nil end}
  return list, setmetatable({}, lookup)
end

local function split(text)
  local head, body = text:match "^(.-)\r\n\r\n(.*)$"
  if head then return head, body end
  if text:sub(1, 2) == "\r\n" then return "", text:sub(3) end
  return text, ""
end

local decoders = {}

function decoders.base64(body)
  return try(encoding.base64_decode, (body:gsub("%s", ""))) or body
end

decoders["quoted-printable"] = function(body)
  return hex_bytes((body:gsub("[ \t]*\r\n", "\r\n"):gsub("=\r\n", "")))
end

local function parameter(value, name)
  for key, rest in value:gmatch ";%s*([%w-]+)%s*=%s*([^;]*)" do
    if key:lower() == name then
      return rest:match '^"([^"]*)"' or unstuffed(rest)
    end
  end
end

--- The pieces between the boundary's lines.
local function pieces(body, boundary)
  local found, delimiter = {}, "\r\n--" .. boundary
  body = "\r\n" .. body
  local from = body:find(delimiter, 1, true)
  while from do
    local line_end = body:find("\r\n", from + #delimiter, true)
    if body:sub(from + #delimiter, from + #delimiter + 1) == "--" or not line_end then
      break
    end
    local to = body:find(delimiter, line_end, true)
    found[#found + 1] = body:sub(line_end + 2, (to or #body + 1) - 1)
    from = to
  end
  return found
end

local collect

--- Add the parts of a multipart, or the one part that the text is.
function collect(parts, headers, body, depth)
  local kind = headers["content-type"] or "text/plain"
  local media = (kind:match "^%s*([%w!#$&^_.+-]+/[%w!#$&^_.+-]+)" or "text/plain"):lower()
  local boundary = media:find "^multipart/" and parameter(kind, "boundary")
  if boundary and depth < DEPTH then
    for _, piece in ipairs(pieces(body, boundary)) do
      local head, inner = split(piece)
      local _, inner_headers = read_headers(head)
      collect(parts, inner_headers, inner, depth + 1)
    end
    return
  end
  local how = (headers["content-transfer-encoding"] or ""):lower():match "^%s*(%S*)"
  local decode = decoders[how]
  parts[#parts + 1] = {type = media, charset = parameter(kind, "charset"),
    filename = parameter(headers["content-disposition"] or "", "filename"),
    headers = headers, body = decode and decode(body) or body}
end

--- @class sandbox.mail_part
--- @field type string "text/plain"
--- @field charset string?
--- @field filename string?
--- @field headers table<string, string> by name in any case
--- @field body string decoded

--- @class sandbox.mail
--- @field headers table<string, string> by name in any case; repeats joined by ", "
--- @field header_list {name: string, value: string}[] in order
--- @field subject string? decoded
--- @field text string the first text/plain part, "" without one
--- @field html string? the first text/html part
--- @field parts sandbox.mail_part[] leaves of the tree, in order

--- Read a mail: lines end in CRLF.
---@param text string
---@return sandbox.mail
function mail_message.parse(text)
  local head, body = split(text)
  local list, headers = read_headers(head)
  local parts, first = {}, {}
  collect(parts, headers, body, 0)
  for _, part in ipairs(parts) do first[part.type] = first[part.type] or part.body end
  return {headers = headers, header_list = list, subject = headers.subject, parts = parts,
    text = first["text/plain"] or "", html = first["text/html"]}
end

return mail_message
