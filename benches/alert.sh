#!/usr/bin/env bash
# The cost of rules in evt-alert: 10,000 rules beside 100 rules on the same 100 metrics, in alternating runs. CPU-seconds.
#
#   benches/alert.sh [ROUNDS [EVENTS]]
set -euo pipefail
rounds=${1:-3}
events=${2:-1000000}
source "$(dirname "$0")/workspace.sh"
python=${EVT_PYTHON:-$("$root/scripts/python")}

evt-gen -q --events "$events" --seed 1 >events.jsonl
for ((n = 0; n < 100; n++)); do
    printf '[[metric]]\nname = "m%d"\nsize = "1m"\nwhere = "latency_ms > %d"\nby = ["source"]\n\n' "$n" $((n * 5))
done >metrics.toml
rules() { # COUNT: rules that differ in their threshold only
    for ((n = 0; n < $1; n++)); do
        printf '[[rule]]\nname = "r%d"\nmetric_name = "m%d"\ncondition = "gt"\nthreshold = %d\nwindow_seconds = 60\n\n' \
            "$n" $((n % 100)) $((1000000000 + n))
    done
}
rules 100 >few.toml
rules 10000 >many.toml
measure() {
    echo -n "$1: " >&2
    "$python" "$root/benches/reconcile.py" measure "${@:2}"
}
for ((round = 1; round <= rounds; round++)); do
    for rules in few many; do
        rm -f state.db*
        measure "$rules" evt-alert --once -q events.jsonl --rules "$rules.toml" -m metrics.toml --state state.db
    done
done
