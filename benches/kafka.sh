#!/usr/bin/env bash
# Kafka beside other clients of librdkafka, in alternating runs: reading beside `kcat -C`, which prints bytes while evt reads JSON
# into frames, events as a producer sends them (raw) and as evt writes them with their stamps (own); writing beside a bare loop around the producer (examples/bare_kafka.rs). Prints CPU-seconds of each process
# and ratios of bytes per CPU-second.
#
#   scripts/bench kafka [ROUNDS [EVENTS]]        # starts a broker of its own unless EVT_KAFKA names one
set -euo pipefail
rounds=${1:-5} events=${2:-1M}
command -v kcat >/dev/null || { echo "scripts/bench: kcat is missing (Debian: apt-get install kcat)" >&2; exit 69; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [[ -z ${EVT_BENCH_BUILT:-} ]]; then cargo build --release --quiet --bins --examples; fi
target=$(realpath "${CARGO_TARGET_DIR:-target}")/release
PATH=$target:$target/examples:$PATH
unset EVT_DLQ
TIMEFORMAT='%U %S'
name=bench-$$

# CPU-seconds of a command and what it starts.
cpu() { { time "$@" >/dev/null 2>"$work/said"; } 2>&1 | awk '{ printf "%.3f", $1 + $2 }'; }
fresh() {
    topics=$((${topics:-0} + 1))
    topic=$name-$topics
    bare_kafka make "$EVT_KAFKA" "$topic" 1
}

evt-gen --events "$events" --seed 7 > "$work/raw.jsonl"
evt-ingest "$work/raw.jsonl" -q > "$work/events.arrows"
fresh
own_topic=$topic
evt-sink "$work/events.arrows" -q --to "kafka://$EVT_KAFKA/$own_topic"
kcat -b "$EVT_KAFKA" -t "$own_topic" -C -e -q > "$work/own.jsonl"
fresh
raw_topic=$topic
bare_kafka send "$EVT_KAFKA" "$raw_topic" "$work/raw.jsonl"
for what in raw own; do
    echo "$what: $(wc -l < "$work/$what.jsonl") records of $(($(wc -c < "$work/$what.jsonl") / $(wc -l < "$work/$what.jsonl"))) bytes"
done
for ((round = 1; round <= rounds; round++)); do
    for what in raw own; do
        name_of_topic=${what}_topic
        echo "$what kcat $(cpu kcat -b "$EVT_KAFKA" -t "${!name_of_topic}" -C -e -q)"
        echo "$what evt $(cpu evt-ingest "kafka://$EVT_KAFKA/${!name_of_topic}?end=latest" -q)"
        echo "$what file $(cpu evt-ingest "$work/$what.jsonl" -q)"
    done
    fresh
    echo "write bare $(cpu bare_kafka send "$EVT_KAFKA" "$topic" "$work/own.jsonl")"
    fresh
    echo "write evt $(cpu evt-sink "$work/events.arrows" -q --to "kafka://$EVT_KAFKA/$topic")"
done | tee "$work/results"
python3 - "$work/results" <<'PY'
import statistics, sys
runs = {}
for line in open(sys.argv[1]):
    what, who, seconds = line.split()
    runs.setdefault((what, who), []).append(float(seconds))
for what, peer in (("raw", "kcat"), ("own", "kcat"), ("write", "bare")):
    ratios = [theirs / ours for theirs, ours in zip(runs[what, peer], runs[what, "evt"])]
    ours, theirs = statistics.median(runs[what, "evt"]), statistics.median(runs[what, peer])
    print(f"{what}: evt {ours:.2f} CPU-s, {peer} {theirs:.2f} CPU-s: {statistics.median(ratios):.2f} of its bytes per CPU-second"
          f" ({min(ratios):.2f} to {max(ratios):.2f})")
for what in ("raw", "own"):
    mapping, reading = (statistics.median(runs[what, who]) for who in ("file", "evt"))
    print(f"{what}: evt maps the same records from a file in {mapping:.2f} CPU-s: the topic costs {reading - mapping:.2f} more")
PY
