--- One call of an SCM operation: made ready, sent, repeated where that is safe, read.
--
--     local value, info = scm_call.run(connection, "ssl.get", {sslId = 7}, {})
--     info.status, info.total, info.location
--
-- What reads may be repeated: after a lost answer, a 429, 502, 503 or 504, and the codes
-- that say "later". What writes is only sent again when it cannot have had an effect: the
-- connection never stood, or SCM refused it unread (401 with an old token, 429). An error
-- of a write whose fate is not known has `unanswered` = true: look before sending again.

local core = require "scm.core"
local digest = require "digest"
local encoding = require "encoding"
local errors = require "errors"
local http = require "http"
local json = require "json"
local task = require "task"

local WAIT_CAP = 30   -- seconds between two tries of ours
local ASKED_CAP = 60  -- seconds: a longer Retry-After is the caller's to wait for
local JSON_TYPE = "application/json;charset=utf-8"

local scm_call = {}

---@class scm.Info
---@field status integer
---@field total integer? X-Total-Count
---@field location string? of what was created
---@field response http.response

-------------------------------------------------------------------- bodies

--- The value with its secrets replaced by marks, and the secrets.
local function veil(value, mark, found)
  if core.is_secret(value) then
    found[#found + 1] = value
    if #found > 99 then
      errors.raise("limit", "a request with more than 99 secrets", {code = "TOO_MANY"})
    end
    return ("%s%02d"):format(mark, #found)
  end
  if type(value) ~= "table" then return value end
  local copy = setmetatable({}, getmetatable(value))
  for k, v in pairs(value) do copy[k] = veil(v, mark, found) end
  return copy
end

--- JSON text of a body, or a secret with it when there are secrets in it.
local function json_body(body)
  local mark, found = "~" .. digest.hex(digest.random(12)), {}
  local text = json.encode(veil(body, mark, found))
  if #found == 0 then return text end
  return core.fill(text, mark, found)
end

--- A form with one file, and its type.
local function multipart(name, body)
  local file = body.file
  local boundary = "secrun" .. digest.hex(digest.random(16))
  if type(file) ~= "string" then
    errors.raise("usage", name .. ": file: expected the file's bytes",
      {code = "BAD_ARGUMENT"})
  end
  local text = table.concat{"--", boundary, "\r\n",
    'Content-Disposition: form-data; name="file"; filename="import.zip"\r\n',
    "Content-Type: application/zip\r\n\r\n", file, "\r\n--", boundary, "--\r\n"}
  return text, "multipart/form-data; boundary=" .. boundary
end

-------------------------------------------------------------------- answers

local function host_of(url) return url:match "^%a+://([^/?#]*)" end

local function failed(conn, call, res)
  return core.explain{op = call.name, host = host_of(conn.url),
    admin = conn.face == "admin", status = res.status, body = res.body,
    www_authenticate = res.headers["www-authenticate"], retry_after = res:retry_after()}
end

local function lie(call, res, what)
  local shown = core.redact(res.body:sub(1, 120)):gsub("[%c%s]+", " ")
  errors.raise("protocol", ("%s: answered %d %s%s%s"):format(call.name, res.status, what,
    shown ~= "" and ": " or "", shown), {code = "BAD_ANSWER", status = res.status})
end

--- "https://cert-manager.com/api/person/v1/27" → 27; ids that are no numbers stay texts.
local function id_of(location)
  local last = location:gsub("[?#].*", ""):match "([^/]+)/*$"
  local ok, text = pcall(encoding.percent_decode, last or "")
  if not ok or text == "" then return nil end
  return math.tointeger(tonumber(text:match "^%d+$")) or text
end

--- The JSON value of a body, or nothing for an empty one.
local function document(call, res)
  if not res.body:find "%S" then return nil end
  local ok, value = pcall(core.decode, res.body)
  if ok then return value end
  lie(call, res, ("with %s that is no JSON"):format(res:content_type() or "a body"))
end

local READERS = {}

function READERS.bytes(call, res)
  if res.body == "" then lie(call, res, "with an empty file") end
  return res.body
end

function READERS.count(call, res, info)
  if not info.total then lie(call, res, "without X-Total-Count") end
  return info.total
end

function READERS.list(call, res)
  local value = document(call, res)
  if value == nil then return json.array{} end
  if type(value) ~= "table" then lie(call, res, "with no list") end
  return value
end

function READERS.location(call, res, info)
  local id = info.location and id_of(info.location)
  if id then return id end
  local value = document(call, res)
  if value == nil then
    lie(call, res, "and did it, but without a Location that says the new id")
  end
  return value
end

function READERS.json(call, res)
  local value = document(call, res)
  if value == nil and call.reads then lie(call, res, "with an empty body") end
  return value == nil and true or value
end

function READERS.empty(call, res)
  local value = document(call, res)
  return value == nil and true or value
end

local function read(call, res)
  local total = res.headers["x-total-count"]
  local info = {status = res.status, location = res.headers["location"], response = res,
    total = total and math.tointeger(tonumber(total:match "^%s*(%d+)%s*$"))}
  return READERS[call.result](call, res, info), info
end

-------------------------------------------------------------------- sending

local function url_of(conn, call) return conn.url .. conn.auth.prefix .. call.path end

--- The options of http.request for a call.
local function request_of(conn, call, options)
  local request = {}
  for name, value in pairs(conn.http) do request[name] = value end
  request.method, request.url, request.raise = call.method, url_of(conn, call), false
  request.redirects = 0
  request.idempotent = call.reads
  request.timeout = options.timeout or request.timeout
  request.headers = {Accept = call.result == "bytes" and "*/*" or "application/json"}
  for name, value in pairs(call.headers) do request.headers[name] = value end
  if next(call.query) then request.query = call.query end
  if call.kind == "m" then
    request.body, request.headers["Content-Type"] = multipart(call.name, call.body)
  elseif call.kind then
    request.body, request.headers["Content-Type"] = json_body(call.body), JSON_TYPE
  end
  -- After "being processed" SCM has left connections in a state that spoils the next
  -- answer: a collect has one of its own.
  if call.result == "bytes" then request.keep_alive = false end
  return request
end

--- One exchange. Returns the response, or nil, an error object and the refusing response.
local function exchange(conn, call, request, refused)
  conn.auth:apply(request, refused)
  local ok, res = pcall(http.request, request)
  if not ok then return nil, errors.object(res) end
  if res.status < 300 then return res end
  if res.status >= 400 then return nil, failed(conn, call, res), res end
  return nil, errors.new{kind = "protocol", code = "REDIRECT", status = res.status,
    message = ("%s: %s redirects to %s; give that host as url"):format(call.name,
      host_of(conn.url), (res.headers["location"] or "nowhere"):match "^[^?]*")}
end

--- Whether the same call may be sent again now.
local function may_repeat(call, err)
  if not err.retryable or err.kind == "pending" then return false end
  if call.reads then return true end
  return err.status == nil or err.status == 429 -- not sent at all; or refused unread
end

-- Kinds of errors before anything was sent.
local UNSENT = {usage = true, denied = true, tls = true, dns = true, connect = true}

--- Mark an error of a write whose answer is missing.
local function mark_fate(call, err)
  if call.reads then return err end
  local status = err.status
  if status == nil and not err.retryable then
    err.unanswered = not UNSENT[err.kind] or nil
  elseif status and status >= 500 and not (err.scm and err.scm.code) then
    err.unanswered = true
    err.retryable = false
  end
  return err
end

local function send(conn, call, options)
  local request = request_of(conn, call, options)
  local wait, left, refused = 1, options.retries or conn.retries, nil
  while true do
    local res, err, refusal = exchange(conn, call, request, refused)
    if res then return res end
    if refusal and refusal.status == 401 and conn.auth:renewable() and not refused then
      refused = request.bearer
    else
      mark_fate(call, err)
      local asked = err.retry_after or 0
      if left <= 0 or not may_repeat(call, err) or asked > ASKED_CAP then
        error(err, 0)
      end
      left = left - 1
      task.sleep(math.max(asked, wait * (0.5 + math.random() / 2)))
      wait = math.min(wait * 2, WAIT_CAP)
    end
  end
end

--- Answers come with dates in one form, when SCM is asked for it.
local function ask_dates(conn, call)
  if conn.date_format and call.method == "GET" and
    (call.result == "json" or call.result == "list") and not call.query.dateFormat then
    call.query.dateFormat = conn.date_format
  end
end

--- The call, fit to be sent. other: filters in the spelling of the other face.
local function ready(conn, name, parameters, options, other)
  local call = core.prepare(name, conn.face, options.version or 0, parameters,
    options.body ~= nil, other)
  if options.body ~= nil then
    call.body = options.body
    call.kind = call.kind or "{"
  end
  for key, value in pairs(options.query or {}) do call.query[key] = value end
  ask_dates(conn, call)
  return call
end

-- Kinds of refusals that a filter's spelling can be the reason for.
local MAYBE_SPELLING = {usage = true, http = true}

--- Run one operation. Filters whose values have two spellings go out as the face documents
--- them, once more in the other one when SCM refuses that; what worked is remembered.
---@param conn scm.Connection
---@param name string
---@param parameters table?
---@param options {version: integer?, timeout: number|string?, retries: integer?,
---  body: any, query: table?}
---@return any value
---@return scm.Info info
function scm_call.run(conn, name, parameters, options)
  local call = ready(conn, name, parameters, options, conn.other_words)
  if not call.spelt then return read(call, send(conn, call, options)) end
  local ok, res = pcall(send, conn, call, options)
  if ok then return read(call, res) end
  local err = errors.object(res)
  if err.status ~= 400 or not MAYBE_SPELLING[err.kind] then error(err, 0) end
  local other = ready(conn, name, parameters, options, not conn.other_words)
  ok, res = pcall(send, conn, other, options)
  if not ok then error(err, 0) end
  conn.other_words = not conn.other_words
  return read(other, res)
end

return scm_call
