# shellcheck shell=bash
# Installations, kept in the cache: Maven, pip and Go through their own clients, Debian packages through apt-get.

cache=${EVT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/evt}/services
debian=$cache/debian
postgres_bin=$(compgen -G '/usr/lib/postgresql/*/bin/' | sort -V | tail -n 1 || true)
PATH=$PATH:$postgres_bin:$debian/bin

# Calls a function with an empty directory that becomes NAME in the cache when the function is done; nothing if it is there.
# What the function prints is shown only if it fails.
once() {
    local name=$1 began=$SECONDS
    shift
    [[ ! -d $cache/$name ]] || return 0
    mkdir -p "$cache"
    local lock
    exec {lock}>"$cache/$name.lock"
    flock -w 1200 "$lock" || fail 1 "another installation holds $cache/$name.lock for 20 minutes"
    if [[ ! -d $cache/$name ]]; then
        say "installing $name into $cache"
        rm -rf "$cache/$name.part"
        mkdir "$cache/$name.part"
        if ! "$@" "$cache/$name.part" >"$cache/$name.log" 2>&1; then
            tail -n 20 "$cache/$name.log" >&2
            fail 1 "$name could not be installed: see $cache/$name.log"
        fi
        mv "$cache/$name.part" "$cache/$name"
        say "installed $name in $((SECONDS - began)) s"
    fi
    exec {lock}>&-
}

# The path of a Java of at least that version: JAVA_HOME's, the PATH's, one that Debian keeps. Nothing if there is none.
java_of() {
    local least=$1 java version
    for java in "${JAVA_HOME:-/none}/bin/java" "$(command -v java || true)" /usr/lib/jvm/*/bin/java; do
        [[ -x $java ]] || continue
        version=$("$java" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p')
        if ((${version:-0} >= least)); then
            echo "$java"
            return
        fi
    done
}

maven() {
    timeout 900 mvn --batch-mode --quiet -Dstyle.color=never "$@"
}

# Makes sure of a command that a Debian package has.
needs() {
    local command=$1 package=$2
    command -v "$command" >/dev/null && return
    if ! command -v apt-get >/dev/null; then
        fail 69 "$command is missing: install it (Debian calls the package $package)"
    elif [[ $(id -u) == 0 ]]; then
        apt_install "$package" || fail 69 "$command is missing: apt-get install $package"
    else
        [[ $package != maven ]] || fail 69 "mvn is missing: install it (Debian: sudo apt-get install maven)"
        unpack "$package" || fail 69 "$command is missing: install it (Debian: sudo apt-get install $package)"
    fi
    hash -r
    postgres_bin=$(compgen -G '/usr/lib/postgresql/*/bin/' | sort -V | tail -n 1 || true)
    PATH=$PATH:$postgres_bin
    command -v "$command" >/dev/null || fail 69 "$command is still missing after the installation of $package"
}

# The packages would start servers of their own: not while this file says no.
apt_install() (
    local policy=/usr/sbin/policy-rc.d
    if [[ ! -e $policy ]]; then
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    say "installing Debian's $1"
    export DEBIAN_FRONTEND=noninteractive
    local install=(timeout 600 apt-get install -qq -y --no-install-recommends -o DPkg::Lock::Timeout=300 "$1")
    "${install[@]}" >/dev/null || { timeout 300 apt-get update -qq && "${install[@]}" >/dev/null; }
)

# Without root: unpacks a package and what it depends on into the cache, with a starter for each program in debian/bin. First
# by the machine's lists of packages; where these are missing or stale, by lists of our own.
unpack() {
    local lists=(-o "Dir::State::lists=$cache/apt/lists" -o "Dir::Cache=$cache/apt")
    mkdir -p "$cache/apt/lists/partial" "$cache/apt/archives/partial" "$debian/bin"
    say "unpacking Debian's $1 into $debian"
    fetch_packages "$1" || {
        # Its status says nothing: hooks that clean up after it may need root.
        timeout 300 apt-get "${lists[@]}" -qq update >"$cache/apt/log" 2>&1 || true
        fetch_packages "$1" "${lists[@]}" || return
    }
    local archive
    for archive in "$cache"/apt/fetched/*.deb; do dpkg-deb -x "$archive" "$debian" || return; done
    rm -rf "$cache/apt/fetched"
    make_starters
}

fetch_packages() {
    local package=$1 names
    shift
    rm -rf "$cache/apt/fetched"
    mkdir -p "$cache/apt/fetched"
    # Not the C library: it must be the one of the machine's loader.
    names=$(timeout 60 apt-get "$@" install --simulate --no-install-recommends "$package" 2>/dev/null |
        awk '$1 == "Inst" && $2 !~ /^libc6/ { print $2 }')
    [[ -n $names ]] || return
    # shellcheck disable=SC2086 # a list of names
    (cd "$cache/apt/fetched" && timeout 600 apt-get "$@" -qq download $names >&2)
}

make_starters() {
    local program libraries
    libraries=$(printf '%s:' "$debian"/usr/lib/*-linux-gnu*)
    # shellcheck disable=SC2016 # for the starter to expand
    for program in "$debian"/usr/bin/{kcat,redis-*} "$debian"/usr/lib/postgresql/*/bin/*; do
        [[ -x $program ]] || continue
        printf '#!/bin/sh\nLD_LIBRARY_PATH=%q${LD_LIBRARY_PATH:-} exec %q "$@"\n' "$libraries" "$program" \
            >"$debian/bin/${program##*/}"
        chmod 755 "$debian/bin/${program##*/}"
    done
}
