#!/bin/sh
# Jobs of evt with one and two threads beside DuckDB with as many, in alternating pairs: threads.sh [PAIRS [EVENTS]] (9, 1000000)
set -eu
here=$(dirname "$0")
python=${EVT_PYTHON:-$("$here/../scripts/python")}
PATH=${CARGO_TARGET_DIR:-$here/../target}/release:$PATH exec "$python" "$here/threads.py" "${1:-9}" "${2:-1000000}"
