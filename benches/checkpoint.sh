#!/usr/bin/env bash
# What a checkpoint costs evt-window. First the same run into SQLite with a checkpoint and without, in alternating rounds: wall seconds,
# CPU-seconds and their ratios. Then the wall time of a run that restores a large state, reads an empty file and saves the state again.
#
#   benches/checkpoint.sh [ROUNDS [EVENTS [EVERY [KEYS]]]]        # 3 10000000 2s 10000000
set -euo pipefail
rounds=${1:-3}
events=${2:-10000000}
every=${3:-2s}
keys=${4:-10000000}
source "$(dirname "$0")/workspace.sh"

# run NAME INPUT FLAG...: appends wall, user and system seconds of evt-window to NAME.time.
run() {
    local name=$1 input=$2
    shift 2
    /usr/bin/time -a -o "$name.time" -f '%e %U %S' evt-window "$input" --time timestamp --late null: -q "$@"
}

# In one hour of event time.
"$root/benches/events.py" "$events" --span 3600 --keys 100000 >in.jsonl
metrics=(--by k --agg 'n=count(*)' --agg 'total=sum(v)' --size 10m)
for ((round = 1; round <= rounds; round++)); do
    rm -rf plain.db held.db state
    run plain in.jsonl "${metrics[@]}" --to sqlite:plain.db
    run held in.jsonl "${metrics[@]}" --to sqlite:held.db --checkpoint state --checkpoint-every "$every" --at-end fire
done
epochs=$(cat state/log/* | grep -c complete || true)
echo "$events events of 100000 keys, epochs of $every: $epochs in the last run"
paste plain.time held.time | awk '
    { printf "round %d: without %.1f s, %.1f CPU-s; with a checkpoint %.1f s, %.1f CPU-s\n", NR, $1, $2 + $3, $4, $5 + $6
      wall += $1; cpu += $2 + $3; other_wall += $4; other_cpu += $5 + $6 }
    END { printf "throughput with a checkpoint: %.2f of the one without (wall), %.2f (CPU)\n", wall / other_wall, cpu / other_cpu }'
rm -rf in.jsonl plain.db held.db state

"$root/benches/events.py" "$keys" --span 3600 --keys "$keys" >in.jsonl
held=(--by k --agg 'n=count(*)' --agg 'total=sum(v)' --agg 'mean=avg(v)' --agg 'least=min(v)' --size 1d --to null: --checkpoint state)
run first in.jsonl "${held[@]}"
bytes=$(find state/epochs -name '*.state' -printf '%s %p\n' | sort -n | tail -1 | cut -d' ' -f1)
: >empty.jsonl
run restore empty.jsonl "${held[@]}" --stats restore.json
recovery=$(grep -o '"recovery_seconds":[0-9.]*' restore.json | cut -d: -f2)
awk -v bytes="$bytes" -v recovery="$recovery" '{
    printf "a state of %.0f MiB: restored in %.1f s (%.1f s a GiB), restored and saved again in %.1f s\n",
        bytes / 1048576, recovery, recovery * 1073741824 / bytes, $1 }' restore.time
