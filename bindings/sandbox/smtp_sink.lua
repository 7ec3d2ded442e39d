--- A mail server that keeps what it gets: for trying alerts out, and for tests.
--
--     local sink <close> = smtp_sink.start{auth = {user = "u", password = "p"}}
--     … send mail to 127.0.0.1, port sink.port …
--     local mail = sink:wait(1, "5s")[1]
--     print(mail.from, mail.to[1], mail.subject, mail.text)

local args = require "args"
local errors = require "errors"
local log = require "log"
local loopback = require "loopback"
local mail_message = require "mail_message"
local session = require "smtp_session"
local stream = require "stream"
local task = require "task"
local time = require "time"

local smtp_sink = {}

local START = {
  {name = "listen", type = "string", doc = "host:port, 127.0.0.1 and a free one"},
  {name = "tls", type = "any", doc = "\"starttls\", \"implicit\" or {mode, required, …}"},
  {name = "auth", type = "any", doc = "true: anybody; or {user, password, required, …}"},
  {name = "refuse", type = "table", doc = "{stage = reply}"},
  {name = "keep", type = "integer", positive = true, doc = "messages kept (1000)"},
  {name = "max_size", type = "integer", positive = true, doc = "bytes (10 MiB)"},
  {name = "max_recipients", type = "integer", positive = true, doc = "a message (100)"},
}

local TLS = {
  {name = "mode", type = "enum", choices = "starttls|implicit"},
  {name = "required", type = "boolean", doc = "no mail before STARTTLS"},
  {name = "cert", type = "any", doc = "PEM; one for loopback is made without"},
  {name = "key", type = "any"},
}

local AUTH = {
  {name = "user", type = "string", doc = "anybody without"},
  {name = "password", type = "string"},
  {name = "required", type = "boolean", doc = "no mail before AUTH"},
  {name = "tls_only", type = "boolean", doc = "offered after STARTTLS only"},
  {name = "mechanisms", type = "list", choices = "string", doc = "PLAIN and LOGIN"},
}

--- @class smtp_sink.message: sandbox.mail
--- @field id integer 1 for the first
--- @field time number when it was taken, UTC seconds
--- @field from string of the envelope; "" for a bounce
--- @field to string[] of the envelope
--- @field parameters table<string, string> of MAIL, by upper-case name
--- @field helo string
--- @field tls string? version
--- @field user string? who authenticated
--- @field raw string as it was sent, dots unstuffed

--- @class smtp_sink
--- @field host string
--- @field port integer
--- @field ca string? PEM of the CA to trust, when it made its own certificate
--- @field count integer messages taken since the start or the last clear
local Sink = {}
Sink.__index = Sink

--- The messages that are kept, oldest first.
---@return smtp_sink.message[]
function Sink:messages() return table.move(self.kept, 1, #self.kept, 1, {}) end

--- Forget them, and count from 0.
function Sink:clear() self.kept, self.count = {}, 0 end

--- Change what is refused from now on; {} refuses nothing.
---@param rules table<string, any>
function Sink:refuse(rules) self.rules = session.rules(rules) end

--- Wait until n messages were taken since the start or the last clear, and return those kept.
--- Raises timeout.
---@param n integer? 1
---@param timeout number|string? 10 s
---@return smtp_sink.message[]
function Sink:wait(n, timeout)
  n = n or 1
  local seconds = args.duration(timeout or 10)
  local ending = time.mono() + seconds
  while self.count < n do
    if time.mono() >= ending then
      errors.raise("timeout", ("smtp_sink: %d of %d messages came within %g s"):format(
        self.count, n, seconds))
    end
    task.sleep(0.005)
  end
  return self:messages()
end

--- Take a message over; called by the sessions.
function Sink:keep(from, envelope, text)
  local message = mail_message.parse(text)
  self.taken, self.count = self.taken + 1, self.count + 1
  message.id, message.time, message.raw = self.taken, time.now(), text
  message.from, message.to = envelope.from, envelope.to
  message.parameters, message.helo = envelope.parameters, from.helo
  message.tls, message.user = from.tls, from.user
  self.kept[#self.kept + 1] = message
  if #self.kept > self.options.keep then table.remove(self.kept, 1) end
  if self.on_message then self.on_message(message) end
  return self.taken
end

local function accept(sink)
  local group <close> = task.group()
  while true do
    local ok, conn = xpcall(sink.listener.accept, errors.object, sink.listener,
      {timeout = "3650d"})
    if not ok then
      if task.cancelled() or conn.code == "closed" then
        group:cancel()
        return
      end
      log.warn("smtp_sink: %s", conn)
      task.sleep(0.1)
    else
      sink.connections = sink.connections + 1
      group:spawn(function()
        local held <close> = conn
        session.serve(sink, held)
      end)
    end
  end
end

--- End all sessions and stop listening. Closing twice is fine.
function Sink:close()
  if self.closed then return end
  self.closed = true
  self.listener:close()
  self.running:cancel()
  try(self.running.join, self.running)
end

Sink.__close = function(self) self:close() end

function Sink:__tostring() return ("smtp_sink %s:%d"):format(self.host, self.port) end

local function tls_settings(given)
  if given == nil or given == false then return nil end
  if type(given) == "string" then given = {mode = given} end
  if given == true then given = {} end
  local tls = args.check("smtp_sink.start: tls", TLS, given)
  if not tls.cert then
    local made = loopback.certificate()
    tls = {mode = tls.mode, required = tls.required, cert = made.cert, key = made.key,
      ca = made.ca}
  end
  return tls
end

local function auth_settings(given)
  if given == nil or given == false then return nil end
  local auth = args.check("smtp_sink.start: auth", AUTH, given == true and {} or given)
  local mechanisms = {}
  for i, name in ipairs(auth.mechanisms or {"PLAIN", "LOGIN"}) do
    mechanisms[i] = name:upper()
    if mechanisms[i] ~= "PLAIN" and mechanisms[i] ~= "LOGIN" then
      errors.raise("usage", ("smtp_sink.start: auth: mechanism %q; PLAIN and LOGIN are "
        .. "known"):format(name))
    end
  end
  return {user = auth.user, password = auth.password, required = auth.required,
    tls_only = auth.tls_only, mechanisms = mechanisms}
end

--- Start a sink; it serves until closed.
---
---   listen = "127.0.0.1:0"
---   tls = nil (none), "starttls", "implicit" or {mode =, required =, cert =, key =}; without
---     a certificate it makes one for localhost, and sink.ca is what to trust
---   auth = nil (none), true (anybody) or {user =, password =, required =, tls_only =,
---     mechanisms = {"PLAIN", "LOGIN"}}
---   refuse = {stage = rule}: stages are connect, ehlo, starttls, auth, mail, rcpt, data and
---     message; a rule is the reply ("451 4.7.1 later"), "drop" (no answer, the connection
---     goes), "lose" (the work is done, then the answer is lost), a list of rules of which
---     each serves once, or a function(value, envelope, session) that returns a rule or nil
---   keep = 1000, max_size = 10 MiB, max_recipients = 100
---   on_message and on_refusal are fields of the sink: functions called with each message
---   and with each reply that refuses
---
--- Raises usage; conflict, io when it cannot listen.
---@param options table?
---@return smtp_sink
function smtp_sink.start(options)
  options = args.check("smtp_sink.start", START, options)
  local tls = tls_settings(options.tls)
  local implicit = tls ~= nil and tls.mode == "implicit"
  local host, port = (options.listen or "127.0.0.1:0"):match "^(.*):(%d+)$"
  if not host then
    errors.raise("usage", ("smtp_sink.start: listen: %q is not host:port"):format(
      options.listen))
  end
  local listener = stream.listen{host = host:match "^%[(.*)%]$" or host,
    port = tonumber(port),
    tls = implicit and {cert = tls.cert, key = tls.key} or nil}
  local sink = setmetatable({kept = {}, taken = 0, count = 0, connections = 0,
    listener = listener, host = host, port = listener.port, tls = tls,
    implicit = implicit, tls_required = tls and tls.required, ca = tls and tls.ca,
    rules = session.rules(options.refuse),
    options = {auth = auth_settings(options.auth), keep = options.keep or 1000,
      max_size = options.max_size or 10 << 20,
      max_recipients = options.max_recipients or 100}}, Sink)
  sink.running = task.daemon(accept, sink)
  return sink
end

return smtp_sink
