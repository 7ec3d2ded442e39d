#!/bin/sh
# Many certificates in one process beside uacme: see bulk.lua.  bulk.sh [COUNT] [LIMIT]
cd "$(dirname "$0")/../.." || exit 1
exec "${BUILD:-build}/secrun" tests/bench/bulk.lua "$@"
