--- What goes wrong on request: answers that fail, come late, are cut short or never come.
--
--     faults:add{path = "/api/ssl/v1/enroll", lose = true}           -- once
--     faults:add{method = "GET", status = 429, retry_after = 5, times = 3}
--     faults:add{path = "/api/ssl/*/collect/*", status = 502, html = true, skip = 2}
--
-- A fault waits for requests that fit its method and path ("*" stands for anything), lets
-- `skip` of them pass, and serves `times` of them (1).

local args = require "args"
local errors = require "errors"
local task = require "task"

local sandbox_faults = {}
local Faults = {}
Faults.__index = Faults

local FAULT = {
  {name = "method", type = "string", doc = "any"},
  {name = "path", type = "string", doc = "any; * stands for anything"},
  {name = "times", type = "integer", positive = true, doc = "1"},
  {name = "skip", type = "integer", doc = "requests let pass before, 0"},
  {name = "status", type = "integer", doc = "answer so, without doing the work"},
  {name = "retry_after", type = "any", doc = "header Retry-After of that answer"},
  {name = "html", type = "boolean", doc = "that answer is a proxy's page"},
  {name = "empty", type = "boolean", doc = "that answer has no body"},
  {name = "body", type = "string", doc = "body of that answer"},
  {name = "headers", type = "table", doc = "more headers of that answer"},
  {name = "slow", type = "duration", doc = "wait before the work"},
  {name = "truncate", type = "boolean", doc = "cut the answer in the middle"},
  {name = "lose", type = "boolean", doc = "do the work, then close without an answer"},
  {name = "drop", type = "boolean", doc = "close at once, the work is not done"},
  {name = "raw", type = "string", doc = "these bytes instead of an answer in HTTP"},
}

---@return table faults
function sandbox_faults.new() return setmetatable({list = {}}, Faults) end

local function pattern_of(glob)
  return "^" .. glob:gsub("[%^%$%(%)%%%.%[%]%+%-%?]", "%%%0"):gsub("%*", ".*") .. "$"
end

--- Arm a fault. Raises usage for one that does nothing.
---@param fault table see FAULT
function Faults:add(fault)
  fault = args.check("sandbox fault", FAULT, fault)
  local kinds = 0
  for _, key in ipairs{"status", "slow", "truncate", "lose", "drop", "raw"} do
    if fault[key] then kinds = kinds + 1 end
  end
  if kinds == 0 then
    errors.raise("usage",
      "sandbox fault: one of status, slow, truncate, lose, drop and raw is "
      .. "needed")
  end
  local armed = {left = fault.times or 1, skip = fault.skip or 0,
    pattern = fault.path and pattern_of(fault.path)}
  self.list[#self.list + 1] = setmetatable(armed, {__index = fault})
end

--- Forget all faults that wait.
function Faults:clear() self.list = {} end

local function fits(fault, method, path)
  return (not fault.method or fault.method:upper() == method)
    and (not fault.pattern or path:find(fault.pattern) ~= nil)
end

--- The fault that this request meets, or nil.
---@param method string
---@param path string
function Faults:take(method, path)
  for i, fault in ipairs(self.list) do
    if fits(fault, method, path) then
      if fault.skip > 0 then
        fault.skip = fault.skip - 1
      else
        fault.left = fault.left - 1
        if fault.left == 0 then table.remove(self.list, i) end
        return fault
      end
    end
  end
end

local PAGE = "<html>\r\n<head><title>%d %s</title></head>\r\n<body>\r\n<center><h1>%d %s"
  .. "</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"

local REASONS = {[429] = "Too Many Requests", [500] = "Internal Server Error",
  [502] = "Bad Gateway", [503] = "Service Temporarily Unavailable",
  [504] = "Gateway Time-out"}

local function answer(fault)
  local headers, reason = {}, REASONS[fault.status] or "Error"
  for name, value in pairs(fault.headers or {}) do headers[name] = value end
  if fault.retry_after then headers["Retry-After"] = tostring(fault.retry_after) end
  local body = fault.body
  if fault.html then
    headers["Content-Type"] = "text/html"
    body = PAGE:format(fault.status, reason, fault.status, reason)
  elseif not body and not fault.empty then
    headers["Content-Type"] = "application/json;charset=UTF-8"
    body = ('{"code":-1,"description":"%s"}'):format(reason)
  end
  return {status = fault.status, headers = headers, body = body or ""}
end

local function cut_body(response, req)
  local body, first = response.body or "", true
  return {status = response.status, headers = response.headers, body = function()
    if not first then return req:drop() end
    first = false
    return type(body) == "function" and body() or body:sub(1, #body // 2)
  end}
end

--- Serve a request through a fault: do_work() gives the regular response. nil: the answer is
--- lost, and the connection is to be closed; after these bytes, if there are any.
---@param fault table
---@param req table
---@param do_work fun(): table
---@return table? response
---@return string? bytes
function sandbox_faults.serve(fault, req, do_work)
  if fault.slow then task.sleep(args.duration(fault.slow)) end
  if fault.drop then return nil end
  if fault.raw then return nil, fault.raw end
  if fault.status then return answer(fault) end
  local response = do_work()
  if fault.lose then return nil end
  return fault.truncate and cut_body(response, req) or response
end

return sandbox_faults
