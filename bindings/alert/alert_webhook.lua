--- A webhook: alerts as JSON, signed, to one URL.
--
--     local webhook = require "alert_webhook"
--     webhook.send({url = "https://hooks.example.com/x", secret = key}, id, payload)
--
-- POST with these headers:
--
--     Secrun-Delivery: <id>            the same whenever this delivery is sent again
--     Secrun-Signature: t=<UTC seconds>,v1=<hex>
--
-- v1 is HMAC-SHA256, keyed with the secret, over t, a dot and the body as it was sent. Who
-- verifies compares in constant time, refuses a t far from now, and remembers ids:
--
--     expected = hmac_sha256(secret, t .. "." .. body)
--
-- 2xx is accepted. 429 and 5xx are tried again, heeding Retry-After; 404 and 410 are not,
-- nor is a redirect, which is never followed.

local digest = require "digest"
local errors = require "errors"
local http = require "http"
local json = require "json"
local time = require "time"

local webhook = {}

local TIMEOUT = "20s"

--- Whether a URL leads to this machine, by its text.
local function is_loopback(url)
  local host = url:match("^http://(%[::1%])[:/]") or url:match("^http://([^/:?#]+)")
  return host == "localhost" or host == "[::1]"
    or host ~= nil and host:find("^127%.%d+%.%d+%.%d+$") ~= nil
end

--- What is wrong with a URL to send alerts to, or nil.
---@param url string
---@return string?
function webhook.wrong_url(url)
  if url:find("[%c%s]") then return "has a blank or a control character in it" end
  local authority = url:match("^https?://([^/?#]+)")
  if authority and authority:find("@", 1, true) then
    return "has a name or password in it; receivers check the signature instead"
  end
  if authority and url:find("^https:") then return nil end
  if is_loopback(url .. "/") then return nil end
  return "is an https:// URL (http:// only to this machine)"
end

--- The header that proves who sent a body and when.
---@param key any a secret
---@param instant integer UTC seconds
---@param body string
---@return string
function webhook.signature(key, instant, body)
  local mac = digest.hmac("sha256", key, ("%d.%s"):format(instant, body))
  return ("t=%d,v1=%s"):format(instant, digest.hex(mac))
end

--- Whether a signature header belongs to a body, as a receiver checks it.
---@param key any a secret
---@param header string
---@param body string
---@param now number
---@param tolerance number? seconds, 300
---@return boolean
function webhook.verify(key, header, body, now, tolerance)
  local instant, given = header:match("^t=(%d+),v1=(%x+)$")
  instant = math.tointeger(tonumber(instant))
  if not instant or math.abs(now - instant) > (tolerance or 300) then return false end
  local mac = digest.hmac("sha256", key, instant .. "." .. body)
  return digest.equal(given:lower(), digest.hex(mac))
end

--- Send once. Raises what http raises; err.retryable says whether it may work later.
---@param hook {url: string, secret: any, ca: any?, timeout: number|string?}
---@param id string of the delivery
---@param payload table
---@return {reply: string}
function webhook.send(hook, id, payload)
  local body = json.encode(payload)
  local signature = webhook.signature(hook.secret, math.floor(time.now()), body)
  local res = http.post(hook.url, body, {
    headers = {["Content-Type"] = "application/json", ["Secrun-Delivery"] = id,
      ["Secrun-Signature"] = signature},
    redirects = 0, timeout = hook.timeout or TIMEOUT, max_body = "64KiB", ca = hook.ca,
    idempotent = true, http_version = "1.1",
  })
  if res.status < 200 or res.status > 299 then
    errors.raise("protocol", ("%s answers %d; a redirect is not followed, give the URL "
      .. "it leads to"):format(res.url:match("^[^?]*"), res.status), {
      code = "HTTP_" .. res.status, status = res.status, retryable = false})
  end
  return {reply = tostring(res.status)}
end

return webhook
