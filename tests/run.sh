#!/bin/sh
# Every test, in parts; each part ends with its own "N passed, N failed", and the last line
# is their sum. SR_ONLY=part limits to one part: static unit lua integration asan.
cd "$(dirname "$0")/.." || exit 1
export ASAN_OPTIONS=detect_leaks=1:abort_on_error=0 UBSAN_OPTIONS=print_stacktrace=1
export LSAN_OPTIONS=suppressions=tests/lsan.supp:print_suppressions=0
passed=0 failed=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# part NAME SECONDS COMMAND…: run it, keep its counts; no closing line counts as a failure.
part() {
  name=$1 limit=$2
  shift 2
  [ -z "$SR_ONLY" ] || [ "$SR_ONLY" = "${name%% *}" ] || return 0
  echo "== $name"
  start=$(date +%s)
  timeout -k 5 "$limit" "$@" >"$log" 2>&1
  status=$?
  counts=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$log" | tail -n 1)
  p=$(echo "$counts" | cut -d' ' -f1) f=$(echo "$counts" | cut -d' ' -f3)
  if [ -z "$counts" ]; then p=0 f=1; fi
  if [ $status -ne 0 ] && [ "$f" = 0 ]; then f=1; fi
  if [ "$f" != 0 ]; then cat "$log"; echo "   exit status $status"; fi
  passed=$((passed + p)) failed=$((failed + f))
  echo "   $p passed, $f failed ($(($(date +%s) - start)) s)"
}

static() {
  good=0 bad=0
  for check in layers clock words lua; do
    if tests/static/$check.sh; then good=$((good + 1)); else bad=$((bad + 1)); fi
  done
  echo "$good passed, $bad failed"
}

[ "$1" = static ] && { static; exit; }
part static 60 "$0" static
part unit 120 build/unit_tests
part lua 300 build/secrun test tests/lua
part integration 600 build/secrun test tests/integration
part "asan unit" 200 build-asan/unit_tests
part "asan lua" 600 build-asan/secrun test tests/lua

echo
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
