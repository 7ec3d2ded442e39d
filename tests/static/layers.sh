#!/bin/sh
# Direction of knowledge: scripts, policies → Lua layer → bindings → runtime → Lua, libuv.
# Prints each include or require against it; exit status 1 if there is one.
cd "$(dirname "$0")/../.." || exit 1
found=$(mktemp)
trap 'rm -f "$found"' EXIT

# runtime includes nothing of bindings
for dir in bindings/*/; do
  name=$(basename "$dir")
  grep -nE "#include \"(bindings/)?$name/" runtime/*.[ch]
  for header in "$dir"*.h; do
    [ -e "$header" ] && grep -nF "#include \"$(basename "$header")\"" runtime/*.[ch]
  done
done >>"$found"

# a binding sees the contract only, not the inside of the runtime
for header in runtime/*.h; do
  case $(basename "$header") in secrun.h | base.h | compat.h | cage.h) continue ;; esac
  grep -nF "#include \"$(basename "$header")\"" bindings/*.c bindings/*/*.[ch]
done >>"$found"

# pure code knows neither Lua nor the loop
for file in bindings/*/*_msg.[ch] bindings/*/jose.[ch] bindings/data/encoding.[ch]; do
  [ -e "$file" ] && grep -nHE '#include ("secrun\.h"|[<"](lua|lauxlib|uv)\.h)' "$file"
done >>"$found"

# nothing includes a .c; the runtime's Lua requires no binding
grep -nE '#include ".*\.c"' runtime/*.[ch] bindings/*.c bindings/*/*.[ch] >>"$found"
own=$(for f in runtime/lua/*.lua; do basename "$f" .lua; done; echo errors args time log load \
  task.core progress cage inspect repl string table math os io coroutine debug utf8 package)
for name in $(grep -ohE "require ?\(? ?[\"'][a-z0-9_.]+" runtime/lua/*.lua |
  sed -E "s/.*[\"']//" | sort -u); do
  echo "$own" | tr ' ' '\n' | grep -qx "${name%.core}" || echo "$own" | tr ' ' '\n' |
    grep -qx "$name" || grep -nE "require ?\(?[\"']$name" runtime/lua/*.lua
done >>"$found"

# Lua layers name no script and no driver
grep -nE "require ?\(? ?[\"'](scripts|policies)[./]" bindings/*/*.lua runtime/lua/*.lua >>"$found"

if [ -s "$found" ]; then
  echo "against the direction of knowledge:"
  cat "$found"
  exit 1
fi
