# shellcheck shell=bash
# What the scripts share: where things are, installing what is missing, and starting and stopping one process.
# Sourced, never run. Every function is idempotent.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CONFIG=${TERTULIA_CONFIG:-$ROOT/cluster.toml}
BIN=${CARGO_TARGET_DIR:-$ROOT/target}/release

# Seconds that a process gets to become ready, or to stop when asked to.
READY_SECONDS=60
STOP_SECONDS=15
# Postgres writes out everything first: thousands of files after a cluster was made.
POSTGRES_STOP_SECONDS=90
# A log above this size is put aside (one older copy is kept) when its process starts.
LOG_BYTES_MAX=$((64 * 1024 * 1024))

say() { printf '%s\n' "$*"; }
die() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }

# The usage text of a script is its leading comment.
usage() { sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "$0"; }
misuse() { usage >&2; exit 2; }

# Where everything that a running cluster writes lives. The configuration's paths are inside it, whatever it is.
use_data() {
    mkdir -p "$1"
    DATA=$(cd "$1" && pwd)
    export TERTULIA_DATA=$DATA
    export TERTULIA__CLUSTER__DATA_DIR=$DATA/data
    export TERTULIA__TLS__CA_FILE=$DATA/pki/ca.pem
    export TERTULIA__TLS__DIR=$DATA/pki
    export TERTULIA__AUTH__PUBLIC_KEY_FILE=$DATA/pki/jwt.pub.pem
    export TERTULIA__AUTH__DEV_SIGNING_KEY_FILE=$DATA/pki/jwt.key.pem
}

ctl() { "$BIN/tertuliactl" --config "$CONFIG" "$@"; }

# --- installing ------------------------------------------------------------------------------------------------------

as_root() {
    if [[ $EUID == 0 ]]; then
        "$@"
    elif command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [[ -t 0 ]]; }; then
        sudo "$@"
    else
        return 1
    fi
}

apt_install() {
    command -v apt-get >/dev/null || die "this needs $*, and there is no apt-get here: install them, then run me again"
    say "installing $*"
    local output install=(apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 "$@")
    # The package lists may be missing or stale: fetched only where it does not work without.
    if output=$(as_root env DEBIAN_FRONTEND=noninteractive "${install[@]}" 2>&1); then return; fi
    if output=$(as_root apt-get update -qq 2>&1 &&
        as_root env DEBIAN_FRONTEND=noninteractive "${install[@]}" 2>&1); then return; fi
    [[ -z $output ]] || say "$output" >&2
    die "could not install what is missing; as root, run: apt-get update && apt-get install -y $*"
}

# The newest installed PostgreSQL's programs; empty where there is none from version 15 on.
postgres_bin() {
    local candidate best=0 version dir
    PG_BIN=
    for candidate in /usr/lib/postgresql/*/bin/initdb $(type -ap initdb); do
        [[ -x $candidate ]] || continue
        dir=$(dirname "$(readlink -f "$candidate")")
        [[ -x $dir/postgres ]] || continue
        version=$("$dir/postgres" --version | sed -E 's/[^0-9]*([0-9]+).*/\1/')
        if ((version >= 15 && version > best)); then best=$version PG_BIN=$dir; fi
    done
    [[ -n $PG_BIN ]]
}

install_servers() {
    if ! postgres_bin; then
        # The distribution's own server and its "main" cluster are not needed: keep them from being made and started.
        apt_install postgresql-common
        as_root mkdir -p /etc/postgresql-common/createcluster.d
        as_root sh -c 'echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.d/tertulia.conf'
        apt_install postgresql
        postgres_bin || die "PostgreSQL 15 or newer is needed; apt has installed something older"
    fi
    if ! command -v redis-server >/dev/null; then
        apt_install redis-server
        if [[ -d /run/systemd/system ]]; then as_root systemctl disable --quiet --now redis-server || true; fi
    fi
}

install_build_tools() {
    command -v cargo >/dev/null || die "Rust is needed: see https://rustup.rs"
    command -v cc >/dev/null || apt_install build-essential
}

install_browser() {
    command -v chromium >/dev/null || apt_install chromium chromium-sandbox fonts-liberation
}

# For the Python program in README.md.
install_python_client() {
    local python
    for python in python3 /usr/bin/python3; do
        if "$python" -c 'import websockets' 2>/dev/null; then return; fi
    done
    apt_install python3 python3-websockets
}

install_node() {
    command -v node >/dev/null || apt_install nodejs
}

install_shellcheck() {
    command -v shellcheck >/dev/null || apt_install shellcheck
}

# For the faults of disks, and for those of the network, which only root can make.
install_fault_tools() {
    command -v strace >/dev/null || apt_install strace
    [[ $EUID == 0 ]] || return 0
    command -v ip >/dev/null || apt_install iproute2
    command -v iptables >/dev/null || apt_install iptables
}

# The official Socket.IO clients that the scenario suite drives (tests/skins), as their lock files say, in a folder that
# tests/support/src/actor/bridge.rs knows.
install_socketio_clients() {
    local from=$ROOT/tests/skins to=$ROOT/target/socketio-clients wanted
    install_node
    mkdir -p "$to"
    # Beside its packages, where node looks for them.
    install -m 644 "$from/bridge.mjs" "$from/package.json" "$from/package-lock.json" "$from/.npmrc" "$to"
    wanted=$(cat "$from/package-lock.json" "$from/requirements.txt" | sha256sum)
    # Written last: a half-made folder is never taken for a whole one.
    if [[ $(cat "$to/installed" 2>/dev/null) == "$wanted" ]]; then return; fi
    say "installing the Socket.IO clients"
    command -v npm >/dev/null || apt_install npm
    (cd "$to" && npm ci --silent) || die "npm could not install the Socket.IO client of tests/skins"
    make_venv "$to/venv" || { apt_install python3 python3-venv && make_venv "$to/venv"; } ||
        die "no Python environment could be made in $to/venv"
    "$to/venv/bin/python3" -m pip install --quiet --disable-pip-version-check --no-deps -r "$from/requirements.txt" ||
        die "pip could not install the Socket.IO client of tests/skins"
    printf '%s\n' "$wanted" >"$to/installed"
}

make_venv() {
    rm -rf "$1"
    python3 -m venv "$1" 2>/dev/null || /usr/bin/python3 -m venv "$1" 2>/dev/null
}

# For the test of the OpenAPI document (tests/cluster/tests/openapi.rs), as its lock file says.
install_schemathesis() {
    local from=$ROOT/tests/rest/requirements.txt to=$ROOT/target/schemathesis wanted
    mkdir -p "$to"
    wanted=$(sha256sum <"$from")
    # Written last: a half-made folder is never taken for a whole one.
    if [[ $(cat "$to/installed" 2>/dev/null) == "$wanted" ]]; then return; fi
    say "installing schemathesis"
    make_venv "$to/venv" || { apt_install python3 python3-venv && make_venv "$to/venv"; } ||
        die "no Python environment could be made in $to/venv"
    "$to/venv/bin/python3" -m pip install --quiet --disable-pip-version-check --no-deps -r "$from" ||
        die "pip could not install schemathesis"
    printf '%s\n' "$wanted" >"$to/installed"
}

# --- testing ---------------------------------------------------------------------------------------------------------

# The chat page's modules that need no browser.
test_page() {
    local tests=("$ROOT"/router/page/tests/*.mjs)
    [[ -e ${tests[0]} ]] || die "the page has no tests in router/page/tests"
    node --test "${tests[@]}"
}

# --- one process -----------------------------------------------------------------------------------------------------

# A pid file holds the pid and the process's start time, so that a reused pid is never taken for ours.
start_time() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

pid_of() {
    local pid started
    { read -r pid && read -r started; } 2>/dev/null <"$DATA/run/$1.pid" || return 1
    [[ -n $started && $(start_time "$pid") == "$started" ]] || return 1
    # A zombie keeps its start time but is gone.
    ! grep -qs '^State:.Z' "/proc/$pid/status" || return 1
    printf '%s' "$pid"
}

# spawn NAME COMMAND…: in the background, in a session of its own, with all the open files it may have.
spawn() {
    local name=$1 log=$DATA/log/$1.log pid
    shift
    if [[ -f $log && $(stat -c %s "$log") -gt $LOG_BYTES_MAX ]]; then mv -f "$log" "$log.1"; fi
    ulimit -n "$(ulimit -Hn)"
    # 9 is the lock of the calling script: it must not outlive it.
    setsid "$@" </dev/null >>"$log" 2>&1 9>&- &
    pid=$!
    printf '%s\n%s\n' "$pid" "$(start_time "$pid")" >"$DATA/run/$name.pid"
}

# wait_until NAME COMMAND…: until the command succeeds; fails with the log's end when the process dies or takes too long.
wait_until() {
    local name=$1 deadline=$((SECONDS + READY_SECONDS))
    shift
    until "$@"; do
        if ! pid_of "$name" >/dev/null || ((SECONDS >= deadline)); then
            tail -n 15 "$DATA/log/$name.log" >&2 || true
            die "$name did not become ready; its log is $DATA/log/$name.log"
        fi
        sleep 0.1
    done
}

# http_ok HOST:PORT PATH [TEXT]: whether a GET is answered with 200, and with TEXT in the answer. No curl needed.
http_ok() {
    local answer
    answer=$(
        exec 2>/dev/null
        exec 3<>"/dev/tcp/${1%:*}/${1##*:}" || exit 1
        printf 'GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "$2" "$1" >&3
        timeout 5 cat <&3
    ) || return 1
    [[ $answer == "HTTP/1.1 200"*"${3-}"* ]]
}

# stop_process NAME [SIGNAL]: asks, waits, and kills what does not go.
stop_process() {
    local name=$1 signal=${2:-TERM} pid deadline=$((SECONDS + STOP_SECONDS))
    if [[ $name == postgres ]]; then deadline=$((SECONDS + POSTGRES_STOP_SECONDS)); fi
    if pid=$(pid_of "$name"); then
        kill -s CONT "$pid" 2>/dev/null || true
        kill -s "$signal" "$pid" 2>/dev/null || true
        while pid_of "$name" >/dev/null; do
            if ((SECONDS >= deadline)); then
                say "$name does not stop: killing it"
                kill -s KILL "$pid" 2>/dev/null || true
                deadline=$((SECONDS + STOP_SECONDS))
            fi
            sleep 0.05
        done
    fi
    rm -f "$DATA/run/$name.pid"
}

# --- the cluster's processes -----------------------------------------------------------------------------------------

# Reads what runs where from the configuration, through the one program that knows how to.
read_endpoints() {
    NODES=() ROUTERS=() DATABASES=()
    declare -gA ADDRESS
    local endpoints kind id rest
    # What is wrong with the configuration, it says itself.
    endpoints=$(ctl endpoints) || exit 1
    while read -r kind id rest; do
        case $kind in
            node) NODES+=("$id") ADDRESS[node-$id]=$rest ;;
            router) ROUTERS+=("$id") ADDRESS[router-$id]=$rest ;;
            store) read -r PG_HOST PG_PORT PG_USER database <<<"$rest" && DATABASES+=("$database") ;;
            redis) REDIS_ADDRESS=$id ;;
        esac
    done <<<"$endpoints"
    [[ ${#NODES[@]} -gt 0 && ${#ROUTERS[@]} -gt 0 ]] || die "no nodes or no routers in $CONFIG"
}

process_names() {
    local id
    printf 'postgres\nredis\n'
    for id in "${NODES[@]}"; do printf 'node-%s\n' "$id"; done
    for id in "${ROUTERS[@]}"; do printf 'router-%s\n' "$id"; done
}

is_ready() {
    case $1 in
        postgres) "$PG_BIN/pg_isready" -q -h "$PG_HOST" -p "$PG_PORT" -d postgres -U "$PG_USER" ;;
        redis) [[ $(redis-cli -h "${REDIS_ADDRESS%:*}" -p "${REDIS_ADDRESS##*:}" ping 2>/dev/null) == PONG ]] ;;
        *) http_ok "${ADDRESS[$1]}" /health/ready ;;
    esac
}

# reaches_all ROUTER: whether it is connected to every node that owns slots.
reaches_all() {
    http_ok "${ADDRESS[$1]}" /health/ready '"warnings":[]'
}

# start NAME: does nothing where it runs already. Does not wait.
start() {
    if pid_of "$1" >/dev/null; then return; fi
    case $1 in
        postgres) start_postgres ;;
        redis) start_redis ;;
        node-*)
            : "${TERTULIA__NODE__WORKER_THREADS=$(worker_threads)}"
            export TERTULIA__NODE__WORKER_THREADS
            spawn "$1" "$BIN/tertulia-node" --config "$CONFIG" --id "${1#node-}"
            ;;
        router-*)
            : "${TERTULIA__ROUTER__WORKER_THREADS=$(worker_threads)}"
            # All clients are this machine's own, and scripts/bench opens sessions as fast as it can: that is no storm.
            : "${TERTULIA__ROUTER__HANDSHAKES_PER_SECOND=10000}"
            # And each of its people sends more than people do.
            : "${TERTULIA__LIMITS__ENABLED=false}"
            export TERTULIA__ROUTER__WORKER_THREADS TERTULIA__ROUTER__HANDSHAKES_PER_SECOND TERTULIA__LIMITS__ENABLED
            spawn "$1" "$BIN/tertulia-router" --config "$CONFIG" --id "${1#router-}"
            ;;
    esac
    say "started $1"
}

# Threads for each node and router: they share this machine's cores, where a process on a machine of its own takes one a
# core. With more they get in each other's way.
worker_threads() {
    local threads=$(($(nproc) / (${#NODES[@]} + ${#ROUTERS[@]})))
    echo $((threads > 0 ? threads : 1))
}

# Postgres refuses to run as root: there it runs as the package's own user.
PG_RUN=()
if [[ $EUID == 0 ]]; then PG_RUN=(setpriv --reuid=postgres --regid=postgres --init-groups --); fi

# Makes the database folder, once; prints where it is.
postgres_dir() {
    local dir=$DATA/postgres elsewhere
    if [[ ! -e $dir ]]; then
        mkdir -m 700 "$dir"
        if [[ $EUID == 0 ]]; then
            id postgres >/dev/null 2>&1 || die "no user 'postgres' to run PostgreSQL as (as root it does not run)"
            chown postgres: "$dir"
            # A checkout under /root, say, is closed to other users: the database then lives elsewhere, behind a link.
            if ! "${PG_RUN[@]}" test -w "$dir" 2>/dev/null; then
                elsewhere=/var/tmp/tertulia-$(printf '%s' "$DATA" | sha256sum | cut -c1-12)
                rmdir "$dir"
                install -d -m 700 -o postgres -g postgres "$elsewhere"
                ln -s "$elsewhere" "$dir"
            fi
        fi
    fi
    readlink -f "$dir"
}

start_postgres() {
    local dir log=$DATA/log/postgres.log
    dir=$(postgres_dir)
    # From the root folder: the user postgres may have no access to ours.
    cd / || return
    if [[ ! -f $dir/data/PG_VERSION ]]; then
        rm -rf "$dir/data.new"
        "${PG_RUN[@]}" "$PG_BIN/initdb" --pgdata="$dir/data.new" --username="$PG_USER" --auth=trust --encoding=UTF8 \
            --locale=C >>"$log" 2>&1 || die "initdb failed; see $log"
        "${PG_RUN[@]}" sh -c "echo \"include '../tertulia.conf'\" >>'$dir/data.new/postgresql.conf'"
        # Renamed last: a half-made folder is never taken for a whole one.
        mv "$dir/data.new" "$dir/data"
    fi
    # Rewritten at every start, so that it follows the configuration and this script.
    postgres_settings "$dir" | "${PG_RUN[@]}" tee "$dir/tertulia.conf" >/dev/null
    # One that was just killed leaves children, which keep the next from starting until they have noticed.
    local deadline=$((SECONDS + STOP_SECONDS))
    until is_ready postgres || ((SECONDS >= deadline)); do
        pid_of postgres >/dev/null || spawn postgres "${PG_RUN[@]}" "$PG_BIN/postgres" -D "$dir/data"
        sleep 0.2
    done
    cd "$ROOT" || return
}

# For a development machine of two cores. Durability is not negotiable: fsync and synchronous_commit stay on.
postgres_settings() {
    # A Unix socket's path may have 107 bytes.
    local sockets=
    if ((${#1} < 80)); then sockets=$1; fi
    cat <<END
listen_addresses = '$PG_HOST'
port = $PG_PORT
unix_socket_directories = '$sockets'
max_connections = 200
# The tables have one partition per slot: one migration locks them all.
max_locks_per_transaction = 512
fsync = on
synchronous_commit = on
wal_level = logical
max_wal_senders = 32
max_replication_slots = 32
max_worker_processes = 32
max_logical_replication_workers = 24
shared_buffers = 512MB
wal_buffers = 16MB
min_wal_size = 1GB
max_wal_size = 4GB
checkpoint_timeout = 15min
# Statements are short: compiling them or showing them in the process list costs more than it gives.
jit = off
update_process_title = off
autovacuum_max_workers = 2
END
}

create_databases() {
    local database
    for database in "${DATABASES[@]}"; do
        [[ $(psql_admin -c "SELECT 1 FROM pg_database WHERE datname = '$database'") == 1 ]] ||
            psql_admin -c "CREATE DATABASE \"$database\"" >/dev/null
    done
}

psql_admin() { "$PG_BIN/psql" -XAtq -v ON_ERROR_STOP=1 -h "$PG_HOST" -p "$PG_PORT" -U "$PG_USER" -d postgres "$@"; }

start_redis() {
    mkdir -p "$DATA/redis"
    cat >"$DATA/redis/redis.conf" <<END
bind ${REDIS_ADDRESS%:*}
port ${REDIS_ADDRESS##*:}
dir $DATA/redis
save ""
appendonly yes
appendfsync everysec
END
    spawn redis redis-server "$DATA/redis/redis.conf"
}
