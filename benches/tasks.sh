#!/usr/bin/env bash
# Twelve everyday tasks with evt, DuckDB, miller, jq and awk: the characters of each command line, and seconds. Compares every
# result with DuckDB's; the exit status is 1 if a result of evt is wrong. EVT_DATA holds the data, EVT_PYTHON names a Python with
# duckdb and pyarrow (scripts/python). The peers are installed if they are missing.
#
#   benches/tasks.sh [ROUNDS [PART]]                # PART selects the tasks with that text in their name
set -euo pipefail
root=$(realpath "$(dirname "$0")/..")
[[ -d ${EVT_DATA:-}/events ]] || { echo "benches/tasks.sh: EVT_DATA must name the data" >&2; exit 2; }
python=${EVT_PYTHON:-$("$root/scripts/python")}
target=$(realpath "${CARGO_TARGET_DIR:-$root/target}")
peers=${EVT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/evt}/peers
unset EVT_DLQ

if [[ ! -e $peers/complete ]]; then
    python3 -m venv "$peers"
    "$peers/bin/pip" install --quiet --disable-pip-version-check duckdb-cli==1.5.6 sqlite-utils==4.2.1 >&2
    touch "$peers/complete"
fi
packages=()
for pair in mlr:miller jq:jq sqlite3:sqlite3 awk:mawk; do
    command -v "${pair%:*}" >/dev/null || packages+=("${pair#*:}")
done
if ((${#packages[@]})); then
    if [[ $EUID != 0 ]] || ! command -v apt-get >/dev/null; then
        echo "benches/tasks.sh: install ${packages[*]} (Debian: apt-get install ${packages[*]})" >&2
        exit 69
    fi
    apt-get update -qq >&2
    apt-get install -qq -y --no-install-recommends "${packages[@]}" >&2
fi
PATH=$target/release:$peers/bin:$PATH exec "$python" "$root/benches/tasks/run.py" "$EVT_DATA/events" "$@"
