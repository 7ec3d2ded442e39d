#!/bin/sh
# Memory of 10,000 parked tasks, beside 10,000 suspended coroutines of the lua5.4 program.
# Targets: at most 25 MB in all, at most 1.5 KB a task.
cd "$(dirname "$0")/../.." || exit 1
n=${1:-10000} build=${BUILD:-build}
cat >"${TMPDIR:-/tmp}/parked.$$" <<'LUA'
local n = tonumber(arg[1])
local function rss()
  for line in io.lines("/proc/self/status") do
    local kb = line:match("VmRSS:%s+(%d+)")
    if kb then return tonumber(kb) end
  end
end
local keep = {}
collectgarbage()
local before = rss()
if arg[2] == "tasks" then
  local task = require "task"
  local started = require("time").cpu()
  local group <close> = task.group()
  for _ = 1, n do group:spawn(task.sleep, 1000) end
  task.sleep(0)
  keep.spent = require("time").cpu() - started
  collectgarbage()
  print(before, rss(), keep.spent * 1e6 / n)
  group:cancel()
else
  local started = os.clock()
  for i = 1, n do
    local co = coroutine.create(function() coroutine.yield() end)
    coroutine.resume(co)
    keep[i] = co
  end
  local spent = os.clock() - started
  collectgarbage()
  print(before, rss(), spent * 1e6 / n)
end
LUA
ours=$("$build/secrun" - "$n" tasks <"${TMPDIR:-/tmp}/parked.$$")
plain=$(lua5.4 - "$n" coroutines <"${TMPDIR:-/tmp}/parked.$$")
rm -f "${TMPDIR:-/tmp}/parked.$$"
echo "$ours $plain" | awk -v n="$n" '{
  mine = ($2 - $1) * 1024 / n; theirs = ($5 - $4) * 1024 / n
  printf "%d parked tasks: secrun %.1f MB in all, %.0f B and %.2f us a task; ", n, $2 / 1024, mine, $3
  printf "bare coroutines %.0f B and %.2f us; ratio of memory %.2f (targets 25 MB, 1536 B)\n", \
    theirs, $6, mine / theirs
  exit $2 / 1024 > 25 || mine > 1536
}'
