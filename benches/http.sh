#!/usr/bin/env bash
# The HTTP listener with a durable spool beside the smallest axum server that parses the same batches, and the disk's rate
# of fdatasync: what of a figure is ours, what is HTTP, what is the disk.
#
#   scripts/bench http [SECONDS]        # for each batch size (1, 10, 100, 1000) and server; EVT_BENCH_DIR names the disk
set -euo pipefail
seconds=${1:-5}
cargo build --release --quiet --bins
target=$(realpath "${CARGO_TARGET_DIR:-target}")/release
CARGO_TARGET_DIR=$(dirname "$target")/http cargo build --release --quiet --manifest-path benches/http/Cargo.toml
tools=$(dirname "$target")/http/release
work=$(mktemp -d -p "${EVT_BENCH_DIR:-$target}")
server=
trap '[[ -z $server ]] || kill "$server" 2>/dev/null || true; rm -rf "$work"' EXIT
unset EVT_DLQ

# Starts a server and waits until it says where it listens.
serve() {
    : > "$work/said"
    "$@" 2>> "$work/said" &
    server=$!
    until [[ $(< "$work/said") == *"listening on http://"* ]]; do
        kill -0 "$server" 2>/dev/null || { cat "$work/said" >&2; exit 1; }
        sleep 0.05
    done
    host=$(sed -n 's|.*listening on http://||p' "$work/said" | head -n 1)
}
end() {
    kill "$server"
    wait "$server" || true
    server=
}

"$tools/http-load" sync "$work" "$seconds"
echo "axum, parsing only:"
serve "$tools/http-parse-only"
"$tools/http-load" "$host" "$server" "$seconds"
end
echo "evt-ingest, durable spool, events into null: :"
serve "$target/evt-ingest" http://127.0.0.1:0 --spool "$work/spool" --spool-max 16GiB --to null: --dlq null: -q
"$tools/http-load" "$host" "$server" "$seconds"
end
