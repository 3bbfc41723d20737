#!/usr/bin/env bash
# evt-reconcile --ids beside DuckDB's FULL JOIN (threads = 1, memory_limit = 256MB) on random ids, in alternating runs: first on
# two lakes that evt has written, then on two Parquet files that DuckDB has written, with the properties as JSON text, and with a
# column for each property.
# EVT_PYTHON names a Python with duckdb (scripts/python).
#
#   benches/reconcile.sh [ROUNDS [ROWS]]
set -euo pipefail
rounds=${1:-3}
rows=${2:-10000000}
source "$(dirname "$0")/workspace.sh"
python=${EVT_PYTHON:-$("$root/scripts/python")}
export TMPDIR=$work

"$python" "$root/benches/reconcile.py" prepare "$work" "$rows"
measure() {
    echo -n "$1: " >&2
    "$python" "$root/benches/reconcile.py" measure "${@:2}"
}
for lake in a b; do evt-ingest -q "$work/$lake.parquet" --to "parquet:$work/$lake"; done
# The faults are planted, so the exit status is 1.
for ((round = 1; round <= rounds; round++)); do
    measure "lakes, evt" evt-reconcile "parquet:$work/a" "parquet:$work/b" --by id --ids -q -o jsonl | wc -l || true
    measure "lakes, duckdb" "$python" "$root/benches/reconcile.py" join "$work/a/**/*.parquet" "$work/b/**/*.parquet" properties
done
for files in "a b properties" "ac bc page,price"; do
    read -r a b properties <<<"$files"
    for ((round = 1; round <= rounds; round++)); do
        measure "$properties, evt" evt-reconcile "$work/$a.parquet" "$work/$b.parquet" --by id --ids -q -o jsonl | wc -l || true
        measure "$properties, duckdb" "$python" "$root/benches/reconcile.py" join "$work/$a.parquet" "$work/$b.parquet" "$properties"
    done
done
