--- HTTP from scripts: requests, clients with defaults, and (http.serve) servers.
--
--     local http = require "http"
--     local res = http.get("https://ca.example/directory", {timeout = "10s"})
--     print(res.status, res:header("retry-after"), res:json().newOrder)
--     local api = http.client{base_url = "https://cert.example/api/", bearer = token}
--     api:post("ssl/v1/enroll", nil, {json = {orgId = 1}})

local core = require "http.core"
local errors = require "errors"

local http = {}

---@class http.response
---@field status integer
---@field headers table<string, string> by name in any case, repeats joined by ", "
---@field body string decoded; "" when it went to a sink
---@field url string of the last hop
---@field method string of the last hop
---@field http_version string "1.0" "1.1" "2"
---@field peer {address: string, port: integer}
---@field timing table<string, number> seconds: dns, connect, tls, first_byte, total
local response = core.methods

--- The body as JSON. Raises protocol when it is something else, with its beginning.
---@return any
function response:json()
  local ok, value = pcall(require "json".decode, self.body)
  if ok then return value end
  local cause = errors.object(value)
  local shown = self.body:sub(1, 120):gsub("[%c%s]+", " ")
  errors.raise("protocol", ("%s answered %d with %s that is no JSON (%s): %s"):format(
    self.url:match("^[^?]*"), self.status, self:content_type() or "a body without type",
    cause.message, shown), {code = "BAD_JSON", status = self.status, cause = cause})
end

local BODY_TYPES = {json = "application/json",
  form = "application/x-www-form-urlencoded"}

--- Body and its type from json= and form=.
local function body_of(opts, given)
  local body, kind = given, nil
  for name, media in pairs(BODY_TYPES) do
    if opts[name] ~= nil then
      if body ~= nil or kind or opts.body ~= nil then
        errors.raise("usage", "http.request: give one of body, json and form",
          {code = "BAD_OPTION"})
      end
      body = name == "json" and require "json".encode(opts.json) or core.encode(opts.form)
      kind = media
    end
  end
  return body, kind
end

local function with_query(url, query)
  local text = core.encode(query)
  if type(text) ~= "string" then
    errors.raise("usage", "http.request: query: a secret does not belong into a URL",
      {code = "BAD_OPTION"})
  end
  if text == "" then return url end
  local head, tail = url:match("^([^#]*)(.*)$")
  return head .. (head:find("?", 1, true) and "&" or "?") .. text .. tail
end

--- Feed the request's body function until it says nil.
local function push(x, source)
  local chunk = source()
  while chunk == "" do chunk = source() end
  x:write(chunk)
end

local function accepted(opts, status)
  if status < 400 or opts.raise == false then return true end
  for _, one in ipairs(opts.accept_status or {}) do
    if one == status then return true end
  end
  return false
end

--- The beginning of an error page, for the message.
local function excerpt(text, chunk)
  return #text < 2048 and text .. chunk:sub(1, 2048) or text
end

--- An exchange whose bodies go through functions of the caller, which run in this task.
--- The body of a status that raises goes into the error, not to the sink.
local function stream(opts, method, url, body, kind)
  local sink, source, page = opts.sink, body or opts.body, ""
  local file <close> = type(sink) == "table" and core.file(sink.file) or nil
  local x <close> = core.flow(opts, method, url, body, kind)
  local what, chunk = x:wait()
  while what ~= "done" do
    if what == "want" then
      push(x, source)
    elseif not accepted(opts, x:head()) then
      page = excerpt(page, chunk)
    elseif file then
      file:write(chunk)
    else
      sink(chunk)
    end
    what, chunk = x:wait()
  end
  local res = x:response()
  if file and res.status < 400 then file:commit() end
  return res, sink and page
end

local function is_function(value) return type(value) == "function" end

local function once(opts, method, url, body, kind)
  local piecewise = opts.sink ~= nil or is_function(body) or is_function(opts.body)
  local res, page = (piecewise and stream or core.request)(opts, method, url, body, kind)
  if res.status < 400 or accepted(opts, res.status) then return res end
  return core.fail(res, page)
end

local RETRY = {times = 3, base = 1, cap = 30}
local RETRY_SPEC = {{name = "times", type = "integer"},
  {name = "base", type = "duration"}, {name = "cap", type = "duration"}}

local function retry_plan(opts, body)
  local plan = opts.retry
  if math.type(plan) == "integer" then plan = {times = plan} end
  if type(plan) ~= "table" or is_function(body) or is_function(opts.body)
    or is_function(opts.sink) then
    errors.raise("usage", "http.request: retry: expected a number of times or " ..
      "{times =, base =, cap =}, and no function as body or sink", {code = "BAD_OPTION"})
  end
  return require "args".check("http.request: retry", RETRY_SPEC, plan)
end

--- Try again while the error says that it can help. Waits double from base to cap, with
--- jitter; a Retry-After counts unless it is longer than cap, then the error stands.
local function with_retry(opts, method, url, body, kind)
  local plan, seconds = retry_plan(opts, body), require "args".duration
  local wait, cap = seconds(plan.base or RETRY.base), seconds(plan.cap or RETRY.cap)
  for left = plan.times or RETRY.times, 0, -1 do
    local ok, res = pcall(once, opts, method, url, body, kind)
    if ok then return res end
    local err = errors.object(res)
    local asked = err.retry_after
    if left <= 0 or not err.retryable or (asked and asked > cap) then error(err, 0) end
    require "task".sleep(math.max(asked or 0, wait * (0.5 + math.random() / 2)))
    wait = math.min(wait * 2, cap)
  end
end

local NOTHING = {}

local function run(opts, method, url, given)
  opts = opts or NOTHING
  local body, kind = given, nil
  if opts.json ~= nil or opts.form ~= nil then body, kind = body_of(opts, given) end
  if opts.query then url = with_query(url or opts.url or "", opts.query) end
  if opts.retry ~= nil then return with_retry(opts, method, url, body, kind) end
  return once(opts, method, url, body, kind)
end

--- One request. Options, with their defaults:
---
--- `url`, `method` ("GET"), `headers` (name → string, secret or list), `query` (table);
--- one of `body` (string, secret, function() → chunk or nil, {file = path}), `json`
--- (value), `form` (table, may hold secrets); `auth` ({user =, password = secret}) or
--- `bearer` (secret); `user_agent`.
---
--- `timeout` ("30s", everything), `connect_timeout` ("10s"), `max_body` ("16MiB" decoded;
--- none with a sink), `sink` (function(chunk), run in this task, or {file = path}, put in
--- place when all of it is on disk and the status is below 400), `compressed` (true).
---
--- `redirects` (5 for GET and HEAD, else 0: the 3xx is the response). Credentials, secret
--- headers and the client certificate stay with the first origin; https never leads to
--- http.
---
--- `ca` ("system": path, folder, PEM text or a list), `cert`, `key`, `key_password`,
--- `verify` (true), `proxy` (the environment's; false: none), `no_proxy`, `resolve`
--- (["host:port"] = "address"), `http_version` ("1.1" or "2"), `pool` ({total = 64,
--- per_host = 8}), `keep_alive` (true), `no_private_addresses` (false; for URLs that somebody else gave).
---
--- `retry` (times, or {times = 3, base = "1s", cap = "30s"}), `idempotent` (by method: a
--- POST may be sent twice), `raise` (true), `accept_status` (statuses that do not raise).
---
--- Raises usage, denied, dns, connect, tls, timeout, protocol, limit, io; and for a
--- status of 400 or more auth (401, 403), not_found (404, 410), conflict (409, 412),
--- rate_limited (429) or http, with status, retry_after and the beginning of the body.
--- err.retryable says that the same call may succeed and is safe to repeat.
---@param opts table
---@return http.response
function http.request(opts)
  if type(opts) ~= "table" then
    errors.raise("usage", "http.request: expected a table of options, got " .. type(opts),
      {code = "BAD_ARGUMENT"})
  end
  return run(opts)
end

--- Methods without a body: http.get(url, options?) …
for _, method in ipairs{"GET", "HEAD", "DELETE"} do
  ---@param url string
  ---@param opts? table see http.request
  ---@return http.response
  http[method:lower()] = function(url, opts) return run(opts, method, url) end
end

--- Methods with one: http.post(url, body, options?) … body may be nil beside json, form.
for _, method in ipairs{"POST", "PUT", "PATCH"} do
  ---@param url string
  ---@param body? string|userdata|function|table
  ---@param opts? table see http.request
  ---@return http.response
  http[method:lower()] = function(url, body, opts) return run(opts, method, url, body) end
end

-- ---------------------------------------------------------------- clients

local client = {}
client.__index = client
client.__name = "http.client"

local function origin(url) return url:match("^%a+://[^/?#]*"):lower() end

--- The absolute URL of a path. A client with a base never carries its credentials away.
local function resolve(self, url)
  local base = self.defaults.base_url
  if not base then return url end
  local target = core.join(base, url or "")
  if origin(target) ~= origin(base) then
    errors.raise("usage", ("http.client of %s: asked for %s; use http.request for " ..
      "other hosts"):format(origin(base), origin(target)), {code = "BAD_ORIGIN"})
  end
  return target
end

--- Defaults under the options of one call; headers are merged name by name.
local function merge(self, opts)
  local merged, headers = {}, {}
  for k, v in pairs(self.defaults) do merged[k] = v end
  for k, v in pairs(opts or {}) do merged[k] = v end
  merged.base_url = nil
  local own = {}
  for k, v in pairs(opts and opts.headers or {}) do
    headers[k] = v
    own[k:lower()] = true
  end
  for k, v in pairs(self.defaults.headers or {}) do
    if not own[k:lower()] then headers[k] = v end
  end
  if next(headers) then merged.headers = headers end
  return merged
end

--- Any method: client:request{method =, url = path, …}
---@return http.response
function client:request(opts)
  local merged = merge(self, opts)
  return run(merged, merged.method or "GET", resolve(self, merged.url))
end

for _, method in ipairs{"GET", "HEAD", "DELETE"} do
  client[method:lower()] = function(self, url, opts)
    return run(merge(self, opts), method, resolve(self, url))
  end
end

for _, method in ipairs{"POST", "PUT", "PATCH"} do
  client[method:lower()] = function(self, url, body, opts)
    return run(merge(self, opts), method, resolve(self, url), body)
  end
end

--- A client with defaults: every option of http.request, and base_url, against which
--- paths are resolved. Methods as in http: client:get(path, options?) …
---@param defaults table
---@return table
function http.client(defaults)
  local kept = {}
  for k, v in pairs(defaults or {}) do kept[k] = v end
  local base = kept.base_url
  kept.base_url = nil
  core.check(kept)
  if base then kept.base_url = core.join(base, "") end
  return setmetatable({defaults = kept}, client)
end

--- Percent-encode everything but the unreserved characters of RFC 3986.
---@param text string
---@return string
function http.escape(text) return require "encoding".percent_encode(text) end
--- Resolve a reference against an absolute URL, RFC 3986 5. Raises usage, protocol.
http.join = core.join

--- Close the connections that are kept for requests to come.
http.close_idle = core.close_idle

--- Serve HTTP; see http_server.
function http.serve(...) return require "http_server".serve(...) end

return http
