#!/bin/sh
# The longer counts, each bounded in time; ends with "N passed, N failed".
#   tests/soak/run.sh [SEEDS]   first and last seed of the stress are 2001 and 2000 + SEEDS
cd "$(dirname "$0")/../.." || exit 1
secrun="${BUILD:-build}/secrun"
seeds=${1:-50000}
passed=0 failed=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# soak NAME SECONDS SCRIPT ARG…
soak() {
  name=$1 limit=$2 start=$(date +%s)
  shift 2
  if timeout -k 5 "$limit" "$secrun" --log-level=error "$@" >"$log" 2>&1 </dev/null; then
    passed=$((passed + 1)) verdict=ok
  else
    failed=$((failed + 1)) verdict="not ok (exit status $?)"
    tail -n 40 "$log"
  fi
  echo "$verdict $name: $(tail -n 1 "$log"), $(($(date +%s) - start)) s of $limit"
}

soak "random trees of tasks" 300 tests/soak/stress.lua 2001 $((2000 + seeds))
soak "a million timers" 120 tests/soak/timers.lua 1000000
soak "100,000 tasks at once" 120 tests/soak/tasks.lua 100000
soak "300 flows under SIGKILL and SIGSTOP" 240 tests/soak/flows.lua 300
soak "160 writers of one store killed" 300 tests/soak/store.lua 20
soak "1,000 names in 20 zones by dns-01" 180 tests/soak/dns01.lua 1000
soak "100,000 certificates of a sandbox" 240 tests/soak/sandbox.lua 100000
soak "500 certificates from Pebble" 240 tests/soak/issue.lua 500

echo
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
