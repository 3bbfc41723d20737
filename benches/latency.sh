#!/usr/bin/env bash
# How long it takes from an event's acceptance over HTTP to the row in Redis that it closes: HTTP listener with spool, Kafka,
# windows of 100 ms, Redis.
#
#   scripts/bench latency [SECONDS [RATE]]       # starts servers of its own unless EVT_KAFKA and EVT_REDIS name them
set -euo pipefail
seconds=${1:-30} rate=${2:-20000}
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
kafka=$EVT_KAFKA redis=$EVT_REDIS
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
touch "$work/listener"
evt-ingest http://127.0.0.1:0 --spool "$work/spool" --time client_timestamp --to "kafka://$kafka/$topic" 2>"$work/listener" &
evt-window "kafka://$kafka/$topic" --time client_timestamp -m "$work/metrics.toml" --out-of-orderness 0s 2>"$work/window" \
    | evt-sink --to "$redis" 2>"$work/sink" &
for _ in {1..300}; do
    grep -q 'listening on' "$work/listener" && break
    sleep 0.1
done
python3 benches/latency.py "$(sed -n 's/.*listening on //p' "$work/listener")" "${redis##*:}" "$seconds" "$rate" || {
    cat "$work"/{listener,window,sink} >&2
    exit 1
}
