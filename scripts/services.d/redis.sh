# shellcheck shell=bash
# Redis with an append-only file: what it answered is written, though not synced, before the answer.

redis_install() {
    needs redis-server redis-server
    needs redis-cli redis-tools
}

redis_run() {
    mkdir -p data
    exec setsid redis-server --bind 127.0.0.1 --port "$2" --dir "$state_dir/$1/data" --daemonize no \
        --save '' --appendonly yes --appendfsync no
}

redis_ready() { [[ $(timeout 5 redis-cli -h 127.0.0.1 -p "$2" ping) == PONG ]]; }
redis_environment() { echo "EVT_REDIS redis://127.0.0.1:$2"; }
