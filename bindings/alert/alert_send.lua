--- One delivery to one channel, by mail or webhook.
--
--     local done = send.deliver(config, delivery)     -- or raises; send.verdict(err) judges
--
-- What is sent is a function of the delivery: a second attempt has the same bytes but for a
-- webhook's signature, and the same Message-ID or Secrun-Delivery.

local errors = require "errors"
local mail = require "mail"
local smtp = require "smtp"
local text = require "alert_text"
local webhook = require "alert_webhook"

local send = {}

--- The value of a setting that may be a reference to a secret.
local function resolve(value)
  if type(value) == "table" and value["$secret"] then return secret(value["$secret"]) end
  return value
end

--- Mails about one alert are one thread in a reader.
local function thread(items, domain)
  if #items > 1 then return nil end
  local item = items[1]
  return mail.message_id(("alert %s %d"):format(item.id, item.starts_at // 1), domain)
end

local function by_mail(channel, delivery)
  local server, items = channel.smtp, delivery.items
  local from = mail.address(server.from)
  local shown = text.mail(items, delivery.created_at)
  local to = delivery.recipients or channel.to
  local references = thread(items, from)
  local message = mail.build{
    from = server.from, to = channel.to, subject = shown.subject, text = shown.text,
    html = shown.html, date = delivery.created_at,
    message_id = mail.message_id(delivery.id, from),
    headers = {["Auto-Submitted"] = "auto-generated", ["X-Secrun-Delivery"] = delivery.id,
      References = references},
  }
  local sent = smtp.send{
    host = server.host, port = server.port, tls = server.tls, user = server.user,
    password = resolve(server.password), ca = server.ca, helo = server.helo, from = from,
    to = to, message = message, timeout = server.timeout or "40s",
    connect_timeout = "15s",
  }
  local later, never, note = {}, {}, nil
  for _, one in ipairs(sent.refused) do
    local list = one.temporary and later or never
    list[#list + 1] = one.to
    note = ("%s is refused: %d %s"):format(one.to, one.code, one.text)
  end
  return {reply = sent.reply, later = later, never = never, note = note}
end

local function by_webhook(channel, name, delivery)
  local hook = channel.webhook
  local payload = text.payload(delivery.id, name, delivery.items, delivery.created_at)
  local done = webhook.send({url = hook.url, secret = resolve(hook.secret), ca = hook.ca,
    timeout = hook.timeout}, delivery.id, payload)
  return {reply = done.reply, later = {}, never = {}}
end

--- Send. Raises what went wrong.
---@param config table from alert_routes.read
---@param delivery {id: string, channel: string, items: table[], created_at: number,
---  recipients: string[]?}
---@return {reply: string, later: string[], never: string[], note: string?} done later and
---  never: recipients that are refused, note: the last of them in words
function send.deliver(config, delivery)
  local channel = config.channels[delivery.channel]
  if not channel then
    errors.raise("not_found", ("the estate has no channel %q any more")
      :format(delivery.channel), {code = "NO_CHANNEL"})
  end
  if channel.smtp then return by_mail(channel, delivery) end
  return by_webhook(channel, delivery.channel, delivery)
end

--- Kinds that say: this message, or this recipient, and not the channel.
local ABOUT_THE_MAIL = {not_found = true, limit = true, protocol = true}

--- Whether trying again is of no use. Logins, TLS and connections are mended by people while
--- the delivery waits; a mailbox that does not exist and a URL that is gone are not.
---@param err table
---@return boolean
function send.is_final(err)
  if err.code == "NO_CHANNEL" then return true end
  if err.retryable or not err.status then return false end
  local code = tostring(err.code)
  if code:find("^SMTP_") then return ABOUT_THE_MAIL[err.kind] == true end
  return code:find("^HTTP_") ~= nil and err.kind ~= "auth"
end

return send
