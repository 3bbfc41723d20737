#!/bin/sh
# One job of the peers' benchmark done by evt: job.sh J1|J1pipe|J1one|J1two|J1hop|J2|J3|J4, with IN and OUT in the environment.
#
# The workload counts a missing event_id or event_type as malformed; its truth files have the 30 s bound.
set -eu
here=$(dirname "$0")
job=$1
raw="--time client_timestamp --require event_id,event_type"

# JSON lines of metrics, as evt writes them, to OUT/NAME.tsv for each metric, or to OUT/$1.tsv: the window's start where there are
# several, dimensions, value. One pass: what is measured is evt.
tables() {
    awk -F'"' -v out="$OUT" -v one="${1:-}" '{
        line = one != "" || $8 == "a1" || $8 == "a9" || $8 == "a10" ? substr($12, 1, 10) " " substr($12, 12, 8) "\t" : ""
        dimensions = ""
        # "dimensions":{"country":"US","event_type":"search"},"value":1.0,
        i = 20
        while ($i != "value") {
            known = $(i + 1) == ":"
            dimensions = (known ? $(i + 2) : "null") "\t" dimensions
            i += known ? 4 : 2
        }
        value = substr($(i + 1), 2, index($(i + 1), ",") - 2)
        sub(/\.0$/, "", value)
        print line dimensions value > (out "/" (one != "" ? one : $8) ".tsv")
    }'
}

case $job in
J1)
    # shellcheck disable=SC2086  # flags are words
    evt-window "$IN" $raw --out-of-orderness 30s --size 1m --by event_type,country --where 'country is not null' -q --report 0 -o jsonl \
        > "$OUT/j1.jsonl" || [ $? = 1 ]
    tables j1 < "$OUT/j1.jsonl"
    ;;
J1pipe)
    # shellcheck disable=SC2086
    evt-ingest "$IN" $raw -q --report 0 | evt-validate --schemas "$here/schemas" -q --report 0 \
        | evt-window --out-of-orderness 30s --size 1m --by event_type,country -q | evt-sink --to "sqlite:$OUT/j1.db" -q || [ $? = 1 ]
    evt-view "sqlite:$OUT/j1.db?table=aggregated_metrics" -o jsonl -q | tables j1
    ;;
J1one)
    # The same stages in one process.
    SCHEMAS=$here/schemas evt pipe "evt-ingest \$IN $raw -q --report 0 | evt-validate --schemas \$SCHEMAS -q --report 0 |
        evt-window --out-of-orderness 30s --size 1m --by event_type,country -q | evt-sink --to sqlite:\$OUT/j1.db -q" || [ $? = 1 ]
    evt-view "sqlite:$OUT/j1.db?table=aggregated_metrics" -o jsonl -q | tables j1
    ;;
J1two | J1hop)
    # Two stages, and the same with one more that passes frames on: the difference is a hop.
    # shellcheck disable=SC2086
    if [ "$job" = J1two ]; then
        evt-ingest "$IN" $raw -q --report 0 | evt-window --out-of-orderness 30s --size 1m --by event_type,country -q -o jsonl
    else
        evt-ingest "$IN" $raw -q --report 0 | evt-sink -q -o frames | evt-window --out-of-orderness 30s --size 1m --by event_type,country -q -o jsonl
    fi > "$OUT/j1.jsonl" || [ $? = 1 ]
    tables j1 < "$OUT/j1.jsonl"
    ;;
J2)
    # All rows count here, as in the batch engines: the bound is beyond the latest of them.
    # shellcheck disable=SC2086
    evt-window "$IN" $raw -m "$here/dashboard.toml" --out-of-orderness 3h -q --report 0 -o jsonl > "$OUT/j2.jsonl" || [ $? = 1 ]
    tables < "$OUT/j2.jsonl"
    for pair in a6:a6min:a6max a8:a8p50:a8p99; do
        first=${pair#*:}
        sort "$OUT/${first%:*}.tsv" > "$OUT/first"
        sort "$OUT/${first#*:}.tsv" | cut -f2 | paste "$OUT/first" - > "$OUT/${pair%%:*}.tsv"
    done
    ;;
J3)
    # shellcheck disable=SC2086
    evt-sink "$IN" $raw --to "$OUT/j3.parquet" --overwrite -q --report 0 || [ $? = 1 ]
    ;;
J4)
    # shellcheck disable=SC2086
    evt-validate "$IN" $raw --schemas "$here/schemas" -o raw --to "$OUT/good.jsonl" --dlq "$OUT/bad.jsonl" -q
    ;;
*)
    echo "job.sh: no job $job" >&2
    exit 2
    ;;
esac
