--- The measured side of the SCM list benchmark: secrun scm_list.lua URL
-- Prints: entries, µs of our CPU an entry, RSS in KB after a tenth and at the end, and the
-- longest time in ms of our CPU between two turns of the loop.
local scm = require "scm"
local task = require "task"

local c = scm.connect{url = arg[1], customer_uri = "bench", login = "bench",
  password = "bench-password"}

local function rss()
  for line in io.lines "/proc/self/status" do
    local kb = line:match "VmRSS:%s+(%d+)"
    if kb then return tonumber(kb) end
  end
end

--- What the loop cannot do anything else during, whatever else the machine does.
local longest = 0
local ticker = task.daemon(function()
  local before = os.clock()
  while true do
    task.sleep(0)
    local now = os.clock()
    longest, before = math.max(longest, now - before), now
    task.sleep "2ms"
  end
end)

local count, early, sum, previous = 0, nil, 0, 0
local began = os.clock()
for cert in c.ssl:list{status = "Issued"} do
  count = count + 1
  sum = sum + #cert.commonName
  assert(cert.sslId > previous, "out of order")
  previous = cert.sslId
  if count == 10000 then early = rss() end
end
local spent = os.clock() - began
local late = rss()
ticker:cancel()
pcall(ticker.join, ticker)
assert(sum > 0)
print(count, ("%.2f"):format(spent * 1e6 / count), early or late, late,
  ("%.2f"):format(longest * 1e3))
