#!/usr/bin/env bash
# What a fired row costs where windows overlap a lot, and where a key has many open sessions. One event a second for two days, one key,
# in order and shuffled within 30 s: CPU per row of windows of 24 h beside windows of 1 m, both with a slide of 1 s. One million open
# sessions of one key beside as many rows of tumbling windows. Prints CPU-seconds, rows and ratios.
#
#   benches/windows.sh [SECONDS [SESSIONS]]         # 172800 1000000
set -euo pipefail
seconds=${1:-172800}
sessions=${2:-1000000}
source "$(dirname "$0")/workspace.sh"

"$root/benches/events.py" "$seconds" --span "$seconds" >ordered.jsonl
"$root/benches/events.py" "$seconds" --span "$seconds" --shuffle 30 >shuffled.jsonl
# A gap of 1 s between events that lie 2 s apart: each event is a session.
"$root/benches/events.py" "$sessions" --span $((2 * sessions)) >sessions.jsonl

# cost NAME INPUT FLAG...: writes CPU-seconds and rows of a run to NAME.
cost() {
    local name=$1 input=$2
    shift 2
    /usr/bin/time -o "$name.time" -f '%U %S' evt-window "$input" --time timestamp --out-of-orderness 30s --late null: -q --emit final -o csv "$@" >"$name.csv"
    awk -v rows="$(($(wc -l <"$name.csv") - 1))" '{ print $1 + $2, rows }' "$name.time" >"$name"
    rm "$name.csv"
}

# compare TITLE LIMIT NAME OTHER: prints the ratio of CPU per row.
compare() {
    paste "$3" "$4" | awk -v title="$1" -v limit="$2" '{
        printf "%-44s %6.2f CPU-s %8d rows   beside %6.2f CPU-s %8d rows   ratio %5.2f (at most %d)\n",
            title, $1, $2, $3, $4, ($1 / $2) / ($3 / $4), limit
    }'
}

for input in ordered shuffled; do
    for aggregate in 'count(*)' 'sum(v)' 'approx_percentile(v, 0.99)' 'approx_distinct(v)'; do
        limit=10
        case $aggregate in count* | sum*) limit=3 ;; esac
        cost long $input.jsonl --size 24h --slide 1s --agg "$aggregate" --out-of-orderness 30s
        cost short $input.jsonl --size 1m --slide 1s --agg "$aggregate" --out-of-orderness 30s
        compare "$aggregate, $input" $limit long short
    done
done
cost open sessions.jsonl --gap 1s --agg 'count(*)' --out-of-orderness all
cost tumbling sessions.jsonl --size 2s --agg 'count(*)' --out-of-orderness all
compare "$sessions open sessions, tumbling windows" 3 open tumbling
