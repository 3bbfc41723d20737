#!/bin/sh
# Proves that the job @NAME@ computes the rows of evt-window: runs both over the same records, and compares metrics, late
# events and dead letters. Exit status 0 only if all are equal.
#
# usage: prove.sh FROM UNTIL
#   FROM, UNTIL  instants such as 2026-01-05T10:00:00Z: the records whose timestamps are between them
# environment:
#   FLINK_SQL    the command that runs a file of SQL and waits for its end
#                default: $FLINK_HOME/bin/sql-client.sh -D execution.target=local -D table.dml-sync=true -f
# The topics of the proof end with -proof; they must exist unless the servers create topics.
set -eu
cd "$(dirname "$0")"
[ $# = 2 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2; }
from=$1 until=$2
sql=${FLINK_SQL:-${FLINK_HOME:?set FLINK_HOME, or FLINK_SQL}/bin/sql-client.sh -D execution.target=local -D table.dml-sync=true -f}
millis() { echo $(($(date -u -d "$1" +%s%N) / 1000000)); }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

{
    echo "ADD JAR '$PWD/evt-flink.jar';"
    sed "s/@FROM@/$(millis "$from")/; s/@UNTIL@/$(millis "$until")/" proof.sql
} >"$work/proof.sql"
began=$(date -u +%Y-%m-%dT%H:%M:%S.%3NZ)
# A client of Flink ends with 0 even if a statement fails: the comparison below tells.
$sql "$work/proof.sql" >"$work/flink.log" 2>&1 || { tail -n 40 "$work/flink.log" >&2; exit 70; }

evt-window "@EVENTS@@AND@start=$from&end=$until" -m metrics.toml@TIME@ --out-of-orderness @BOUND@@SINCE@ --emit final -q \
    --late "$work/late.jsonl"@PARTIAL@ --dlq "$work/dead.jsonl" --to "$work/metrics.jsonl"
equal=0
letters() { evt-view "$1" -q --columns partition,offset,error_type,metrics,partial -o csv | sort; }
same() {
    if [ "$1" = dead ]; then
        letters "$work/dead.jsonl" >"$work/dead.csv"
        letters "$work/flink-dead.jsonl" | diff "$work/dead.csv" - >"$work/dead.report"
    else
        evt-reconcile "$work/$1.jsonl" "$work/flink-$1.jsonl" -q >"$work/$1.report"
    fi
}
compare() {
    name=$1
    shift
    evt-view "$1?start=$began&end=latest" -q --to "$work/flink-$name.jsonl"
    if [ ! -s "$work/$name.jsonl" ] && [ ! -s "$work/flink-$name.jsonl" ]; then
        echo "$name: none, as there should be"
    elif [ -s "$work/$name.jsonl" ] && [ -s "$work/flink-$name.jsonl" ] && same "$name"; then
        echo "$name: $(wc -l <"$work/$name.jsonl") equal"
    else
        echo "$name: not equal: $(wc -l <"$work/$name.jsonl") of evt-window, $(wc -l <"$work/flink-$name.jsonl") of Flink" >&2
        [ ! -s "$work/$name.report" ] || grep -v '"missing":0,"extra":0,"double":0' "$work/$name.report" | head -n 20 >&2
        equal=1
    fi
}
compare metrics "@METRICS@"
compare late "@LATE@"
compare dead "@DEAD@"
if [ $equal = 1 ]; then
    # The client reads a statement set line by line, and logs that it is not complete yet.
    grep -a 'Caused by: ' "$work/flink.log" | grep -v 'Parse.*<EOF>' | tail -n 3 >&2 || true
fi
exit $equal
