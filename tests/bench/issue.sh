#!/bin/sh
# One certificate in a cold process beside uacme: see issue.lua.  issue.sh [ROUNDS]
cd "$(dirname "$0")/../.." || exit 1
exec "${BUILD:-build}/secrun" tests/bench/issue.lua "$@"
