#!/bin/sh
# One policy decision in a fresh cage, from text to verdict, beside the same rule file in a
# bare lua_State without limits. Targets: 60 us for one rule file, 400 us for nine.
cd "$(dirname "$0")/../.." || exit 1
n=${1:-5000} build=${BUILD:-build}
rule=policies/keys.lua

# The best of five, the two sides in turn: the machine is noisy.
best() { sort -n | head -n 1; }
mine=$(mktemp) theirs=$(mktemp) nine=$(mktemp)
trap 'rm -f "$mine" "$theirs" "$nine"' EXIT
for _ in 1 2 3 4 5; do
  "$build/secrun" tests/bench/policy_cage.lua "$n" $rule >>"$mine"
  "$build/policy_plain" $rule "$n" >>"$theirs"
  "$build/secrun" tests/bench/policy_cage.lua $((n / 9)) policies/names.lua $rule $rule \
    $rule $rule $rule $rule $rule $rule >>"$nine"
done
echo "$(best <"$mine") $(best <"$theirs") $(best <"$nine")" | awk '{
  printf "policy decision: cage %.1f us, bare state %.1f us, ratio %.2f (target 60 us); ", $1, $2, $1 / $2
  printf "org policy and 8 rules %.0f us (target 400 us)\n", $3
  exit !($1 > 0 && $2 > 0 && $3 > 0) || $1 > 60 || $3 > 400
}'
