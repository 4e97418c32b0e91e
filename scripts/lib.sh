# shellcheck shell=bash
# What the scripts share: messages, waiting, and control of the stack, which runs as containers or as processes.
# Sourced from the repository's folder; works with bash 3.2 and BSD tools.

readonly SERVICES="resonate-server baz bar foo" # in the order in which they start
readonly VENV=$PWD/.venv
STACK_DIR=${STACK_DIR:-.local} # pids, logs and database of the stack as processes
case "$STACK_DIR" in /*) ;; *) STACK_DIR=$PWD/$STACK_DIR ;; esac
readonly STACK_DIR

# ── messages ────────────────────────────────────────────────────────────────────────────────────────────────

say() { printf '%s\n' "$*" >&2; }

die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

bad_usage() {
    printf '%s: %s; see %s --help\n' "$(basename "$0")" "$*" "$0" >&2
    exit 2
}

need_value() { # OPTION ARGUMENTS_LEFT: the option itself counts as one
    [ "$2" -ge 2 ] || bad_usage "$1 needs a value"
}

need_seconds() { # OPTION VALUE
    [[ "$2" =~ ^(0|[1-9][0-9]*)(\.[0-9]+)?$ ]] || bad_usage "$1 needs a number of seconds, not '$2'"
}

need_some_seconds() { # OPTION VALUE: more than none
    need_seconds "$1" "$2"
    [[ "$2" =~ [1-9] ]] || bad_usage "$1 must be more than 0"
}

quietly() { # COMMAND...: shows its output only if it fails
    local output
    output=$("$@" 2>&1) || {
        local status=$?
        printf '%s\n' "$output" >&2
        return "$status"
    }
}

# ── time ────────────────────────────────────────────────────────────────────────────────────────────────────

now_ms() { # milliseconds since the epoch
    local now=${EPOCHREALTIME:-} # bash 5; the separator depends on the locale
    if [ -n "$now" ]; then
        now=${now/[^0-9]/}
        echo "${now%???}"
    else
        perl -MTime::HiRes=time -e 'printf "%.0f\n", time() * 1000'
    fi
}

seconds() { # MS: as a decimal number of seconds
    printf '%d.%03d' "$(($1 / 1000))" "$(($1 % 1000))"
}

wait_until() { # SECONDS COMMAND...: repeats the command until it succeeds; fails when the time is over
    local deadline=$(($(now_ms) + $1 * 1000))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$(now_ms)" -lt "$deadline" ] || return 1
        sleep 0.2
    done
}

# What must not be ended half-way runs in a process group of its own, which Ctrl-C does not reach. The script itself can be
# told to leave meanwhile; it has to call finish_shielded before it does anything else.
shielded="" # its pid

shield() { # COMMAND...
    set -m
    "$@" </dev/null &
    shielded=$!
    set +m
    finish_shielded
}

finish_shielded() { # its exit status
    local status=0
    [ -n "$shielded" ] || return 0
    wait "$shielded" || status=$?
    shielded=""
    return "$status"
}

# ── processes ───────────────────────────────────────────────────────────────────────────────────────────────

process_gone() { # PID; a zombie that nobody has reaped yet is gone, too
    case "$(ps -o stat= -p "$1" 2>/dev/null)" in
        "" | *Z*) return 0 ;;
    esac
    return 1
}

living_pids() { # of the pids on stdin, prints those that live
    local pid
    while read -r pid; do
        process_gone "$pid" || echo "$pid"
    done
}

# ── HTTP ────────────────────────────────────────────────────────────────────────────────────────────────────

local_curl() { curl --silent --noproxy '*' "$@"; } # a proxy cannot reach this machine's own ports

server_curl() { # with the token, if there is one; not as an argument, which everybody on this machine can read
    if [ -n "${RESONATE_TOKEN:-}" ]; then
        local_curl --header @<(printf 'Authorization: Bearer %s\n' "$RESONATE_TOKEN") "$@"
    else
        local_curl "$@"
    fi
}

# ── Docker ──────────────────────────────────────────────────────────────────────────────────────────────────

# shellcheck disable=SC2034 # for the scripts
readonly OFFICIAL_IMAGE=python:3.13-slim # what docker-compose.yml builds on if nothing else is said
readonly OLDEST_ENGINE=25 # the first with a health check's start_interval

engine_version() { docker version --format '{{.Server.Version}}' 2>/dev/null; }
engine_answers() { engine_version >/dev/null; }
compose_answers() { docker compose version >/dev/null 2>&1; }
buildx_answers() { docker buildx version >/dev/null 2>&1; }

docker_obstacle() { # prints why containers cannot be used; prints nothing if they can
    local version
    if ! command -v docker >/dev/null; then
        echo "there is no 'docker' command"
    elif ! version=$(engine_version); then
        echo "no Docker engine answers"
    elif [ "${version%%.*}" -lt "$OLDEST_ENGINE" ] 2>/dev/null; then
        echo "the Docker engine is $version, $OLDEST_ENGINE or newer is needed"
    elif ! compose_answers; then
        echo "'docker compose' does not answer"
    elif ! buildx_answers; then
        echo "'docker buildx' does not answer"
    fi
}

# ── Debian ──────────────────────────────────────────────────────────────────────────────────────────────────

apt_get() {
    DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 "$@" </dev/null
}

debian_codename() { (. /etc/os-release && echo "${VERSION_CODENAME:-unknown}") 2>/dev/null || echo unknown; }

debian_mirror() { # prints the address this machine takes Debian's main packages from
    # shellcheck disable=SC2016 # apt expands these, not the shell
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        awk -v suite="$(debian_codename)" '$2 == suite && $3 == "main" { print $1; exit }'
}

# ── the stack as processes ──────────────────────────────────────────────────────────────────────────────────

# Every process carries this on its command line: so a pid that some other program has by now is recognised.
readonly PROCESS_MARK=durable-rpc-stack=$STACK_DIR

# A process is known by the name of its service; a second one of the same service has a number: bar-2.
service_of() { echo "${1%-[0-9]*}"; } # NAME

pid_file() { echo "$STACK_DIR/run/$1.pid"; }
log_file() { echo "$STACK_DIR/log/$1.log"; }
health_file() { echo "$STACK_DIR/run/$1.health"; }
token_file() { echo "$STACK_DIR/run/token"; }

noted_names() { # SERVICE FOLDER SUFFIX: of the processes of the service that have such a file
    local file
    for file in "$STACK_DIR/$2/$1$3" "$STACK_DIR/$2/$1"-[0-9]*"$3"; do
        [ ! -f "$file" ] || basename "$file" "$3"
    done
}

process_pid() { # NAME: prints the pid of the process if it lives and is ours
    local pid
    pid=$(cat "$(pid_file "$1")" 2>/dev/null) || return 1
    process_gone "$pid" && return 1
    case "$(ps -ww -o command= -p "$pid")" in
        *"$PROCESS_MARK "*) echo "$pid" ;;
        *) return 1 ;;
    esac
}

start_process() { # NAME: in a session of its own, so that it outlives the script and its terminal
    local arguments="" token
    process_pid "$1" >/dev/null && return 0
    [ "$1" = resonate-server ] && arguments=serve
    mkdir -p "$STACK_DIR/run" "$STACK_DIR/log"
    rm -f "$(health_file "$1")"
    token=$(stack_token processes)
    # shellcheck disable=SC2086 # one word or none
    RESONATE_URL=http://127.0.0.1:$(resonate_port) \
        RESONATE_SERVER__BIND=127.0.0.1 \
        RESONATE_SERVER__PORT=$(resonate_port) \
        RESONATE_STORAGE__SQLITE__PATH=$STACK_DIR/resonate.sqlite \
        RESONATE_UI__FOO_URL=http://127.0.0.1:$(foo_port) \
        RESONATE_UI__STACK=processes \
        RESONATE_AUTH__TOKEN=$token \
        RESONATE_TOKEN=$token \
        FOO_PORT=$(foo_port) \
        LEASE_SECONDS=$(lease_seconds processes) \
        HEALTH_FILE=$(health_file "$1") \
        PYTHONUNBUFFERED=1 \
        "$VENV/bin/python" -ISc 'import os, sys; os.setsid(); os.execv(sys.argv[1], sys.argv[1:])' \
        "$VENV/bin/python" -X "$PROCESS_MARK" "$VENV/bin/$(service_of "$1")" $arguments \
        >>"$(log_file "$1")" 2>&1 </dev/null &
    echo $! >"$(pid_file "$1")"
}

signal_process() { # SIGNAL NAME: with its children
    local pid
    pid=$(process_pid "$2") || return 0
    kill "-$1" -- "-$pid" 2>/dev/null || true
}

process_ended() { ! process_pid "$1"; } # NAME

stop_process_group() { # NAMES: one that is frozen is killed
    local name
    for name in $1; do signal_process TERM "$name"; done
    for name in $1; do
        wait_until 5 process_ended "$name" || signal_process KILL "$name"
        rm -f "$(pid_file "$name")" "$(health_file "$name")"
    done
}

# Workers first: they hand back what they hold while the server is still there.
stop_processes() {
    stop_process_group "$(for service in foo bar baz; do noted_names "$service" run .pid; done)"
    stop_process_group resonate-server
    rm -f "$(token_file)"
}

http_answers() { local_curl --fail --max-time 2 --output /dev/null "$1"; } # URL

process_healthy() { # NAME
    case "$1" in
        resonate-server) http_answers "http://127.0.0.1:$(resonate_port)/ready" ;;
        foo) http_answers "http://127.0.0.1:$(foo_port)/health" ;;
        *) HEALTH_FILE=$(health_file "$1") "$VENV/bin/python" -I worker/src/worker/health.py ;;
    esac
}

# ── either kind of stack ────────────────────────────────────────────────────────────────────────────────────

processes_are_up() {
    local service
    for service in $SERVICES; do
        if process_pid "$service" >/dev/null; then return 0; fi
    done
    return 1
}

containers_are_up() { [ -n "$(docker compose ps --quiet 2>/dev/null)" ]; }
containers_exist() { [ -n "$(docker compose ps --all --quiet 2>/dev/null)" ]; } # running or stopped

stack_kind() { # prints processes, containers or none
    if processes_are_up; then
        echo processes
    elif containers_are_up; then
        echo containers
    else
        echo none
    fi
}

service_is_up() { # KIND SERVICE
    case "$1" in
        containers) [ -n "$(docker compose ps --quiet "$2" 2>/dev/null)" ] ;;
        processes) process_pid "$2" >/dev/null ;;
    esac
}

port_of() { # VARIABLE SERVICE CONTAINER_PORT: the chosen port, else the one the running stack has, else the usual one
    local port=${!1:-}
    if [ -n "$port" ]; then
        { [[ "$port" =~ ^[1-9][0-9]{0,4}$ ]] && [ "$port" -le 65535 ]; } ||
            die "$1 must be a port number, 1 to 65535, not '$port'."
    elif processes_are_up; then
        port=$(cat "$STACK_DIR/run/$2.port" 2>/dev/null) || true
    else
        port=$(docker compose port "$2" "$3" 2>/dev/null) || true
        port=${port##*:}
    fi
    echo "${port:-$3}"
}

foo_port() { port_of FOO_PORT foo 5000; }
resonate_port() { port_of RESONATE_PORT resonate-server 8001; }

lease_seconds() { # KIND: the chosen lease of the workers, else the one that the running stack has, else the usual one
    local lease=${LEASE_SECONDS:-}
    case "$1" in
        containers) lease=${lease:-$(docker compose exec -T bar printenv LEASE_SECONDS 2>/dev/null || true)} ;;
        processes) lease=${lease:-$(cat "$STACK_DIR/run/lease" 2>/dev/null || true)} ;;
    esac
    echo "${lease:-10}"
}

noted_token() { # prints the token that docker compose finds in .env, if there is one
    sed -n "s/^RESONATE_TOKEN=[\"']\{0,1\}\([^\"' #]*\).*/\1/p" .env 2>/dev/null | tail -n 1 || true
}

stack_token() { # KIND: prints the token with which the stack was started, if it has one
    case "$1" in
        containers)
            docker compose ps --all --quiet resonate-server |
                xargs docker inspect --format '{{range .Config.Env}}{{println .}}{{end}}' |
                sed -n 's/^RESONATE_TOKEN=//p' | tail -n 1
            ;;
        processes) cat "$(token_file)" ;;
    esac 2>/dev/null || true
}

adopt_token() { # KIND: that of the stack, for whatever asks its server or starts a part of it again
    local token
    token=$(stack_token "$1")
    export RESONATE_TOKEN=${token:-${RESONATE_TOKEN:-}}
}

require_stack() { # sets kind, and the variables by which a service that is started again becomes what it was
    local service
    kind=$(stack_kind)
    [ "$kind" != none ] || die "the stack is not up; scripts/up.sh starts it."
    for service in $SERVICES; do
        service_is_up "$kind" "$service" || die "$service is not running; scripts/up.sh starts it."
    done
    FOO_PORT=$(foo_port) RESONATE_PORT=$(resonate_port) LEASE_SECONDS=$(lease_seconds "$kind")
    export FOO_PORT RESONATE_PORT LEASE_SECONDS
    adopt_token "$kind"
}

kill_service() { # KIND SERVICE: by SIGKILL, so that it has no chance to say goodbye
    case "$1" in
        containers) quietly docker compose kill "$2" ;;
        processes) signal_process KILL "$2" ;;
    esac
}

service_log() { # KIND SERVICE: all it has printed, of all its instances
    local instance
    case "$1" in
        containers) for instance in $(docker compose ps --all --quiet "$2"); do instance_log containers "$instance"; done ;;
        processes) for instance in $(noted_names "$2" log .log); do instance_log processes "$instance"; done ;;
    esac
}

draw_tree() { # KIND ARGUMENTS: `resonate tree`, on this terminal if there is one
    local kind=$1 options=()
    shift
    case "$kind" in
        containers)
            { [ -t 0 ] && [ -t 1 ]; } || options+=(-T)
            [ -z "${NO_COLOR:-}" ] || options+=(--env "NO_COLOR=$NO_COLOR")
            [ -z "${COLUMNS:-}" ] || options+=(--env "COLUMNS=$COLUMNS")
            docker compose exec ${options[@]+"${options[@]}"} resonate-server resonate tree "$@"
            ;;
        processes) "$VENV/bin/resonate" tree --server "http://127.0.0.1:$(resonate_port)" "$@" ;;
    esac
}

# ── one instance of a service: a container by its id, or a process by its name ──────────────────────────────

instances() { # KIND SERVICE: those that live, frozen ones as well
    local name
    case "$1" in
        containers) docker compose ps --quiet "$2" ;;
        processes) for name in $(noted_names "$2" run .pid); do process_pid "$name" >/dev/null && echo "$name"; done ;;
    esac
}

instance_log() { # KIND INSTANCE
    case "$1" in
        containers) docker logs "$2" 2>&1 ;;
        processes) cat "$(log_file "$2")" ;;
    esac
}

instance_healthy() { # KIND INSTANCE
    case "$1" in
        containers) [ "$(docker inspect --format '{{.State.Status}} {{.State.Health.Status}}' "$2")" = "running healthy" ] ;;
        processes) process_healthy "$2" ;;
    esac
}

kill_instance() { # KIND INSTANCE
    case "$1" in
        containers) quietly docker kill "$2" ;;
        processes) signal_process KILL "$2" ;;
    esac
}

start_instance() { # KIND INSTANCE: one that was killed
    case "$1" in
        containers) quietly docker start "$2" ;;
        processes) wait_until 5 process_ended "$2" && start_process "$2" ;;
    esac
}

# An engine under load may fail to freeze ("OCI runtime pause failed: unable to freeze"), and can if it is asked again.
pause_container() { docker pause "$1" || has_status "$1" paused; }

freeze_instance() { # KIND INSTANCE: it stands still, with its connections open
    case "$1" in
        containers) wait_until 15 pause_container "$2" || quietly docker pause "$2" ;;
        processes) signal_process STOP "$2" ;;
    esac
}

thaw_instance() { # KIND INSTANCE
    case "$1" in
        containers) quietly docker unpause "$2" ;;
        processes) signal_process CONT "$2" ;;
    esac
}

label_of() { docker inspect --format "{{ index .Config.Labels \"com.docker.compose.$2\" }}" "$1"; } # CONTAINER LABEL

network_of() { # CONTAINER: that of its stack, whether it is connected to it now or not
    docker network ls --quiet --filter "label=com.docker.compose.project=$(label_of "$1" project)" \
        --filter "label=com.docker.compose.network=default"
}

cut_off_instance() { # KIND INSTANCE: containers only; processes share one loopback interface
    quietly docker network disconnect "$(network_of "$2")" "$2"
}

reconnect_instance() { # KIND INSTANCE: under the name by which the others know its service
    quietly docker network connect --alias "$(label_of "$2" service)" "$(network_of "$2")" "$2"
}

is_connected() { # CONTAINER: to the network of its stack
    local network
    network=$(network_of "$1")
    [ -n "$network" ] &&
        docker inspect --format '{{range .NetworkSettings.Networks}}{{.NetworkID}} {{end}}' "$1" | grep -q "$network"
}

has_status() { [ "$(docker inspect --format '{{.State.Status}}' "$1")" = "$2" ]; } # CONTAINER STATUS

# ── whatever a fault has done to an instance, undone ────────────────────────────────────────────────────────

# Called from EXIT traps, too, where a plain `return` gives the status from before the trap: so each one names its own.

loosen_instance() { # KIND INSTANCE: thawed if it is frozen, connected again if it is cut off; dead it may stay
    case "$1" in
        containers)
            { ! has_status "$2" paused || thaw_instance "$@"; } && { is_connected "$2" || reconnect_instance "$@"; }
            ;;
        processes) thaw_instance "$@" ;;
    esac
}

mend_instance() { # KIND INSTANCE: the same, and started if it is dead
    loosen_instance "$@" || return 1
    case "$1" in
        containers) has_status "$2" running || start_instance "$@" ;;
        processes) wait_until 1 process_ended "$2" || true && start_process "$2" ;; # the end of a killed one takes a moment
    esac
}

loosen_all() { # KIND
    local service instance
    for service in $SERVICES; do
        for instance in $(instances "$1" "$service"); do
            loosen_instance "$1" "$instance" || return 1
        done
    done
}

all_healthy() { # KIND: every service, in all its instances
    local service instance found
    for service in $SERVICES; do
        found=$(instances "$1" "$service")
        [ -n "$found" ] || return 1
        for instance in $found; do
            instance_healthy "$1" "$instance" || return 1
        done
    done
}
