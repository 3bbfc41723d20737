#!/usr/bin/env bash
# How long it takes from an event's acceptance over HTTP to the row that it closes: evt-ingest with a spool, Kafka, windows of 100 ms,
# Redis. With EVERY, evt-window has a checkpoint with epochs of that length, and writes to Postgres too.
#
#   scripts/bench latency [SECONDS [RATE [EVERY]]]       # starts servers of its own unless EVT_KAFKA, EVT_REDIS and EVT_POSTGRES name them
set -euo pipefail
seconds=${1:-30} rate=${2:-20000} every=${3:-}
work=$(mktemp -d)
set -m # each job is a group of its own, so that all of a pipe can be stopped
# shellcheck disable=SC2317 # the trap calls it
clean_up() {
    local job
    for job in $(jobs -p); do kill -- "-$job" 2>/dev/null || true; done
    { wait; } 2>/dev/null
    rm -rf "$work"
}
trap clean_up EXIT
kafka=$EVT_KAFKA redis=$EVT_REDIS postgres=${EVT_POSTGRES:-}
cargo build --release --quiet --bins --example bare_kafka
target=$(realpath "${CARGO_TARGET_DIR:-target}")/release
PATH=$target:$target/examples:$PATH
unset "${!EVT_@}"
topic=latency-$$
bare_kafka make "$kafka" "$topic" 1
cat >"$work/metrics.toml" <<'END'
[[metric]]
name = "latency"
size = "100ms"
END
touch "$work/ingest"
evt-ingest http://127.0.0.1:0 --spool "$work/spool" --time client_timestamp --to "kafka://$kafka/$topic" 2>"$work/ingest" &
window=(evt-window --time client_timestamp -m "$work/metrics.toml" --out-of-orderness 0s)
if [[ -n $every ]]; then
    stores=("redis:${redis##*:}" "postgres:$postgres")
    evt-sink --kind metric -f jsonl --to "$postgres" -q </dev/null # makes the tables
    psql -qX "$postgres" -c "DELETE FROM aggregated_metrics WHERE metric_name = 'latency'"
    "${window[@]}" "kafka://$kafka/$topic?group=$topic" --checkpoint "$work/state" --checkpoint-every "$every" --late null: \
        --to "$redis" --to "$postgres" 2>"$work/window" &
else
    stores=("redis:${redis##*:}")
    "${window[@]}" "kafka://$kafka/$topic" 2>"$work/window" | evt-sink --to "$redis" 2>"$work/sink" &
fi
for _ in {1..300}; do
    grep -q 'listening on' "$work/ingest" && break
    sleep 0.1
done
python3 benches/latency.py "$(sed -n 's/.*listening on //p' "$work/ingest")" "$seconds" "$rate" "${stores[@]}" || {
    cat "$work"/{ingest,window} >&2
    exit 1
}
