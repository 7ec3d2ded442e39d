#!/bin/sh
# Every number of ours beside its reference, one after the other. A number that misses its
# target makes the exit status 1; machines are noisy, so look at the ratio twice.
cd "$(dirname "$0")/../.." || exit 1
status=0
for bench in start parked http policy store flow scm_list issue bulk; do
  [ -x tests/bench/$bench.sh ] || continue
  echo "== $bench"
  timeout -k 5 600 tests/bench/$bench.sh || status=1
done
exit $status
