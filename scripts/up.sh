#!/usr/bin/env bash
# Starts the whole stack, as containers or as processes, and sends one request through it.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

usage() {
    cat <<'USAGE'
usage: scripts/up.sh [--docker | --processes] [--token]

Builds and starts the services foo, bar and baz and the Resonate server, waits until all are healthy and sends
one request through the chain. What runs already stays; what is missing (a service that was killed) is started,
and what is frozen or cut off from the network is brought back.

  --docker      as containers; needs a Docker engine with Compose
  --processes   as processes; needs Python 3.12 or newer
  (neither)     as containers where a Docker engine answers, else as processes
  --token       the Resonate server asks everybody for a token: the one in RESONATE_TOKEN, else a new one, which is
                noted in the file .env and used from then on, until that line is deleted

Variables: FOO_PORT (5000) and RESONATE_PORT (8001), the ports on this machine;
PYTHON_IMAGE (python:3.13-slim), the image to build on; LEASE_SECONDS (10), the lease of the workers;
MAX_TASKS (64), how many tasks a worker runs at a time.
An image other than that is noted in the file .env, so that docker compose by hand builds on it, too.
RESONATE_TOKEN, the token (else the one in .env, else the one that the running stack has; set to nothing: none).
USAGE
}

readonly HEALTHY_SECONDS=90 # how long a start may take
readonly FIRST_ANSWER_SECONDS=60
readonly OWN_LINE="# by scripts/up.sh"

# ── which kind of stack ─────────────────────────────────────────────────────────────────────────────────────

choose_containers() { # REASON: or fail, saying why not
    PYTHON_IMAGE=$(scripts/base-image.sh) || return 1
    export PYTHON_IMAGE
    kind=containers
    say "Starting the stack as containers: $1."
}

choose_processes() { # REASON
    kind=processes
    say "Starting the stack as processes: $1."
}

choose_kind() { # WANTED RUNNING
    local obstacle
    case "$1-$2" in
        docker-processes | processes-containers)
            die "the stack runs as $2 already; stop it first: scripts/down.sh"
            ;;
        processes-*) choose_processes "--processes was given" ;;
        -processes) choose_processes "it runs so already" ;;
        *)
            obstacle=$(docker_obstacle)
            if [ -z "$obstacle" ]; then
                choose_containers "a Docker engine answers" && return
                obstacle="there is no base image to build on"
            fi
            [ "$1" != docker ] || die "$obstacle. On bare Debian, as root, scripts/docker-engine.sh installs and starts one."
            choose_processes "$obstacle"
            ;;
    esac
}

# ── ports ───────────────────────────────────────────────────────────────────────────────────────────────────

port_is_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

check_port() { # VARIABLE PORT HINT
    port_is_taken "$2" || return 0
    die "port $2 is taken by another program$3. Choose another one: $1=$(($2 + 1)) scripts/up.sh"
}

check_ports() {
    service_is_up "$kind" foo || check_port FOO_PORT "$FOO_PORT" " (on a Mac often AirPlay)"
    service_is_up "$kind" resonate-server || check_port RESONATE_PORT "$RESONATE_PORT" ""
}

# ── .env, for docker compose by hand ────────────────────────────────────────────────────────────────────────

write_env() { # from stdin, in one step; mktemp makes it readable for this user only, as it may hold a token
    local new
    new=$(mktemp .env.XXXXXX)
    cat >"$new"
    mv "$new" .env
}

note() { # NAME VALUE: in place of what stands there
    { grep -v "^$1=" .env 2>/dev/null || true; echo "$1=$2 $OWN_LINE"; } | write_env
}

note_image() { # a line that somebody else wrote goes only if it must
    local others
    if [ "$PYTHON_IMAGE" != "$OFFICIAL_IMAGE" ]; then
        note PYTHON_IMAGE "$PYTHON_IMAGE"
    elif grep -q "^PYTHON_IMAGE=.*$OWN_LINE\$" .env 2>/dev/null; then
        others=$(grep -v "^PYTHON_IMAGE=.*$OWN_LINE\$" .env || true)
        if [ -n "$others" ]; then printf '%s\n' "$others" | write_env; else rm .env; fi
    fi
}

# ── the token ───────────────────────────────────────────────────────────────────────────────────────────────

known_token() { # prints the one that is given, else the one in .env, else that of the running stack
    local token
    token=${RESONATE_TOKEN-$(noted_token)}
    if [ -n "${RESONATE_TOKEN+given}$token" ]; then
        echo "$token"
    elif [ "$kind" = containers ] || processes_are_up; then
        stack_token "$kind"
    fi
}

new_token() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

fits_running_processes() { # TOKEN: those keep theirs, and must not meet others that have another one
    [ "$kind" != processes ] || ! processes_are_up || [ "$(stack_token processes)" = "$1" ]
}

choose_token() { # sets RESONATE_TOKEN; where it is empty, the server asks for none
    local token is_new=""
    token=$(known_token)
    if [ -n "$want_token" ] && [ -z "$token" ]; then
        token=$(new_token) is_new=yes
    fi
    fits_running_processes "$token" || die "the stack runs without this token; stop it first: scripts/down.sh"
    if [ -n "$is_new" ]; then
        note RESONATE_TOKEN "$token"
        say "A new token is noted in .env, as RESONATE_TOKEN; it is used until that line is deleted."
    fi
    export RESONATE_TOKEN=$token
}

# ── starting ────────────────────────────────────────────────────────────────────────────────────────────────

shown_on_terminal() { # COMMAND...: with its own progress display on a terminal, else silent unless it fails
    if [ -t 2 ]; then "$@" >&2; else quietly "$@"; fi
}

kept_scale() { # prints the options that leave each worker as many instances as it has
    local count service
    for service in bar baz; do
        count=$(docker compose ps --all --quiet "$service" | grep -c . || true)
        [ "$count" -lt 2 ] || echo "--scale $service=$count"
    done
}

none_unhealthy() { ! docker compose ps --format '{{.Health}}' | grep -qx unhealthy; }

# Compose gives up at once on a container whose last checks failed, as those of one that was frozen did; the next check is
# waited for first. One that stays unhealthy is for Compose to report.
loosen_containers() {
    loosen_all containers || die "what is frozen or cut off could not be brought back."
    none_unhealthy || wait_until "$HEALTHY_SECONDS" none_unhealthy || true
}

start_containers() {
    note_image
    say "building the images ..."
    shown_on_terminal docker compose build || die "the images could not be built."
    loosen_containers
    say "starting the containers and waiting until all are healthy ..."
    # shellcheck disable=SC2046 # a list of options
    shown_on_terminal docker compose up --detach --wait --wait-timeout "$HEALTHY_SECONDS" $(kept_scale) || {
        docker compose ps --all >&2
        docker compose logs --tail 8 >&2
        die "not all containers became healthy; the last lines of their logs are above."
    }
}

start_processes() {
    local service
    scripts/venv.sh
    mkdir -p "$STACK_DIR/run"
    echo "$FOO_PORT" >"$STACK_DIR/run/foo.port"
    echo "$RESONATE_PORT" >"$STACK_DIR/run/resonate-server.port"
    processes_are_up || echo "${LEASE_SECONDS:-10}" >"$STACK_DIR/run/lease"
    processes_are_up || (umask 077 && printf '%s\n' "$RESONATE_TOKEN" >"$(token_file)")
    loosen_all processes
    say "starting the processes and waiting until all are healthy ..."
    for service in $SERVICES; do start_process "$service"; done
    for service in $SERVICES; do wait_for_process "$service"; done
}

healthy_or_ended() { process_healthy "$1" || process_ended "$1" >/dev/null; } # SERVICE

wait_for_process() { # SERVICE
    wait_until "$HEALTHY_SECONDS" healthy_or_ended "$1" || true
    process_pid "$1" >/dev/null && process_healthy "$1" && return
    tail -n 15 "$(log_file "$1")" >&2 || true
    die "$1 did not become healthy; the last lines of its log ($(log_file "$1")) are above."
}

# ── main ────────────────────────────────────────────────────────────────────────────────────────────────────

page_address() { # it hands over the token, but only on a terminal: what is printed elsewhere is often kept
    local shown=$RESONATE_TOKEN
    [ -t 2 ] || shown=...
    echo "http://127.0.0.1:$RESONATE_PORT/ui/${RESONATE_TOKEN:+#token=$shown}"
}

show_next_steps() {
    cat >&2 <<NEXT

The stack is up, as $kind.
  foo               http://127.0.0.1:$FOO_PORT/foo     try: curl -X POST http://127.0.0.1:$FOO_PORT/foo
  Resonate server   http://127.0.0.1:$RESONATE_PORT
  the live page     $(page_address)        every call as it waits, runs, breaks off and goes on

What to try next:
  scripts/trigger.sh --pause 5    a request whose bar pauses for 5 s
  scripts/crash-bar.sh            kill bar in the middle of a request, and see it answered all the same
  scripts/watch.sh                the newest request as a tree, in this terminal
  scripts/logs.sh -f              what the services print
  scripts/down.sh                 stop everything; what is pending goes on after the next scripts/up.sh
NEXT
    [ -z "$RESONATE_TOKEN" ] ||
        say "The server and its page ask for the token, RESONATE_TOKEN; foo, the face of the application, is open."
    if [ "$kind" = containers ] && [ "$PYTHON_IMAGE" != "$OFFICIAL_IMAGE" ]; then
        say "docker compose by hand builds on $PYTHON_IMAGE, too: see .env"
    fi
}

wanted="" want_token=""
while [ $# -gt 0 ]; do
    case "$1" in
        --docker | --processes)
            [ -z "$wanted" ] || [ "$wanted" = "${1#--}" ] || bad_usage "--docker and --processes exclude each other"
            wanted=${1#--}
            ;;
        --token) want_token=yes ;;
        -h | --help) usage && exit 0 ;;
        *) bad_usage "unknown argument '$1'" ;;
    esac
    shift
done

FOO_PORT=$(foo_port)
RESONATE_PORT=$(resonate_port)
export FOO_PORT RESONATE_PORT
[ "$FOO_PORT" != "$RESONATE_PORT" ] || die "FOO_PORT and RESONATE_PORT must differ: both are $FOO_PORT."
choose_kind "$wanted" "$(stack_kind)"
check_ports
choose_token
"start_$kind"
say "sending one request: scripts/trigger.sh"
scripts/trigger.sh --max-time "$FIRST_ANSWER_SECONDS" ||
    die "the stack is up, but that request was not answered as it should be; look at scripts/logs.sh."
show_next_steps
