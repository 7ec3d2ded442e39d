#!/bin/sh
# Every test, in parts that run at once (most wait rather than work); each part ends with
# its own "N passed, N failed", and the last line is their sum.
#   tests/run.sh [PART…]   parts: static unit asan-unit lua asan-lua integration valgrind
cd "$(dirname "$0")/.." || exit 1
export ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1

static() {
  good=0 bad=0
  for check in layers clock words lua format; do
    if tests/static/$check.sh; then good=$((good + 1)); else bad=$((bad + 1)); fi
  done
  echo "$good passed, $bad failed"
}

# The task machinery under valgrind: no error, no block that is surely lost.
memcheck() {
  valgrind -q --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite \
    build/secrun test tests/lua/task_test.lua tests/lua/idioms_test.lua
}

command_of() {
  case $1 in
  static) echo "$0 --part static" ;;
  unit) echo "build/unit_tests" ;;
  asan-unit) echo "build-asan/unit_tests" ;;
  lua) echo "build/secrun test tests/lua" ;;
  asan-lua) echo "build-asan/secrun test tests/lua" ;;
  integration) echo "build/secrun test tests/integration" ;;
  valgrind) echo "$0 --part memcheck" ;;
  *) echo "there is no part $1" >&2; exit 2 ;;
  esac
}

# A test server that is missing fails the run; nothing is skipped.
for tool in pebble pebble-challtestsrv openssl curl tmux luacheck clang-format valgrind \
  knotd kdig knsupdate named; do
  command -v $tool >/dev/null || { echo "$tool is missing; run make test"; exit 1; }
done
[ "$1" = --part ] && { "$2"; exit; }

parts=${*:-static unit asan-unit valgrind integration lua asan-lua}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for part in $parts; do
  command=$(command_of "$part") || exit 2
  (
    start=$(date +%s)
    # shellcheck disable=SC2086
    timeout -k 5 900 $command >"$work/$part" 2>&1 </dev/null
    echo $? >"$work/$part.status"
    echo $(($(date +%s) - start)) >"$work/$part.seconds"
  ) &
done
wait

passed=0 failed=0
for part in $parts; do
  status=$(cat "$work/$part.status")
  counts=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$work/$part" | tail -n 1)
  p=$(echo "$counts" | cut -d' ' -f1) f=$(echo "$counts" | cut -d' ' -f3)
  [ -n "$counts" ] || p=0 f=1
  [ "$status" = 0 ] || [ "$f" != 0 ] || f=1
  if [ "$f" != 0 ]; then
    echo "== $part, exit status $status"
    cat "$work/$part"
  fi
  printf '%-12s %5d passed, %d failed, %d s\n' "$part" "$p" "$f" "$(cat "$work/$part.seconds")"
  passed=$((passed + p)) failed=$((failed + f))
done

echo
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
