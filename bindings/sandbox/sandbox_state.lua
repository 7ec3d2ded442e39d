--- The state of a sandbox's SCM: settings, clock, CA and the things its resources keep.
--
--     local state = sandbox_state.new{seed = 7, base_url = "https://127.0.0.1:8443"}
--     state:advance(86400)
--     print(state.now(), state:next_id "person", state:token("renew 7", 20))

local args = require "args"
local digest = require "digest"
local sandbox_ca = require "sandbox_ca"
local time = require "time"

local sandbox_state = {}

local SETTINGS = {
  {name = "customer_uri", type = "string", nonempty = true},
  {name = "page_size", type = "integer", positive = true, max = 200},
  {name = "token_lifetime", type = "integer", positive = true},
  {name = "approval", type = "enum", choices = "auto|manual"},
  {name = "prevalidation", type = "boolean"},
  {name = "apply_after", type = "duration"},
  {name = "issue_after", type = "duration"},
  {name = "stuck", type = "boolean"},
  {name = "lag", type = "duration"},
  {name = "replace", type = "enum", choices = "same_id|new_id"},
  {name = "pending_code", type = "integer"},
  {name = "pending_status", type = "integer"},
  {name = "pending_text", type = "string"},
  {name = "collect_charset", type = "boolean"},
  {name = "collect_breaks", type = "boolean"},
  {name = "dates", type = "enum", choices = "usual|iso"},
  {name = "empty_errors", type = "boolean"},
  {name = "sans_with_cn", type = "boolean"},
  {name = "renew_needs_csr", type = "boolean"},
  {name = "duplicate_profiles", type = "boolean"},
  {name = "acme_server", type = "enum", choices = "name|url"},
  {name = "any_password", type = "boolean"},
  {name = "dcv", type = "enum", choices = "request|accept"},
  {name = "dcv_words", type = "enum", choices = "constants|display"},
}

--- What a sandbox does unless told otherwise; docs/sandbox.md explains each.
local DEFAULTS = {
  customer_uri = "sandbox", page_size = 200, token_lifetime = 300, approval = "auto",
  prevalidation = true, apply_after = 1, issue_after = 2, stuck = false, lag = 0,
  replace = "same_id", pending_code = 0, pending_status = 400,
  pending_text = "Being processed by Sectigo", collect_charset = true,
  collect_breaks = false, dates = "usual",
  empty_errors = false, sans_with_cn = false, renew_needs_csr = false,
  duplicate_profiles = false, acme_server = "name",
  any_password = false,
  dcv = "request", dcv_words = "constants",
}

local DURATIONS = {"apply_after", "issue_after", "lag"}

local State = {}
State.__index = State

--- Change settings; raises usage for unknown ones and leaves all as they were.
---@param given table<string, any>?
function State:set(given)
  local checked = args.check("sandbox settings", SETTINGS, given)
  for _, name in ipairs(DURATIONS) do
    if checked[name] then checked[name] = args.duration(checked[name]) end
  end
  for name, value in pairs(checked) do self.settings[name] = value end
end

--- Let seconds pass in the sandbox.
---@param seconds number
function State:advance(seconds) self.offset = self.offset + seconds end

--- The next id of a kind: they begin at different numbers, so that mixing them up shows.
---@param kind string
---@return integer
function State:next_id(kind)
  local first = 1000 + (digest.sha256("id " .. kind):byte() % 90) * 100
  self.ids[kind] = (self.ids[kind] or first) + 1
  return self.ids[kind]
end

local LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

--- Bytes that are a function of the seed and of what they are for.
---@param what string
---@return string 64 bytes
function State:bytes(what)
  return digest.sha512(("sandbox %d %s"):format(self.seed, what))
end

--- Letters and digits that are a function of the seed, at most 64.
---@param what string
---@param length integer
---@return string
function State:token(what, length)
  return (self:bytes(what):sub(1, length):gsub(".", function(byte)
    local at = byte:byte() % #LETTERS + 1
    return LETTERS:sub(at, at)
  end))
end

--- A UUID that is a function of the seed.
---@param what string
---@return string
function State:uuid(what)
  local hex = digest.hex(self:bytes(what):sub(1, 16))
  return ("%s-%s-4%s-a%s-%s"):format(hex:sub(1, 8), hex:sub(9, 12), hex:sub(14, 16),
    hex:sub(18, 20), hex:sub(21, 32))
end

--- Midnight UTC of an instant.
function sandbox_state.midnight(instant) return instant - instant % 86400 end

---@param options {seed: integer, settings: table?, base_url: string?, epoch: number?,
---  certificates: integer?, ca_folder: string?}
function sandbox_state.new(options)
  local state = setmetatable({seed = options.seed, base_url = options.base_url, ids = {},
    offset = 0, settings = {}, certificates = options.certificates or 0}, State)
  for name, value in pairs(DEFAULTS) do state.settings[name] = value end
  state:set(options.settings)
  state.now = function() return time.now() + state.offset end
  state.started = state.now()
  state.epoch = options.epoch or sandbox_state.midnight(state.started)
  local plain = options.base_url and options.base_url:gsub("^https:", "http:")
  state.ca = sandbox_ca.new{seed = options.seed, now = state.now, base_url = plain,
    folder = options.ca_folder}
  return state
end

return sandbox_state
