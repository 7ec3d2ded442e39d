#!/bin/sh
# 100,000 certificates listed from SCM, on recorded bytes from another process, beside the
# same loop in Python. The best of each counts: a machine that does other things only slows
# down.      tests/bench/scm_list.sh [ROUNDS] [CERTIFICATES]
# Targets: at most 30 us of our CPU a certificate, 150 MB RSS and flat, and the loop never
# blocked for more than 10 ms.
cd "$(dirname "$0")/../.." || exit 1
rounds=${1:-3} count=${2:-100000} build=${BUILD:-build}
[ -x "$build/scm_replay" ] ||
  { cmake -S . -B "$build" >/dev/null && make -s -C "$build" secrun bench_programs; } || exit 1
work=$(mktemp -d)
mkfifo "$work/in"
"$build/scm_replay" "$count" <"$work/in" >"$work/port" &
exec 3>"$work/in"
trap 'exec 3>&-; wait; rm -rf "$work"' EXIT
while [ ! -s "$work/port" ]; do sleep 0.05; done
port=$(cat "$work/port")
cat >"$work/plain.py" <<'PY'
import http.client, json, sys, time
conn = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
began, count, total = time.process_time(), 0, 1
while count < total:
    conn.request("GET", "/api/ssl/v1?status=Issued&size=200&position=%d" % count)
    answer = conn.getresponse()
    total = int(answer.headers["X-Total-Count"])
    for cert in json.loads(answer.read()):
        count += 1
        assert cert["commonName"]
print("%.2f" % ((time.process_time() - began) * 1e6 / count))
PY
for _ in $(seq "$rounds"); do
  python=$(timeout 120 python3 "$work/plain.py" "$port") || exit 1
  ours=$(timeout 120 "$build/secrun" tests/bench/scm_list.lua "http://127.0.0.1:$port") || exit 1
  echo "$ours $python"
done >"$work/rounds"
awk -v want="$count" '
  NR == 1 || $2 < cpu { cpu = $2 }
  NR == 1 || $4 < late { early = $3; late = $4 }
  NR == 1 || $5 < block { block = $5 }
  NR == 1 || $6 < python { python = $6 }
  $1 != want { wrong = 1 }
  END {
    printf "%d certificates listed, best of %d: %.1f us of CPU each (python %.1f, ratio %.2f), ", \
      want, NR, cpu, python, cpu / python
    printf "RSS %.1f MB, %.1f MB after the first 10,000; loop blocked %.1f ms at most ", \
      late / 1024, early / 1024, block
    print "(targets 30 us, 150 MB, 10 ms)"
    exit wrong || cpu > 30 || late > 150 * 1024 || late > early * 1.2 || block > 10
  }' "$work/rounds"
