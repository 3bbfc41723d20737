#!/bin/sh
# One job of the peers' benchmark done by evt: job.sh J1|J1pipe|J1two|J1hop|J2|J3|J4, with IN and OUT in the environment.
#
# The workload counts a missing event_id or event_type as malformed; its truth files have the 30 s bound.
set -eu
here=$(dirname "$0")
job=$1
raw="--time client_timestamp --require event_id,event_type"

# JSON lines of metrics to START TAB dimensions TAB value, dimensions in the order named.
rows() {
    awk -v names="$1" -v metric="$2" '
        function field(name,  at, rest) {
            at = index($0, "\"" name "\":")
            if (!at) return ""
            rest = substr($0, at + length(name) + 3)
            if (substr(rest, 1, 1) == "\"") { rest = substr(rest, 2); return substr(rest, 1, index(rest, "\"") - 1) }
            match(rest, /[,}]/)
            return substr(rest, 1, RSTART - 1)
        }
        BEGIN { count = split(names, name, " ") }
        metric == "" || index($0, "\"metric_name\":\"" metric "\"") {
            line = ""
            for (i = 1; i <= count; i++) {
                value = field(name[i])
                if (name[i] == "window_start") value = substr(value, 1, 10) " " substr(value, 12, 8)
                line = line (i > 1 ? "\t" : "") value
            }
            print line
        }'
}

case $job in
J1)
    # shellcheck disable=SC2086  # flags are words
    evt-window "$IN" $raw --size 1m --by event_type,country --where 'country is not null' -q --report 0 -o jsonl \
        > "$OUT/j1.jsonl" || [ $? = 1 ]
    sed 's/"value":\([0-9]*\)\.0/"value":\1/' "$OUT/j1.jsonl" | rows "window_start event_type country value" "" > "$OUT/j1.tsv"
    ;;
J1pipe)
    # shellcheck disable=SC2086
    evt-ingest "$IN" $raw -q --report 0 | evt-validate --schemas "$here/schemas" -q --report 0 \
        | evt-window --size 1m --by event_type,country -q | evt-sink --to "sqlite:$OUT/j1.db" -q || [ $? = 1 ]
    evt-view "sqlite:$OUT/j1.db?table=aggregated_metrics" -o jsonl -q | sed 's/"value":\([0-9]*\)\.0/"value":\1/' \
        | rows "window_start event_type country value" "" > "$OUT/j1.tsv"
    ;;
J1two | J1hop)
    # Two stages, and the same with one more that passes frames on: the difference is a hop.
    # shellcheck disable=SC2086
    if [ "$job" = J1two ]; then
        evt-ingest "$IN" $raw -q --report 0 | evt-window --size 1m --by event_type,country -q -o jsonl
    else
        evt-ingest "$IN" $raw -q --report 0 | evt-sink -q -o frames | evt-window --size 1m --by event_type,country -q -o jsonl
    fi > "$OUT/j1.jsonl" || [ $? = 1 ]
    sed 's/"value":\([0-9]*\)\.0/"value":\1/' "$OUT/j1.jsonl" | rows "window_start event_type country value" "" > "$OUT/j1.tsv"
    ;;
J2)
    # All rows count here, as in the batch engines: the bound is beyond the latest of them.
    # shellcheck disable=SC2086
    evt-window "$IN" $raw -m "$here/dashboard.toml" --out-of-orderness 3h -q --report 0 -o jsonl > "$OUT/j2.jsonl" || [ $? = 1 ]
    get() { rows "$2" "$1" < "$OUT/j2.jsonl"; }
    get a1 "window_start event_type country value" > "$OUT/a1.tsv"
    get a2 "page value" > "$OUT/a2.tsv"
    get a3 "device value" > "$OUT/a3.tsv"
    get a4 "country value" > "$OUT/a4.tsv"
    get a5 "page value" > "$OUT/a5.tsv"
    get a6min "source value" | sort > "$OUT/a6min"
    get a6max "source value" | sort | cut -f2 | paste "$OUT/a6min" - > "$OUT/a6.tsv"
    get a7 "event_type value" > "$OUT/a7.tsv"
    get a8p50 "event_type value" | sort > "$OUT/a8p50"
    get a8p99 "event_type value" | sort | cut -f2 | paste "$OUT/a8p50" - > "$OUT/a8.tsv"
    get a9 "window_start event_type value" > "$OUT/a9.tsv"
    get a10 "window_start value" > "$OUT/a10.tsv"
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
