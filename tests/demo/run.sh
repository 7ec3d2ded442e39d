#!/bin/sh
# make demo: renewals from end to end by ACME and SCM, on this machine only.
cd "$(dirname "$0")/../.." || exit 1
exec timeout -k 5 60 build/secrun tests/demo/demo.lua
