#!/bin/sh
# cppcheck, clang-tidy, luacheck and clang-format; each prints its own findings.
cd "$(dirname "$0")/../.." || exit 1
status=0
echo "cppcheck" # __GNUC__: else it takes sr_raise for a function that returns
cppcheck --quiet --std=c11 --inline-suppr --error-exitcode=1 --max-ctu-depth=2 -j "$(nproc)" \
  --enable=warning,performance,portability --suppress=missingIncludeSystem \
  --suppress=preprocessorErrorDirective -D_GNU_SOURCE -D__GNUC__=12 -DSR_VERSION='""' \
  -DSR_SOURCE_DIR='""' -DSR_BINARY_DIR='""' -DSR_SHARE_DIR='""' -Iruntime -Ibindings \
  -Itests/unit runtime bindings tests || status=1
echo "clang-tidy"
find runtime bindings tests -name '*.c' -print0 |
  xargs -0 -n 1 -P "$(nproc)" clang-tidy --quiet -p build 2>/dev/null || status=1
echo "luacheck"
tests/static/lua.sh || status=1
echo "clang-format"
tests/static/format.sh || status=1
exit $status
