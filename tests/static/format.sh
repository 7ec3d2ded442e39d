#!/bin/sh
# Every C file of ours is as clang-format would write it; mend with
#   clang-format -i FILE…
cd "$(dirname "$0")/../.." || exit 1
find runtime bindings tests -name '*.[ch]' -exec clang-format --dry-run -Werror {} +
