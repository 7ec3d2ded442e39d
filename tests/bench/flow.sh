#!/bin/sh
# Durable flows on SQLite: the steps of one flow beside the same commits in plain C, those of
# 64 flows beside one, and how long after kill -9 another worker has ended the flow.
# Targets: 0.7 x, 10 x, one second.
cd "$(dirname "$0")/../.." || exit 1
n=${1:-400} build=${BUILD:-build}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The best of five, the sides in turn, each in a file of its own: the machine is noisy.
best() { sort -rn | head -n 1; }
for i in 1 2 3 4 5; do
  "$build/store_plain" "$work/p$i.db" "$n" >>"$work/plain"
  "$build/secrun" tests/bench/flow.lua steps "$work/o$i" 1 "$n" >>"$work/one"
  "$build/secrun" tests/bench/flow.lua steps "$work/m$i" 64 $((n / 8)) >>"$work/many"
  "$build/secrun" tests/bench/flow.lua recover "$work/r$i" >>"$work/recover"
done
echo "$(best <"$work/plain") $(best <"$work/one") $(best <"$work/many")" \
  "$(sort -n <"$work/recover" | sed -n 3p)" | awk '{
  printf "steps a second: plain C %.0f, one flow %.0f, ratio %.2f (target 0.7); ", $1, $2, $2 / $1
  printf "64 flows %.0f, ratio %.1f (target 10)\n", $3, $3 / $2
  printf "kill -9 to the end elsewhere: %.0f ms (target 1000)\n", $4
  exit !($1 > 0 && $2 > 0 && $3 > 0 && $4 > 0) || $2 / $1 < 0.7 || $3 / $2 < 10 || $4 > 1000
}'
