# shellcheck shell=bash
# PostgreSQL. It refuses to run as root, so that root runs it as the user postgres.

postgres_install() {
    needs postgres postgresql
    needs psql postgresql-client
}

postgres_run() {
    local dir=$state_dir/$1 port=$2 as=()
    if [[ $(id -u) == 0 ]]; then
        as=(setpriv --reuid=postgres --regid=postgres --init-groups)
        chown postgres: "$dir"
        "${as[@]}" test -x "$dir" || fail 1 "the user postgres cannot reach $dir: name another directory in EVT_SERVICES"
    fi
    if [[ ! -e $dir/password ]]; then
        # shellcheck disable=SC2016 # its own argument
        od -An -N16 -tx1 /dev/urandom | tr -d ' \n' | "${as[@]}" sh -c 'umask 077; cat >"$1"' - "$dir/password"
    fi
    postgres_unlock "$dir/data/postmaster.pid"
    [[ -e $dir/data/global/pg_control ]] || postgres_initialize "$dir" "${as[@]}"
    exec setsid "${as[@]}" "$(postgres_program postgres)" -D "$dir/data" -p "$port"
}

# A killed server leaves its lock. Where nobody reaps it (a container without an init) it stays a zombie, and PostgreSQL takes it
# for one that runs.
postgres_unlock() {
    local pid facts
    [[ -s $1 ]] || return 0
    read -r pid <"$1"
    facts=$(process_facts "$pid")
    if [[ -z $facts || $facts == [ZX]* ]]; then rm -f "$1"; fi
}

# Clients of several versions may be about: the server and its initdb must be of one.
postgres_program() {
    if [[ -n $postgres_bin ]]; then echo "${postgres_bin%/}/$1"; else command -v "$1"; fi
}

# The settings are in the file, so that a test can change them with ALTER SYSTEM.
postgres_initialize() {
    local dir=$1
    shift
    rm -rf "$dir/data.part"
    "$@" "$(postgres_program initdb)" -D "$dir/data.part" -U evt -A scram-sha-256 --pwfile="$dir/password" -E UTF8 \
        --locale=C.UTF-8 --no-sync --no-instructions
    "$@" tee -a "$dir/data.part/postgresql.conf" >/dev/null <<'END'
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
timezone = 'UTC'
log_timezone = 'UTC'
fsync = off
shared_buffers = 64MB
END
    echo 'CREATE DATABASE evt;' | "$@" "$(postgres_program postgres)" --single -D "$dir/data.part" postgres
    "$@" mv "$dir/data.part" "$dir/data"
}

postgres_uri() { echo "postgres://evt:$(<"$state_dir/$1/password")@127.0.0.1:$2/evt"; }
postgres_ready() { timeout 5 psql --no-psqlrc --quiet --command 'SELECT 1' "$(postgres_uri "$@")"; }
postgres_environment() { echo "EVT_POSTGRES $(postgres_uri "$@")"; }
