#!/bin/sh
# HTTP requests from Lua over loopback beside the same loop in plain C on libcurl and libuv:
# the same server, the same number of requests and connections, both sides in turn; the
# best round of each counts, since a machine that does other things only slows down.
#     tests/bench/http.sh [ROUNDS] [REQUESTS] [CONCURRENCY]
# Target: at least 0.75 of plain C. Exit status 1 below that.
cd "$(dirname "$0")/../.." || exit 1
rounds=${1:-5} requests=${2:-20000} concurrency=${3:-8} build=${BUILD:-build}
[ -x "$build/http_plain" ] && [ -x "$build/http_target" ] ||
  { cmake -S . -B "$build" >/dev/null && make -s -C "$build" secrun bench_programs; } || exit 1
work=$(mktemp -d)
mkfifo "$work/in"
"$build/http_target" <"$work/in" >"$work/port" &
exec 3>"$work/in"
trap 'exec 3>&-; wait; rm -rf "$work"' EXIT
while [ ! -s "$work/port" ]; do sleep 0.05; done
url="http://127.0.0.1:$(cat "$work/port")/acme/order/1"
for _ in $(seq "$rounds"); do
  plain=$(timeout 120 "$build/http_plain" "$url" "$requests" "$concurrency") || exit 1
  ours=$(timeout 120 "$build/secrun" tests/bench/http_client.lua "$url" "$requests" "$concurrency") ||
    exit 1
  echo "$plain $ours"
  echo "   plain C $plain/s   secrun $ours/s" >&2
done >"$work/rounds"
awk -v c="$concurrency" '
  $1 > plain { plain = $1 }
  $2 > ours { ours = $2 }
  END {
    printf "http requests, %d at once, best of %d: plain C %d/s, secrun %d/s, ratio %.2f " \
      "(target 0.75)\n", c, NR, plain, ours, ours / plain
    exit ours / plain < 0.75
  }' "$work/rounds"
