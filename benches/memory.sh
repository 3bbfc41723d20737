#!/usr/bin/env bash
# evt-window with --memory beside the same run in memory: ten metrics of one `by` over uniform keys, all of one window. Prints CPU-seconds
# and the greatest resident memory of both, and their ratio; compares the rows.
#
#   benches/memory.sh [EVENTS [KEYS [SIZE]]]        # 50000000 10000000 192MiB is the case of 50 M events in 256 MiB
set -euo pipefail
events=${1:-5000000}
keys=${2:-1000000}
size=${3:-192MiB}
root=$(realpath "$(dirname "$0")/..")
target=$(realpath "${CARGO_TARGET_DIR:-$root/target}")
PATH=$target/release:$PATH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset EVT_DLQ
cd "$work"

cat >metrics.toml <<'END'
[defaults]
size = "1h"
by = ["k"]
END
for aggregate in 'count(*)' 'sum(v)' 'avg(v)' 'min(v)' 'max(v)' 'stddev(v)' 'rate(*)' 'count(v)'; do
    printf '[[metric]]\naggregate = "%s"\n' "$aggregate" >>metrics.toml
done
for metric in 'large count(*) v>500' 'largest sum(v) v>900'; do
    read -r name aggregate filter <<<"$metric"
    printf '[[metric]]\nname = "%s"\naggregate = "%s"\nwhere = "%s"\n' "$name" "$aggregate" "$filter" >>metrics.toml
done

# One record a line, in 50 minutes of event time.
python3 - "$events" "$keys" >in.jsonl <<'END'
import random, sys
events, keys = int(sys.argv[1]), int(sys.argv[2])
draw = random.Random(17)
for first in range(0, events, 10_000):
    lines = []
    for at in range(first, min(first + 10_000, events)):
        second, rest = divmod(at * 3_000_000 // events, 1000)
        lines.append('{"timestamp":"2026-01-01T00:%02d:%02d.%03dZ","source":"s","event_type":"t","k":"key-%d","v":%d.%02d}\n'
                     % (*divmod(second, 60), rest, draw.randrange(keys), draw.randrange(1000), draw.randrange(100)))
    sys.stdout.write("".join(lines))
END

# run NAME FLAG...: prints user and system CPU-seconds and the greatest resident memory (KiB); the checksum of the rows is in NAME.sum.
run() {
    local name=$1
    shift
    /usr/bin/time -o "$name.time" -f '%U %S %M' evt-window in.jsonl -m metrics.toml --time timestamp --late null: -q -o csv "$@" \
        | LC_ALL=C sort -S 1G | sha256sum >"$name.sum"
    awk -v name="$name" '{ printf "%-8s %8.1f CPU-s %8.0f MiB\n", name, $1 + $2, $3 / 1024 }' "$name.time"
}
echo "$events events of $keys keys"
run memory
run files --memory "$size"
cmp memory.sum files.sum
awk '{ cpu[FILENAME] = $1 + $2 } END { printf "ratio %.2f (--memory '"$size"')\n", cpu["files.time"] / cpu["memory.time"] }' \
    memory.time files.time
