#!/bin/sh
# make demo: one renewal from end to end, on this machine only.
cd "$(dirname "$0")/../.." || exit 1
exec timeout -k 5 60 build/secrun tests/demo/demo.lua
