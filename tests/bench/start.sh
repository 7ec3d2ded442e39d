#!/bin/sh
# Start of `secrun -e ''` beside `curl --version`, in turns, as medians of wall time.
# Target: at most 1.2 times.
cd "$(dirname "$0")/../.." || exit 1
build=${BUILD:-build}
exec "$build/secrun" tests/bench/start.lua "$PWD/$build/secrun" "${1:-60}"
