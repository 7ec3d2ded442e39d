#!/bin/sh
# Run every fuzz target for a while, two at once, and say which broke a property.
#   tests/fuzz/run.sh BUILD SECONDS      the input that broke one stays in BUILD/crashes
set -u
build=$1 seconds=$2
mkdir -p "$build/crashes"
crashes=$(cd "$build/crashes" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export ASAN_OPTIONS=detect_leaks=1

one() {
  name=$(basename "$1")
  mkdir -p "$work/$name.corpus"
  if timeout -k 5 $((seconds * 2 + 60)) "$1" -max_total_time="$seconds" -rss_limit_mb=1024 \
    -timeout=20 -print_final_stats=1 -artifact_prefix="$crashes/$name-" \
    "$work/$name.corpus" >"$work/$name.log" 2>&1; then
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$work/$name.log")
    echo "ok $name: $runs inputs"
    : >"$work/$name.ok"
  else
    echo "not ok $name"
    tail -n 40 "$work/$name.log"
  fi
}

started=0
for target in "$build"/*_fuzz; do
  one "$target" &
  started=$((started + 1))
  [ $((started % 2)) = 0 ] && wait
done
wait
passed=$(find "$work" -name '*.ok' | wc -l)
echo
echo "$passed passed, $((started - passed)) failed"
[ "$started" -gt 0 ] && [ "$passed" = "$started" ]
