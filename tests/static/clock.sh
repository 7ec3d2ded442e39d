#!/bin/sh
# Our sources ask for the time in one place only, runtime/clock.c; everything else uses
# sr_now, sr_mono or sr_cpu, so that a virtual clock holds everywhere. NULL for an instant
# means "now" to OpenSSL, and so does a verification that was given none.
cd "$(dirname "$0")/../.." || exit 1
sources=$(find runtime bindings -name '*.[ch]' ! -path runtime/clock.c)
status=0

# shellcheck disable=SC2086
if grep -nE '(^|[^A-Za-z0-9_.>])(time|clock|clock_gettime|gettimeofday|timespec_get|ftime|times|getrusage|uv_now|uv_hrtime|uv_gettimeofday|uv_clock_gettime|uv_getrusage|uv_uptime|X509_cmp_current_time|X509_gmtime_adj|X509_time_adj|X509_time_adj_ex|X509_CRL_set_default_time|OCSP_check_validity) *\(' \
  $sources | grep -vE ':[0-9]+: *(/?\*|//)' ||
  grep -nE '(X509_cmp_time|X509_cmp_timeframe|ASN1_TIME_diff|ASN1_TIME_normalize)\(.*NULL' $sources; then
  echo "another source of time than runtime/clock.c"
  status=1
fi
for file in $(grep -lE '(X509_verify_cert|SSL_CTX_set_verify) *\(' $sources); do
  grep -qE 'X509_VERIFY_PARAM_set_time|X509_STORE_CTX_set_time' "$file" && continue
  echo "$file: verifies at the machine's time; set it with X509_VERIFY_PARAM_set_time"
  status=1
done
exit $status
