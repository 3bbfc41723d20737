#!/usr/bin/env bash
# evt-backfill beside DuckDB (threads = 1): the same aggregate of the same lake, in alternating runs. evt-backfill also compares the
# result with the stored one, which is right, so that nothing is written. EVT_PYTHON names a Python with duckdb (scripts/python).
#
#   benches/backfill.sh [ROUNDS [EVENTS]]
set -euo pipefail
rounds=${1:-3}
events=${2:-4000000}
source "$(dirname "$0")/workspace.sh"
python=${EVT_PYTHON:-$("$root/scripts/python")}

cat >metrics.toml <<'END'
[defaults]
size = "1m"

[[metric]]
name = "revenue"
aggregate = "sum(amount)"
where = "event_type = 'purchase'"
by = ["source"]

[[metric]]
name = "events"
by = ["event_type"]
END
evt-gen -q --events "$events" --seed 1 | evt-ingest -q --to parquet:lake
evt-backfill -q parquet:lake -m metrics.toml --all-closed --to sqlite:metrics.db
measure() {
    echo -n "$1: " >&2
    "$python" "$root/benches/reconcile.py" measure "${@:2}"
}
for ((round = 1; round <= rounds; round++)); do
    measure evt evt-backfill -q parquet:lake -m metrics.toml --all-closed --to sqlite:metrics.db --dry-run
    measure duckdb "$python" "$root/benches/backfill.py" lake metrics.db
done
