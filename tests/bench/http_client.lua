--- The measured side of the HTTP benchmark: secrun http_client.lua URL REQUESTS CONCURRENCY
local http = require "http"
local task = require "task"
local time = require "time"

local url, total, concurrency = arg[1], tonumber(arg[2]), tonumber(arg[3])
local options = {pool = {total = concurrency, per_host = concurrency}}
local left = total

local function slot()
  while left > 0 do
    left = left - 1
    local res = http.get(url, options)
    assert(res.status == 200 and #res.body == 120)
  end
end

local began = time.mono()
do
  local g <close> = task.group()
  for _ = 1, concurrency do g:spawn(slot) end
end
print(("%.0f"):format(total / (time.mono() - began)))
