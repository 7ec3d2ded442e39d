#!/bin/sh
# Our sources ask for the time in one place only, runtime/clock.c; everything else uses
# sr_now, sr_mono or sr_cpu, so that a virtual clock holds everywhere.
cd "$(dirname "$0")/../.." || exit 1
if grep -nE '\b(time\(NULL\)|time\(0\)|gettimeofday|clock_gettime|uv_now|uv_hrtime|X509_cmp_current_time|X509_gmtime_adj|X509_time_adj|X509_CRL_set_default_time)\b' \
  runtime/*.c bindings/*.c bindings/*/*.c | grep -v '^runtime/clock\.c:'; then
  echo "another source of time than runtime/clock.c"
  exit 1
fi
