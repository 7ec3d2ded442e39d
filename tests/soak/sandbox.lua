--- COUNT certificates of a sandbox in another process, listed page by page, filtered and
--- reported; its memory stays bounded.  sandbox.lua COUNT

local fs = require "fs"
local http = require "http"
local process = require "process"

local count = tonumber(arg[1])
local child <close> = process.spawn{argv = {require("load").paths().program, "sandbox",
  "--certs", arg[1]}}
local url, ca
repeat
  local line = assert(child:read_line "20s", "the sandbox did not start")
  url = url or line:match "SCM%s+(https://%S+)"
  ca = line:match "TLS CA%s+(%S+)" or ca
until url and ca
local api = http.client{base_url = url, ca = fs.read(ca), headers = {login = "api",
  password = "api-password", customerUri = "sandbox"}}

local function peak()
  return tonumber(fs.read(("/proc/%d/status"):format(child.pid)):match "VmHWM:%s+(%d+)")
end

local function list(query)
  local n, last = 0, 0
  repeat
    local page = api:get(("/api/ssl/v1?size=200&position=%d%s"):format(n, query)):json()
    for _, row in ipairs(page) do
      assert(row.sslId > last, "out of order")
      last = row.sslId
    end
    n = n + #page
  until #page < 200
  return n
end

assert(list "" == count, "some were not listed")
local sum = 0
for _, status in ipairs{"Issued", "Expired", "Revoked", "Requested", "Declined"} do
  sum = sum + list("&status=" .. status)
end
assert(sum == count, ("the states have %d of %d"):format(sum, count))
local rows, tail = 0, ""
api:post("/api/report/v1/ssl-certificates", nil, {json = {certificateStatus = 0},
  timeout = "5m", sink = function(chunk)
    local text = tail .. chunk
    local _, found = text:gsub('"organizationName"', "")
    rows, tail = rows + found, text:sub(-17) -- one byte short of the word
  end})
assert(rows == count, ("the report has %d of %d"):format(rows, count))
local kb = peak()
assert(kb < 60 * 1024, ("the sandbox took %d KB"):format(kb))
print(("%d certificates listed, filtered and reported; %d MB at most"):format(count,
  kb // 1024))
