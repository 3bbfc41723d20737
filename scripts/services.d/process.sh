# shellcheck shell=bash
# Processes and the state directory: spawn, await, signal, stop.

default_state_dir() {
    local sum
    sum=$(printf '%s' "$here" | cksum)
    echo "${TMPDIR:-/tmp}/evt-services-$(id -u)-${sum%% *}"
}
state_dir=${EVT_SERVICES:-$(default_state_dir)}

# Slots in the block of ports; a broker's controller listens in the slot after it, the registry's management too. Slot 13 is
# the single broker's second one for clients.
slot_of() {
    case $1 in
        kafka) echo 0 ;;
        kafka3.?) echo $((${1#kafka3.} + 1)) ;;
        registry) echo 8 ;;
        postgres) echo 10 ;;
        redis) echo 11 ;;
        s3) echo 12 ;;
        flink.0) echo 14 ;;
        azure) echo 18 ;;
        catalog) echo 19 ;;
        flink.[12]) echo $((${1#flink.} + 15)) ;;
    esac
}
second_slot_of() {
    case $1 in
        kafka3.?) echo $((${1#kafka3.} + 4)) ;;
        *) echo $(($(slot_of "$1") + 1)) ;;
    esac
}

listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Makes the state directory and holds its lock until this process ends, so that two starts do not meet.
claim_state() {
    if [[ ! -d $state_dir ]]; then mkdir -p "$state_dir"; fi
    [[ -O $state_dir && ! -L $state_dir ]] || fail 1 "$state_dir belongs to somebody else: name another in EVT_SERVICES"
    chmod 711 "$state_dir"
    exec {state_lock}>"$state_dir/lock"
    flock -w 600 "$state_lock" || fail 1 "another start holds $state_dir/lock for 10 minutes"
    [[ -s $state_dir/ports ]] || take_ports
}

# Takes a block of 20 ports for this directory. Servers listen seconds after their ports were chosen: so blocks are noted in
# one file per user, and who chooses at the same time sees them. A note holds as long as its directory says the same.
take_ports() {
    local taken base dir
    taken=${TMPDIR:-/tmp}/evt-ports-$(id -u)
    exec {taken_lock}>>"$taken"
    [[ -O $taken && ! -L $taken ]] || fail 1 "$taken belongs to somebody else: name another directory in TMPDIR"
    flock -w 60 "$taken_lock" || fail 1 "another start holds $taken for a minute"
    declare -A blocks=()
    while read -r base dir; do
        if [[ $base == "$(cat "$dir/ports" 2>/dev/null)" ]]; then blocks[$base]=$dir; fi
    done <"$taken"
    choose_ports >"$state_dir/ports"
    blocks[$(<"$state_dir/ports")]=$(realpath "$state_dir")
    for base in "${!blocks[@]}"; do echo "$base ${blocks[$base]}"; done >"$taken"
    exec {taken_lock}>&-
}

# The first port of a block of 20 that is nobody's and wholly free. Where to look first depends on the directory.
choose_ports() {
    local sum tries base slot
    sum=$(printf '%s' "$state_dir" | cksum)
    sum=${sum%% *}
    for ((tries = 0; tries < 614; tries++)); do
        base=$((20000 + 20 * ((sum + tries) % 614)))
        [[ -z ${blocks[$base]:-} ]] || continue
        for ((slot = 0; slot < 20; slot++)); do
            if listening $((base + slot)); then continue 2; fi
        done
        echo "$base"
        return
    done
    fail 1 "no 20 free ports in a row between 20000 and 32279"
}

port_variable() {
    local name=${1%%.*}
    echo "EVT_${name^^}_PORT"
}

# Where a node is to listen: as the environment says, else where it did before, else in its slot.
port_for() {
    local node=$1 name offset=0
    [[ $node != kafka3.* ]] || offset=$((${node#kafka3.} - 1))
    [[ $node != flink.* ]] || offset=${node#flink.}
    name=$(port_variable "$node")
    if [[ -n ${!name:-} ]]; then
        [[ ${!name} =~ ^[0-9]{1,5}$ ]] || fail 2 "$name is not a port: ${!name}"
        echo $((10#${!name} + offset))
    elif [[ -s $state_dir/$node/port ]]; then
        port_of "$node"
    else
        echo $(($(<"$state_dir/ports") + $(slot_of "$node")))
    fi
}
# Where the single broker listens with TLS and passwords.
secure_port() { echo $(($(<"$state_dir/ports") + 13)); }
second_port_for() { echo $(($(<"$state_dir/ports") + $(second_slot_of "$1"))); }

# Where it listens, or listened last.
port_of() { cat "$state_dir/$1/port" 2>/dev/null || true; }
pid_of() { cut -d ' ' -f 1 "$state_dir/$1/pid"; }

# State letter and start time of a process; nothing if there is none.
process_facts() {
    local stat fields
    { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 0
    read -ra fields <<<"${stat##*) }"
    echo "${fields[0]} ${fields[19]}"
}

state_of() {
    local pid began letter now
    if [[ ! -s $state_dir/$1/pid ]]; then
        echo stopped
        return
    fi
    read -r pid began <"$state_dir/$1/pid"
    read -r letter now < <(process_facts "$pid") || true
    if [[ -z ${now:-} || $now != "$began" || $letter == [ZX] ]]; then
        echo dead
    elif [[ $letter == T ]]; then
        echo paused
    else
        echo running
    fi
}

resident_mib() {
    local pid kib=0
    for pid in $(family "$1"); do
        kib=$((kib + $(awk '/^VmRSS/ { print $2 }' "/proc/$pid/status" 2>/dev/null || true) + 0))
    done
    echo $((kib / 1024))
}

# A process and all its descendants (PostgreSQL's are in sessions of their own, so no process group names them).
family() {
    local child
    echo "$1"
    for child in $(pgrep -P "$1" || true); do family "$child"; done
}

# Whether nobody listens there, in a minute: a killed process counts as gone while its last threads still hold its sockets.
is_free() {
    local end=$((SECONDS + 60))
    while listening "$1"; do
        ((SECONDS < end)) || return 1
        sleep 0.05
    done
}

# The server gets a session of its own, so that an interrupted test does not take it along, and none of our descriptors.
spawn() {
    local node=$1 dir=$state_dir/$1 port kind pid
    kind=$(kind_of "$node")
    port=$(port_for "$node")
    is_free "$port" || fail 1 "$node: port $port is taken by another process: name a free one in $(port_variable "$node")"
    mkdir -p "$dir"
    [[ ! -e $dir/log ]] || mv -f "$dir/log" "$dir/log.old"
    echo "$port" >"$dir/port"
    (
        exec {state_lock}>&-
        cd "$dir" || exit
        "${kind}_run" "$node" "$port"
    ) >"$dir/log" 2>&1 </dev/null &
    pid=$!
    read -r _ began < <(process_facts "$pid") || true
    echo "$pid ${began:-gone}" >"$dir/pid"
}

await() {
    local node=$1 kind wait=${EVT_SERVICES_WAIT:-120} port began=$SECONDS
    kind=$(kind_of "$node")
    port=$(port_of "$node")
    until "${kind}_ready" "$node" "$port" >/dev/null 2>&1; do
        if [[ $(state_of "$node") != running ]]; then
            tail -n 20 "$state_dir/$node/log" >&2
            fail 1 "$node ended before it was ready: see $state_dir/$node/log"
        fi
        if ((SECONDS - began >= wait)); then
            tail -n 20 "$state_dir/$node/log" >&2
            fail 1 "$node is not ready after $wait s (EVT_SERVICES_WAIT): see $state_dir/$node/log"
        fi
        sleep 0.1
    done
    say "$node is ready at 127.0.0.1:$port"
}

# Waits until none of the processes is left; false after that many seconds.
gone() {
    local pid facts end=$((SECONDS + $1))
    shift
    for pid; do
        while facts=$(process_facts "$pid"); [[ -n $facts && $facts != [ZX]* ]]; do
            ((SECONDS < end)) || return 1
            sleep 0.05
        done
    done
}

# Waits until no thread of the processes runs; false after a minute. SIGSTOP stops a thread only once the kernel lets it run
# again, and a thread on another processor may answer a client until then.
suspended() {
    local pid end=$((SECONDS + 60))
    for pid; do
        while grep -qsE '^State:[[:space:]]+[^TtZX]' "/proc/$pid/task/"*/status; do
            ((SECONDS < end)) || return 1
            sleep 0.05
        done
    done
}

stop() {
    local node pid pids signal
    declare -A left=()
    for node in "${nodes[@]}"; do
        [[ $(state_of "$node") == running || $(state_of "$node") == paused ]] || continue
        pid=$(pid_of "$node")
        left[$node]=$(family "$pid" | tr '\n' ' ')
        # SIGTERM would have PostgreSQL wait for its clients.
        signal=TERM
        [[ $node != postgres ]] || signal=INT
        kill "-$signal" "$pid" 2>/dev/null || true
        # shellcheck disable=SC2086 # a list of numbers
        kill -CONT ${left[$node]} 2>/dev/null || true
    done
    for node in "${!left[@]}"; do
        read -ra pids <<<"${left[$node]}"
        if ! gone 20 "${pids[@]}"; then
            say "$node does not stop within 20 s: killed"
            kill -KILL "${pids[@]}" 2>/dev/null || true
            gone 60 "${pids[@]}" || fail 1 "$node cannot be killed: ${pids[*]}"
        fi
        say "$node is stopped"
    done
    for node in "${nodes[@]}"; do rm -f "$state_dir/$node/pid"; done
}

# Deletes what this script made in the state directory, and the directory if nothing else is in it.
wipe() {
    local node
    [[ -d $state_dir ]] || return 0
    [[ -O $state_dir ]] || fail 1 "$state_dir belongs to somebody else"
    for node in "${nodes[@]}"; do rm -rf "${state_dir:?}/$node"; done
    if ! compgen -G "$state_dir/*/" >/dev/null; then
        rm -f "$state_dir/ports" "$state_dir/lock"
        rmdir --ignore-fail-on-non-empty "$state_dir"
    fi
}

signal_nodes() {
    local signal=$1 node pids
    for node in "${nodes[@]}"; do
        [[ $(state_of "$node") == running || $(state_of "$node") == paused ]] || fail 1 "$node is not running"
        # Stopped first, it has no more children while they are listed.
        [[ $signal != KILL ]] || kill -STOP "$(pid_of "$node")" 2>/dev/null || true
        mapfile -t pids < <(family "$(pid_of "$node")")
        kill "-$signal" "${pids[@]}" 2>/dev/null || true
        [[ $signal != KILL ]] || gone 60 "${pids[@]}" || fail 1 "$node cannot be killed: ${pids[*]}"
        [[ $signal != STOP ]] || suspended "${pids[@]}" || fail 1 "$node cannot be paused: ${pids[*]}"
    done
}
kill_nodes() { signal_nodes KILL; }
pause_nodes() { signal_nodes STOP; }
resume_nodes() { signal_nodes CONT; }
log_nodes() {
    local node
    for node in "${nodes[@]}"; do echo "$state_dir/$node/log"; done
}
