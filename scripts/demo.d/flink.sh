#!/usr/bin/env bash
# The same metrics by evt-window and by Apache Flink, under demo/flink/: a proof that all rows are equal, then a running job whose
# TaskManager is killed, and the proof that nothing is missing and nothing is there twice. scripts/demo --flink builds evt, starts Kafka
# and a cluster, and runs this; it needs evt's programs and bare_kafka in PATH, KAFKA, FLINK and EVT_JAR.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
: "${KAFKA:?}" "${FLINK:?}" "${EVT_JAR:?}"
export HERE=$here

rm -rf demo/flink
mkdir -p demo/flink

tell() { printf '\n── %s\n' "$*"; }
run() {
    printf '\n$ %s\n' "$1"
    bash -o pipefail -c "cd demo/flink; $1"
}

echo "To repeat a command below, run it in demo/flink after this one:"
printf '\n$ export KAFKA=%s FLINK=%s EVT_JAR=%s HERE=%s\n' "$KAFKA" "$FLINK" "$EVT_JAR" "$HERE"

# shellcheck disable=SC2016  # the commands are shown as they are typed
{
    tell "The topics, and the first ten of twenty minutes of a web shop in two partitions."
    run 'for topic in metrics late dead; do bare_kafka make "$KAFKA" $topic 1; bare_kafka make "$KAFKA" $topic-proof 1; done
bare_kafka make "$KAFKA" events 2'
    run 'evt-gen -q --events 60k --rate 50 --users 500 --seed 42 --late 0.4% --start 2026-01-01T00:00:00Z > shop.jsonl'
    run 'head -n 30000 shop.jsonl | evt-ingest -q --time client_timestamp --to "kafka://$KAFKA/events?key=user_id"'
    tell "What would Flink compute? Every metric of examples/metrics.toml, sessions and sketches too."
    run 'evt-flink -m $HERE/examples/metrics.toml "kafka://$KAFKA/events" --time client_timestamp --to "kafka://$KAFKA/metrics" \
    --late "kafka://$KAFKA/late" --dlq "kafka://$KAFKA/dead" --check'
    tell "The job: its SQL, its functions, its proof, and a page that says how to run it."
    run 'evt-flink -m $HERE/examples/metrics.toml "kafka://$KAFKA/events" --time client_timestamp --to "kafka://$KAFKA/metrics" \
    --late "kafka://$KAFKA/late" --dlq "kafka://$KAFKA/dead" --checkpoint-every 1s --dir job'
    tell "The proof: Flink and evt-window over the same records, compared row by row."
    run 'FLINK_SQL="$HERE/scripts/flink sql" job/prove.sh 2020-01-01T00:00:00Z 2100-01-01T00:00:00Z'
    tell "The job on a cluster with two TaskManagers. Both are killed while the other ten minutes arrive."
    run 'EVT_FLINK=$FLINK $HERE/scripts/flink submit job/job.sql -j job/evt-flink.jar > submit.log 2>&1'
    run '$HERE/scripts/services kill flink.1 flink.2'
    run 'tail -n 30000 shop.jsonl | evt-ingest -q --time client_timestamp --to "kafka://$KAFKA/events?key=user_id"'
    run '$HERE/scripts/services start flink.1 flink.2'
    tell "Events of an hour later, so that the windows of these twenty minutes close."
    run 'evt-gen -q --events 200 --rate 50 --users 500 --seed 43 --start 2026-01-01T01:00:00Z |
    evt-ingest -q --time client_timestamp --to "kafka://$KAFKA/events?key=user_id"'
    tell "What evt-window says of these twenty minutes, as far as windows are closed."
    run 'evt-window "kafka://$KAFKA/events?end=latest" -m $HERE/examples/metrics.toml --time client_timestamp --out-of-orderness 30s \
    --emit final --at-end hold -q --late late.jsonl --to metrics.jsonl || [ $? = 1 ]'
    tell "Flink has read everything again since its last checkpoint. Are all rows there, and none twice?"
    run 'until evt-view "kafka://$KAFKA/metrics?end=latest" -q -o jsonl > flink.jsonl
    [ $(wc -l < flink.jsonl) -ge $(wc -l < metrics.jsonl) ]; do sleep 1; done; evt-reconcile metrics.jsonl flink.jsonl --quiet &&
    echo "$(wc -l < flink.jsonl) rows of Flink are the $(wc -l < metrics.jsonl) of evt-window"'
    run 'until evt-view "kafka://$KAFKA/late?end=latest" -q -o jsonl > flink-late.jsonl
    [ $(wc -l < flink-late.jsonl) -ge $(wc -l < late.jsonl) ]; do sleep 1; done; evt-reconcile late.jsonl flink-late.jsonl --quiet &&
    echo "$(wc -l < flink-late.jsonl) late events of Flink are the $(wc -l < late.jsonl) of evt-window"'
}
tell "demo/flink/job/README.md says how to run, watch, stop and change the job; SCALING in evt(7) says when it is worth it."
