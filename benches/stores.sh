#!/usr/bin/env bash
# Metrics into Redis or Postgres beside the server's own client, in alternating runs. Prints rows per second of wall time, for
# the servers are what limits them, and the ratio.
#
#   redis     beside `redis-benchmark -P 512 -c 1` with the same script and arguments of the same length
#   postgres  beside `psql \copy` of the same rows into an empty table of the same shape and indexes
#
#   scripts/bench redis|postgres [ROUNDS [ROWS]]   # starts a server of its own unless EVT_REDIS or EVT_POSTGRES names one
set -euo pipefail
store=$1 rounds=${2:-5} rows=${3:-400000}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [[ -z ${EVT_BENCH_BUILT:-} ]]; then cargo build --release --quiet --bins; fi
PATH=$(realpath "${CARGO_TARGET_DIR:-target}")/release:$PATH
unset EVT_DLQ

# Rows per second of a command that writes all of them.
rate() {
    local began=$EPOCHREALTIME
    "$@" >"$work/said" 2>&1 || { cat "$work/said" >&2; exit 1; }
    awk -v began="$began" -v now="$EPOCHREALTIME" -v rows="$rows" 'BEGIN { printf "%.0f\n", rows / (now - began) }'
}

# One event for each row: a thousand series, window by window.
python3 - "$rows" <<'PY' >"$work/events.jsonl"
import sys
from datetime import datetime, timedelta
for row in range(int(sys.argv[1])):
    window, series = divmod(row, 1000)
    start = datetime(2026, 1, 1) + timedelta(minutes=window)
    print('{"event_type":"t","server_timestamp":"%sZ","properties":{"page":"/shop/%04d","country":"DE"}}'
          % (start.isoformat(), series))
PY
evt-window "$work/events.jsonl" -q --size 1m --by page,country >"$work/rows.arrows"

redis_fresh() { redis-cli -u "$EVT_REDIS" FLUSHALL >/dev/null; }
redis_evt() { evt-sink "$work/rows.arrows" -q --to "$EVT_REDIS"; }
# Each __rand_int__ is a number of its own of 12 digits: a thousand series of a thousand windows.
redis_peer() {
    local script series='metric:{count(*):00000000000000000000__rand_int__}' window='1767225600000__rand_int__/17672256600000000'
    script=$(redis-cli -u "$EVT_REDIS" SCRIPT LOAD "$(cat crates/store/src/redis/put.lua)")
    redis-benchmark -u "$EVT_REDIS" -n "$rows" -r 1000 -P 512 -c 1 -q EVALSHA "$script" 3 "$series:$window" \
        "$series:$window:gone" "$series" 0192a3b4c5d6e7f8 0 1 1234.5 0 172800000 1999999999999 "$window" \
        '{"page":"/shop/0000","country":"DE"}' 2026-01-01T00:01:00.000000Z 0 2026-01-01T00:01:05.000000Z
}

postgres_fresh() {
    PGOPTIONS='-c client_min_messages=warning' psql -q "$EVT_POSTGRES" -c 'TRUNCATE aggregated_metrics' -c 'DROP TABLE IF EXISTS bench_copy' \
        -c 'CREATE TABLE bench_copy (LIKE aggregated_metrics INCLUDING ALL)' -c CHECKPOINT
}
postgres_evt() { evt-sink "$work/rows.arrows" -q --to "$EVT_POSTGRES"; }
postgres_peer() { psql -q "$EVT_POSTGRES" -c "\\copy bench_copy FROM '$work/rows.copy'"; }

if [[ $store == postgres ]]; then
    evt-sink "$work/rows.arrows" -q --to "$EVT_POSTGRES"
    psql -q "$EVT_POSTGRES" -c "\\copy aggregated_metrics TO '$work/rows.copy'"
fi
for ((round = 1; round <= rounds; round++)); do
    "${store}_fresh"
    evt=$(rate "${store}_evt")
    "${store}_fresh"
    peer=$(rate "${store}_peer")
    echo "evt $evt peer $peer"
done | tee "$work/results"
python3 - "$store" "$work/results" <<'PY'
import statistics, sys
pairs = [(int(evt), int(peer)) for _, evt, _, peer in map(str.split, open(sys.argv[2]))]
ratios = [evt / peer for evt, peer in pairs]
ours, theirs = (statistics.median(column) for column in zip(*pairs))
print(f"{sys.argv[1]}: evt {ours:.0f} rows/s, its peer {theirs:.0f} rows/s: {statistics.median(ratios):.2f} of it"
      f" ({min(ratios):.2f} to {max(ratios):.2f})")
PY
