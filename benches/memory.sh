#!/usr/bin/env bash
# evt-window with --memory beside the same run in memory: ten metrics of one `by` over uniform keys, all of one window. Prints CPU-seconds
# and the greatest resident memory of both, and their ratio; compares the rows.
#
#   benches/memory.sh [EVENTS [KEYS [SIZE]]]        # 50000000 10000000 192MiB is the case of 50 M events in 256 MiB
set -euo pipefail
events=${1:-5000000}
keys=${2:-1000000}
size=${3:-192MiB}
source "$(dirname "$0")/workspace.sh"

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

# In 50 minutes of event time.
"$root/benches/events.py" "$events" --span 3000 --keys "$keys" >in.jsonl

# run NAME FLAG...: prints user and system CPU-seconds and the greatest resident memory (KiB); the checksum of the rows is in NAME.sum.
run() {
    local name=$1
    shift
    /usr/bin/time -o "$name.time" -f '%U %S %M' evt-window in.jsonl -m metrics.toml --time timestamp --out-of-orderness 30s --late null: -q -o csv "$@" \
        | LC_ALL=C sort -S 1G | sha256sum >"$name.sum"
    awk -v name="$name" '{ printf "%-8s %8.1f CPU-s %8.0f MiB\n", name, $1 + $2, $3 / 1024 }' "$name.time"
}
echo "$events events of $keys keys"
run memory
run files --memory "$size"
cmp memory.sum files.sum
awk '{ cpu[FILENAME] = $1 + $2 } END { printf "ratio %.2f (--memory '"$size"')\n", cpu["files.time"] / cpu["memory.time"] }' \
    memory.time files.time
