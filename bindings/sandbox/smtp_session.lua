--- One client's dialogue with the SMTP sink (RFC 5321, 3207, 4954).
--
-- The session reads commands, answers them and hands each message that it took over to the
-- sink. It is strict where mail servers of today are: lines end in CRLF and nothing else,
-- no line is longer than 998 bytes, a message is not taken before its sender is known.

local args = require "args"
local encoding = require "encoding"
local log = require "log"

local Session = {}
Session.__index = Session

local LINE = 12288    -- of a command: room for AUTH's initial response (RFC 4954 4)
local TEXT_LINE = 998 -- of a message, without CRLF (RFC 5322 2.1.1)
local IDLE = "5m"

local STAGES = {"connect", "ehlo", "starttls", "auth", "mail", "rcpt", "data", "message"}

--- What ends the dialogue: no answer, the connection goes.
local DROP = {}

function Session:say(...)
  for _, line in ipairs {...} do
    if self.sink.on_refusal and line:find "^[45]%d%d" then self.sink.on_refusal(line) end
    self.conn:write(line .. "\r\n")
  end
end

--- What the sink was told to answer at this stage, or nil for the regular answer. "drop"
--- closes without an answer; "lose" does the work first.
function Session:refusal(stage, value)
  local rule = self.sink.rules[stage]
  if type(rule) == "table" then rule = table.remove(rule, 1) end
  if type(rule) == "function" then rule = rule(value, self.envelope, self) end
  if not rule then return nil end
  if rule == "drop" then error(DROP, 0) end
  if rule ~= "lose" and not rule:find "^[2345]%d%d" then
    error(("smtp_sink: refuse.%s: %q is no reply; it begins with a three-digit code")
      :format(stage, tostring(rule)), 0)
  end
  return rule
end

--- Refuse as told, or say the regular answer.
function Session:answer(stage, value, ...)
  local rule = self:refusal(stage, value)
  if rule == "lose" then error(DROP, 0) end
  if rule then
    self:say(rule)
    return false
  end
  self:say(...)
  return true
end

--- One line without its CRLF; nil at the end. A lone line feed or carriage return in it is
--- the caller's to refuse.
function Session:line(max)
  return self.conn:read_until("\r\n", {timeout = IDLE, max = max})
end

-- ---------------------------------------------------------------- greeting

function Session:reset() self.envelope = {to = {}} end

local function extensions(session)
  local options, list = session.sink.options, {"PIPELINING", "8BITMIME", "SMTPUTF8"}
  list[#list + 1] = "SIZE " .. options.max_size
  if session.sink.tls and not session.tls then list[#list + 1] = "STARTTLS" end
  if options.auth and (session.tls or not options.auth.tls_only) then
    list[#list + 1] = "AUTH " .. table.concat(options.auth.mechanisms, " ")
  end
  return list
end

local verbs = {}

function verbs.EHLO(session, rest)
  if rest == "" then return session:say "501 5.5.4 EHLO needs a name" end
  local list = extensions(session)
  local lines = {"250-sandbox.test greets " .. rest:match "^%S*"}
  for i, word in ipairs(list) do
    lines[#lines + 1] = (i < #list and "250-" or "250 ") .. word
  end
  if session:answer("ehlo", rest, table.unpack(lines)) then
    session.helo = rest
    session:reset()
  end
end

function verbs.HELO(session, rest)
  if rest == "" then return session:say "501 5.5.4 HELO needs a name" end
  if session:answer("ehlo", rest, "250 sandbox.test") then
    session.helo = rest
    session:reset()
  end
end

function verbs.STARTTLS(session, rest)
  local sink = session.sink
  if not sink.tls then return session:say "502 5.5.1 no TLS here" end
  if session.tls then return session:say "503 5.5.1 TLS is on already" end
  if rest ~= "" then return session:say "501 5.5.4 STARTTLS takes no argument" end
  if not session:answer("starttls", nil, "220 2.0.0 go ahead") then return end
  session.conn:starttls{server = true, cert = sink.tls.cert, key = sink.tls.key}
  session.tls = session.conn:tls().version
  session.helo, session.user = nil,
    nil -- what was said before is forgotten (RFC 3207 4.2)
  session:reset()
end

-- ---------------------------------------------------------------- AUTH

local function decoded(session, text)
  if text == "=" then return "" end
  local value = try(encoding.base64_decode, text)
  if not value then session:say "501 5.5.2 that is no base64" end
  return value
end

--- Ask and read an answer; nil when the client gave up or sent nonsense.
local function ask(session, prompt)
  session:say("334 " .. encoding.base64_encode(prompt))
  local line = session:line(LINE)
  if not line then error(DROP, 0) end
  if line == "*" then return session:say "501 5.7.0 given up" end
  return decoded(session, line)
end

local mechanisms = {}

function mechanisms.PLAIN(session, initial)
  local text = initial and decoded(session, initial) or not initial and ask(session, "")
  if not text then return end
  local user, password = text:match "^[^\0]*\0([^\0]+)\0([^\0]*)$"
  if not user then
    return session:say "501 5.5.2 PLAIN is [authzid] NUL user NUL password"
  end
  return user, password
end

function mechanisms.LOGIN(session, initial)
  local user = initial and decoded(session, initial)
    or not initial and ask(session, "Username:")
  local password = user and ask(session, "Password:")
  if password then return user, password end
end

local function accepted(auth, user, password)
  return (auth.user == nil or auth.user == user)
    and (auth.password == nil or auth.password == password)
end

function verbs.AUTH(session, rest)
  local auth = session.sink.options.auth
  local name, initial = rest:match "^(%S+)%s*(%S*)$"
  name = name and name:upper()
  if not auth then return session:say "502 5.5.1 no AUTH here" end
  if not session.helo then return session:say "503 5.5.1 EHLO first" end
  if session.user then return session:say "503 5.5.1 you are somebody already" end
  if auth.tls_only and not session.tls then
    return session:say "538 5.7.11 encryption is needed for that"
  end
  local offered = false
  for _, word in ipairs(auth.mechanisms) do offered = offered or word == name end
  if not offered then return session:say "504 5.5.4 that mechanism is not offered" end
  local user, password = mechanisms[name](session, initial ~= "" and initial or nil)
  if not user then return end
  local rule = session:refusal("auth", user)
  if rule then return session:say(rule) end
  if not accepted(auth, user, password) then
    return session:say "535 5.7.8 user or password is wrong"
  end
  session.user = user
  session:say "235 2.7.0 welcome"
end

-- ---------------------------------------------------------------- envelope

--- "<address> SIZE=3 BODY=8BITMIME" → address, parameters by upper-case name.
local function path_of(rest, word)
  local address, tail = rest:sub(#word + 1):match "^%s*<([^<>%c%s]*)>%s*(.*)$"
  if rest:sub(1, #word):upper() ~= word or not address then return nil end
  local parameters = {}
  for key, value in tail:gmatch "([^%s=]+)=?(%S*)" do parameters[key:upper()] = value end
  return address, parameters
end

local function may_send(session)
  local options = session.sink.options
  if not session.helo then
    session:say "503 5.5.1 EHLO first"
  elseif session.sink.tls_required and not session.tls then
    session:say "530 5.7.0 STARTTLS first"
  elseif options.auth and options.auth.required and not session.user then
    session:say "530 5.7.0 AUTH first"
  else
    return true
  end
end

function verbs.MAIL(session, rest)
  if not may_send(session) then return end
  if session.envelope.from then
    return session:say "503 5.5.1 there is a sender already"
  end
  local address, parameters = path_of(rest, "FROM:")
  if not address then return session:say "501 5.5.4 MAIL FROM:<address> is needed" end
  local size = tonumber(parameters.SIZE)
  if size and size > session.sink.options.max_size then
    return session:say "552 5.3.4 the message is larger than SIZE"
  end
  if session:answer("mail", address, "250 2.1.0 fine") then
    session.envelope = {from = address, to = {}, parameters = parameters}
  end
end

function verbs.RCPT(session, rest)
  if not session.envelope.from then return session:say "503 5.5.1 MAIL first" end
  local address = path_of(rest, "TO:")
  if not address or address == "" then
    return session:say "501 5.1.3 RCPT TO:<address> is needed"
  end
  local to = session.envelope.to
  if #to >= session.sink.options.max_recipients then
    return session:say "452 4.5.3 too many recipients"
  end
  if session:answer("rcpt", address, "250 2.1.5 fine") then to[#to + 1] = address end
end

-- ---------------------------------------------------------------- DATA

--- The lines up to the dot: text, or nil and what is wrong with it. All is read in any
--- case, so that the dialogue goes on.
local function receive(session)
  local max, size, lines, wrong = session.sink.options.max_size, 0, {}, nil
  while true do
    local line = session:line(max + TEXT_LINE)
    if not line then error(DROP, 0) end
    if line == "." then break end
    if line:sub(1, 1) == "." then line = line:sub(2) end
    size = size + #line + 2
    if size > max then
      wrong = wrong or "552 5.3.4 the message is larger than SIZE"
    elseif line:find "[\r\n]" then
      wrong = wrong or "554 5.6.0 a line end that is not CRLF"
    elseif #line > TEXT_LINE then
      wrong = wrong or "554 5.6.0 a line longer than 998 bytes"
    end
    if not wrong then lines[#lines + 1] = line end
  end
  lines[#lines + 1] = ""
  return not wrong and table.concat(lines, "\r\n") or nil, wrong
end

function verbs.DATA(session)
  local envelope = session.envelope
  if #envelope.to == 0 then return session:say "503 5.5.1 RCPT first" end
  if not session:answer("data", nil, "354 end with a dot alone") then return end
  local text, wrong = receive(session)
  session:reset()
  if wrong then return session:say(wrong) end
  local rule = session:refusal("message", text)
  if rule and rule ~= "lose" then return session:say(rule) end
  local id = session.sink:keep(session, envelope, text)
  if rule == "lose" then error(DROP, 0) end
  session:say(("250 2.0.0 taken as %d"):format(id))
end

-- ---------------------------------------------------------------- the rest

function verbs.RSET(session)
  session:reset()
  session:say "250 2.0.0 forgotten"
end

function verbs.NOOP(session) session:say "250 2.0.0 fine" end
function verbs.VRFY(session) session:say "252 2.1.5 send it and see" end
function verbs.HELP(session) session:say "214 2.0.0 see RFC 5321" end

function verbs.QUIT(session)
  session:say "221 2.0.0 bye"
  error(DROP, 0)
end

local function command(session)
  local line = session:line(LINE)
  if not line then error(DROP, 0) end
  if line:find "[\r\n\0]" then return session:say "500 5.5.2 lines end in CRLF" end
  local verb, rest = line:match "^(%a+)%s*(.-)%s*$"
  local act = verb and verbs[verb:upper()]
  if not act then return session:say "500 5.5.1 unknown command" end
  act(session, rest)
end

local function dialogue(session)
  if session.sink.tls and session.sink.implicit then
    session.tls = session.conn:tls().version
  end
  if not session:answer("connect", nil, "220 sandbox.test ESMTP") then error(DROP, 0) end
  while true do command(session) end
end

--- Serve one client to its end. A client that vanishes or breaks the protocol ends only its
--- own session; a rule of `refuse` that cannot be is logged as an error.
---@param sink table
---@param conn any
function Session.serve(sink, conn)
  local session = setmetatable({sink = sink, conn = conn, peer = conn.peer}, Session)
  session:reset()
  local ok, err = pcall(dialogue, session)
  if ok or err == DROP then return end
  if type(err) == "string" then
    log.error("%s", err)
  elseif err.kind == "limit" then
    try(session.say, session, "500 5.5.2 the line is too long")
  else
    log.debug("smtp_sink: %s", err)
  end
end

--- Raise usage unless the rules name stages of the dialogue.
---@param rules table<string, any>?
---@return table<string, any>
function Session.rules(rules)
  local specs = {}
  for i, stage in ipairs(STAGES) do specs[i] = {name = stage, type = "any"} end
  return args.check("smtp_sink.refuse", specs, rules)
end

return Session
