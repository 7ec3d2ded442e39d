#!/bin/sh
# Durable steps on SQLite: the same transactions as db:batch from one task and from 64, and
# in plain C. Targets: one task 0.7 x plain C, 64 tasks 10 x one.
cd "$(dirname "$0")/../.." || exit 1
n=${1:-2000} build=${BUILD:-build}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The best of five, the sides in turn, each in a file of its own: the machine is noisy.
best() { sort -rn | head -n 1; }
for i in 1 2 3 4 5; do
  "$build/store_plain" "$work/p$i.db" "$n" >>"$work/plain"
  "$build/secrun" tests/bench/store.lua "$work/o$i.db" 1 "$n" >>"$work/one"
  "$build/secrun" tests/bench/store.lua "$work/m$i.db" 64 $((n * 10)) >>"$work/many"
done
echo "$(best <"$work/plain") $(best <"$work/one") $(best <"$work/many")" | awk '{
  printf "durable steps a second: plain C %.0f, one task %.0f, ratio %.2f (target 0.7); ", $1, $2, $2 / $1
  printf "64 tasks %.0f, ratio %.1f (target 10)\n", $3, $3 / $2
  exit !($1 > 0 && $2 > 0 && $3 > 0) || $2 / $1 < 0.7 || $3 / $2 < 10
}'
