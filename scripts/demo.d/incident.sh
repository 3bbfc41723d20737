#!/usr/bin/env bash
# An incident from its beginning to its end, under demo/: a wrong metric runs for three hours, an alert fires, the metric is
# corrected while the pipe continues, the dead letters of a bad release are repaired and replayed, and the results are compared with
# the right ones. scripts/demo --incident builds evt and runs this; it needs evt's programs in PATH, and examples/ beside it.
set -euo pipefail

rm -rf demo/incident
mkdir -p demo/incident

tell() { printf '\n── %s\n' "$*"; }
# Shows a command and runs it. A first argument --exit N states the status that is expected; it is 0 otherwise.
run() {
    local expected=0 found=0
    if [[ $1 == --exit ]]; then
        expected=$2
        shift 2
    fi
    printf '\n$ %s\n' "$1"
    bash -o pipefail -c "cd demo/incident; $1" || found=$?
    [[ $found == 0 ]] || echo "exit status $found"
    if [[ $found != "$expected" ]]; then
        echo "scripts/demo: expected exit status $expected, found $found" >&2
        exit 70
    fi
}
show() {
    printf '\n$ cat %s\n' "$1"
    cat "demo/incident/$1"
}
# The pipe that computes the metrics of file $1 with the metrics file $2, and keeps the events and all results.
pipe() {
    printf '%s' "evt-ingest $1 -q --dlq dead.jsonl \\
    | evt-validate -q --schemas ../../examples/schemas --dlq dead.jsonl --to - --to parquet:lake/events \\
    | evt-window -q -m $2 --late late.jsonl \\
    | evt-sink -q --to sqlite:metrics.db --to - -o jsonl"
}

echo "To repeat a command below, run it in demo/incident."

tell "Eight hours of a web shop, one event per second. A release at 06:00 writes amounts as text, for ten minutes."
run "evt-gen -q --events 28800 --rate 1 --disorder 0s --users 500 --seed 42 > shop.jsonl"
run "sed -n '1,7200p' shop.jsonl > part-1.jsonl; sed -n '7201,18000p' shop.jsonl > part-2.jsonl"
run "sed -E '21601,22200s/\"amount\":([0-9.]+)/\"amount\":\"\\1\"/' shop.jsonl | sed -n '18001,28800p' > part-3.jsonl"
cat > demo/incident/metrics.toml <<'EOF'
[defaults]
size = "10m"

[[metric]]
name = "revenue"
aggregate = "sum(amount)"
where = "event_type = 'purchase'"

[[metric]]
name = "events"
by = ["event_type"]
EOF
show metrics.toml

tell "From 00:00 to 02:00 all is well."
run "$(pipe part-1.jsonl metrics.toml) > results.jsonl"
cat > demo/incident/rules.toml <<'EOF'
[[rule]]
name = "revenue_is_unusual"
input = "metric"
aggregate = "sum(value)"
where = "metric_name = 'revenue'"
window_seconds = 600
anomaly = { z = 6, baseline = "90m", min = 6 }
severity = "critical"
summary = "revenue differs by {value} standard deviations from the last 90 minutes"
EOF
show rules.toml
run "evt-alert -q --once results.jsonl --rules rules.toml --state alerts.db"

tell "At 02:00 a wrong metrics file is deployed: revenue counts cents. It runs for three hours."
run "sed 's/sum(amount)/sum(amount * 100)/' metrics.toml > wrong.toml"
run "$(pipe part-2.jsonl wrong.toml) >> results.jsonl"

tell "An anomaly rule notices."
run --exit 1 "evt-alert -q --once results.jsonl --rules rules.toml --state alerts.db > alerts.jsonl"
run "evt-view -q alerts.jsonl --columns state,rule,window_end,value,summary -o table"

tell "The right metrics file is deployed. The pipe reads from a named pipe here, so that it still runs when the past is corrected."
run "mkfifo live"
live=$(pipe live metrics.toml)
printf '\n$ %s >> results.jsonl &\n' "$live"
bash -o pipefail -c "cd demo/incident; $live >> results.jsonl" &
pipe_of_live=$!
exec 3> demo/incident/live
trap 'exec 3>&-; kill "$pipe_of_live" 2>/dev/null || true' EXIT
printf '\n$ head -n 5400 part-3.jsonl > live\n'
head -n 5400 demo/incident/part-3.jsonl >&3

tell "What evt-backfill would change between 02:00 and 05:00, then the correction itself."
range="--since 2026-01-01T02:00:00Z --until 2026-01-01T05:00:00Z --all-closed"
run --exit 1 "evt-backfill -q parquet:lake/events -m metrics.toml $range \\
    --to sqlite:metrics.db --dry-run -o table > changes.txt"
run "head -n 5 changes.txt"
run "evt-backfill parquet:lake/events -m metrics.toml $range \\
    --to sqlite:metrics.db --reason 'revenue counted cents'"

printf '\n$ tail -n +5401 part-3.jsonl > live   # the rest of the day\n'
tail -n +5401 demo/incident/part-3.jsonl >&3
exec 3>&-
wait "$pipe_of_live"
trap - EXIT

tell "Is every event of the shop in the lake?"
run --exit 1 "evt-reconcile shop.jsonl parquet:lake/events --by id --bucket 1h -o table"

tell "The dead letters of the bad release, and what a repair would do."
run "evt-view -q dead.jsonl --summary -o table"
replay="evt-replay -q dead.jsonl --patch 'set amount = try_cast(amount as double)' \\
    --schemas ../../examples/schemas --ledger sqlite:replay.db --to replayed.jsonl"
run --exit 1 "$replay --dry-run > repairs.jsonl"
run "head -n 1 repairs.jsonl | cut -c 1-240"
run "$replay"
run "wc -l < replayed.jsonl"
run "$replay   # again: nothing is replayed twice"
run "wc -l < replayed.jsonl"

tell "The replayed events are stored, and the windows that missed them are corrected."
run "evt-ingest -q replayed.jsonl | evt-validate -q --schemas ../../examples/schemas --to parquet:lake/events"
run "evt-backfill parquet:lake/events -m metrics.toml --since 2026-01-01T06:00:00Z --until 2026-01-01T06:10:00Z --all-closed \\
    --to sqlite:metrics.db --reason 'a release wrote amounts as text'"

tell "Every event is in the lake, and the metrics are those of one run of the right file over the right events."
run "evt-reconcile shop.jsonl parquet:lake/events --by id -o table"
run "evt-ingest -q shop.jsonl | evt-window -q -m metrics.toml | evt-sink -q --to sqlite:right.db"
run "evt-reconcile 'sqlite:right.db?table=aggregated_metrics' 'sqlite:metrics.db?table=aggregated_metrics' -o table"

tell "All is repaired. Everything is in demo/incident."
