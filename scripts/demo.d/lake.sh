#!/usr/bin/env bash
# A lake of Iceberg under demo/iceberg/, with no server: raw events (Bronze), valid ones without repeats (Silver), metrics (Gold); an hour
# of events that comes late, its correction as a snapshot, and PyIceberg, which reads both states. scripts/demo --lake builds evt and
# runs this; it needs evt's programs in PATH, and PYTHON, a Python with PyIceberg (scripts/python).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
: "${PYTHON:?}"
export HERE=$here

rm -rf demo/iceberg
mkdir -p demo/iceberg

tell() { printf '\n── %s\n' "$*"; }
run() {
    printf '\n$ %s\n' "$1"
    bash -o pipefail -c "cd demo/iceberg; $1"
}

echo "To repeat a command below, run it in demo/iceberg after this one:"
printf '\n$ export PYTHON=%s HERE=%s\n' "$PYTHON" "$HERE"

# shellcheck disable=SC2016  # the commands are shown as they are typed
{
    tell "Two days of a web shop. A thousand events of the first day are on a phone that is offline."
    run 'evt-gen -q --events 40k --rate 0.25 --users 500 --seed 42 --duplicates 0.3% --malformed 0.2% --invalid 0.2% \
    --start 2026-01-01T00:00:00Z > shop.jsonl; sed 5001,6000d shop.jsonl > online.jsonl; sed -n 5001,6000p shop.jsonl > phone.jsonl'
    run 'cat > metrics.toml <<END
[[metric]]
name = "revenue"
aggregate = "sum(amount)"
where = "event_type = '\''purchase'\''"
size = "1h"
END'
    tell "Bronze: raw events as they come, and the records that are none."
    run 'evt-ingest online.jsonl --time client_timestamp --to "iceberg:lake/?namespace=bronze" --dlq "iceberg:lake/?namespace=bronze"'
    tell "Silver: events that match their schemas, each once."
    run 'evt-validate "iceberg:lake/?namespace=bronze&table=raw_events" --schemas $HERE/examples/schemas --dedup 1h \
    --to "iceberg:lake/?namespace=silver" --dlq "iceberg:lake/?namespace=silver"'
    tell "Gold: metrics of Silver."
    run 'evt-window "iceberg:lake/?namespace=silver&table=raw_events" -m metrics.toml --out-of-orderness all \
    --to "iceberg:lake/?namespace=gold"'
    tell "The phone is online again. The same lines bring its events to Silver; they store only what is missing."
    run 'evt-ingest phone.jsonl --time client_timestamp --to "iceberg:lake/?namespace=bronze" --dlq "iceberg:lake/?namespace=bronze"'
    run 'evt-validate "iceberg:lake/?namespace=bronze&table=raw_events" --schemas $HERE/examples/schemas --dedup 1h \
    --to "iceberg:lake/?namespace=silver" --dlq "iceberg:lake/?namespace=silver"'
    tell "The correction of Gold: one snapshot changes the hours that were wrong."
    run 'evt-backfill "iceberg:lake/?namespace=silver&table=raw_events" -m metrics.toml --all-closed \
    --reason "a phone was offline" --to "iceberg:lake/?namespace=gold"'
    tell "PyIceberg reads the revenue of each day, now and before the correction."
    run 'cat > revenue.py <<END
import os
from pyiceberg.catalog.sql import SqlCatalog

lake = os.path.abspath("lake")
catalog = SqlCatalog("evt", uri=f"sqlite:///{lake}/catalog.db", warehouse=f"file://{lake}")
table = catalog.load_table("gold.aggregated_metrics")
for snapshot in [*table.snapshots()[:1], table.current_snapshot()]:
    rows = table.scan(snapshot_id=snapshot.snapshot_id).to_arrow().to_pylist()
    for day in sorted({row["window_start"].date() for row in rows}):
        revenue = sum(row["value"] for row in rows if row["window_start"].date() == day)
        print(snapshot.summary.operation.value, day, round(revenue, 2))
END
"$PYTHON" revenue.py'
    tell "The first hours, by evt."
    run 'evt-view "iceberg:lake/?namespace=gold" -q --columns window_start,value,rows,revision --head 3 -o table'
    tell "Upkeep: small files are joined, and old snapshots go."
    run 'evt-lake compact "iceberg:lake/?namespace=bronze" --closed-after 0s'
    run 'evt-lake expire "iceberg:lake/?namespace=bronze" --snapshots 0s'
    run 'evt-lake describe "iceberg:lake/?namespace=bronze"'
}
tell "demo/iceberg/lake is a warehouse that any reader of Iceberg opens; ICEBERG in evt(7) and evt-lake(1) say more."
