#!/usr/bin/env bash
# Instructions per event of sixteen jobs, counted by callgrind, beside the recorded figures: instructions/run.py.
#
#   benches/instructions.sh [JOB…]
#   benches/instructions.sh --check                 # exit 1 if a figure is more than 3 % higher than the recorded one
#   benches/instructions.sh --record REASON [JOB…]  # writes instructions/figures.json
set -euo pipefail
root=$(realpath "$(dirname "$0")/..")
target=$(realpath "${CARGO_TARGET_DIR:-$root/target}")
if ! command -v valgrind >/dev/null; then
    if [[ $EUID != 0 ]] || ! command -v apt-get >/dev/null; then
        echo "benches/instructions.sh: install valgrind (Debian: apt-get install valgrind)" >&2
        exit 69
    fi
    apt-get update -qq >&2
    apt-get install -qq -y --no-install-recommends valgrind >&2
fi
PATH=$target/release:$PATH PYTHONDONTWRITEBYTECODE=1 exec python3 "$root/benches/instructions/run.py" "$@"
