#!/bin/sh
# luacheck over every Lua file of ours.
cd "$(dirname "$0")/../.." || exit 1
exec luacheck --quiet --no-color runtime bindings scripts policies tests
