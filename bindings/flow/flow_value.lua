--- Values of flows as text: canonical JSON that can be compared, and errors as rows keep
--- them.
--
--     local text = value.encode(result, "step \"order\": its result")
--     local result = value.decode(text)
--
-- What is stored is what comes back: plain values, keys in order, no secret, no private
-- key. A refusal names the field. The step's caller gets the decoded text in the first run
-- too, so that it sees the same after a crash.

local digest = require "digest"
local errors = require "errors"
local json = require "json"
local log = require "log"

local value = {}

--- The path and the reason of the first text that must not be stored, or nil.
local function find_secret(item, path)
  if type(item) == "string" then
    if item:find "%-%-%-%-%-BEGIN [%u ]*PRIVATE KEY%-%-%-%-%-" then
      return path, "it is a private key; keep keys in files and store their path"
    end
    if #item >= 6 and log.redact(item) ~= item then
      return path, "it holds a secret; store the secret's source instead"
    end
  elseif type(item) == "table" then
    for key, inner in pairs(item) do
      local step = math.type(key) == "integer" and ("[%d]"):format(key) or "." .. key
      local at, why = find_secret(inner, path .. step)
      if at then return at, why end
    end
  end
end

local function refuse(what, message)
  errors.raise("usage", ("%s cannot be stored: %s"):format(what, message),
    {code = "FLOW_VALUE"})
end

--- Canonical JSON of a plain value, or nil for nil. Raises usage (code FLOW_VALUE) that
--- names the field.
---@param item any
---@param what string how messages call it; a format when `name` is given
---@param name string?
---@return string?
function value.encode(item, what, name)
  if item == nil then return nil end
  local text, err = try(json.encode, item)
  if text and not text:find "PRIVATE KEY" and log.redact(text) == text then
    return text
  end
  if name then what = what:format(name) end
  if not text then refuse(what, err.message) end
  local path, why = find_secret(item, "")
  if path then refuse(what .. (path ~= "" and " at " .. path or ""), why) end
  return text
end

--- The value of such a text; nil for nil.
---@param text string?
function value.decode(text)
  if text == nil then return nil end
  return json.decode(text)
end

local HASH_OF_NOTHING <const> = digest.hex(digest.sha256(""))

--- SHA-256 of a text in hex; of "" for nil.
---@param text string?
---@return string
function value.hash(text)
  return text and digest.hex(digest.sha256(text)) or HASH_OF_NOTHING
end

-- ---------------------------------------------------------------- errors

--- Fields that a record does not keep: they belong to the run that failed.
local DROPPED = {trace = true, where = true, cause = true, value = true, message = true}

local function plain(item)
  return type(item) ~= "function" and type(item) ~= "userdata"
    and type(item) ~= "thread" and try(json.encode, item) ~= nil
end

local function without_secrets(item)
  if type(item) == "string" then return log.redact(item) end
  if type(item) ~= "table" then return item end
  local copy = {}
  for key, inner in pairs(item) do copy[key] = without_secrets(inner) end
  return copy
end

--- An error as the text a row keeps: kind, code, message, status, details and the like,
--- its cause as text, no secret.
---@param err any
---@return string
function value.encode_error(err)
  err = errors.object(err)
  local record = {message = log.redact(tostring(err.message or "")),
    where = err.where ~= "" and err.where or nil}
  for key, item in pairs(err) do
    if type(key) == "string" and not DROPPED[key] and plain(item) then
      record[key] = without_secrets(item)
    end
  end
  if err.cause ~= nil then record.cause = log.redact(tostring(err.cause)) end
  local text = try(json.encode, record)
  return text or json.encode{kind = err.kind or "internal",
    message = "an error whose text is not UTF-8"}
end

--- The error object of such a text.
---@param text string
---@return table
function value.decode_error(text)
  local record = json.decode(text)
  local where = record.where
  local err = errors.new(record)
  err.where = where or err.where
  return err
end

return value
