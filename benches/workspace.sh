# Sourced by the scripts here: puts the release binaries first in PATH, and changes into a directory that is removed at the end.
root=$(realpath "$(dirname "${BASH_SOURCE[0]}")/..")
target=$(realpath "${CARGO_TARGET_DIR:-$root/target}")
PATH=$target/release:$PATH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset EVT_DLQ
cd "$work"
