#!/usr/bin/env bash
# How long it takes from an event to the row of the alert that it fires: RATE events a second through Kafka into evt-alert.
#
#   scripts/bench alert-latency [SECONDS [RATE [PARTITIONS]]]    # starts a broker of its own unless EVT_KAFKA names one
#
# Nearly all events have one source, thus one key and one partition: the others get a few events a second.
set -euo pipefail
seconds=${1:-30} rate=${2:-50000} partitions=${3:-2}
root=$(realpath "$(dirname "$0")/..")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
kafka=$EVT_KAFKA
cargo build --release --quiet --bins --example bare_kafka
target=$(realpath "${CARGO_TARGET_DIR:-target}")/release
PATH=$target:$target/examples:$PATH
unset "${!EVT_@}"
topic=alert-latency-$$
bare_kafka make "$kafka" "$topic" "$partitions"
cd "$work"
cat >rules.toml <<'END'
[[rule]]
name = "marked"
aggregate = "count(*)"
where = "event_type = 'marked'"
by = ["source"]
condition = "gt"
threshold = 0
window_seconds = 5
END
python3 "$root/benches/alert_latency.py" "kafka://$kafka/$topic" "$seconds" "$rate"
