# shellcheck shell=bash
# What the scripts share: messages, waiting, and control of the stack, which runs as containers or as processes.
# Sourced from the repository's folder.
# The comments that end the next line and the one that sources this file swallow a CR: so a checkout with such lines is told of.
case "$(head -n 1 scripts/lib.sh)" in *$'\r') echo "The lines of scripts/*.sh end with CR LF, which bash cannot read. A fresh git clone has them as they should be." >&2 && exit 1 ;; esac #

readonly VENV=$PWD/.venv

# What a person's shell says about Python is meant for other programs: it could keep uv from being installed, or have a service
# load another module. Where packages come from, and how they are reached, stays.
for variable in ${!PIP_@} ${!PYTHON@} ${!UV_@}; do
    case "$variable" in
        PYTHON | PYTHON_IMAGE) ;; # ours
        *INDEX* | *FIND_LINKS | *MIRROR | *CERT* | *TLS | *PROXY | *HOST | *KEYRING* | *CONFIG_FILE | *CACHE_DIR | *TIMEOUT | *RETRIES) ;;
        *) unset "$variable" ;;
    esac
done
unset variable CDPATH # with it, cd may print, and go elsewhere

# ── the services ────────────────────────────────────────────────────────────────────────────────────────────

service_lines() { tr -d '\r' <services/services.txt | sed -e '/^#/d' -e '/^ *$/d'; }
services() { service_lines | awk '{ print $1 }'; }
workers() { service_lines | awk '$3 == "worker" { print $1 }'; }

service_field() { # NAME group|kind|image: status 1 where there is no such service or field
    service_lines | awk -v name="$1" -v field="$2" '
        BEGIN { column["group"] = 2; column["kind"] = 3; column["image"] = 4 }
        $1 == name && field in column { print $column[field]; found = 1 }
        END { exit !found }'
}

SERVICES="resonate-server $(services | tr '\n' ' ')" # what a stack consists of
readonly SERVICES

# ── messages ────────────────────────────────────────────────────────────────────────────────────────────────

say() { printf '%s\n' "$*" >&2; }

die() {
    say "$(basename "$0"): $*"
    exit 1
}

bad_usage() {
    say "$(basename "$0"): $*; see $0 --help"
    exit 2
}

need_value() { [ "$2" -ge 2 ] || bad_usage "$1 needs a value"; } # OPTION ARGUMENTS_LEFT: the option itself counts as one

need_seconds() { # OPTION VALUE
    [[ "$2" =~ ^(0|[1-9][0-9]*)(\.[0-9]+)?$ ]] || bad_usage "$1 needs a number of seconds, not '$2'"
}

need_some_seconds() { # OPTION VALUE: more than none
    need_seconds "$1" "$2"
    [[ "$2" =~ [1-9] ]] || bad_usage "$1 must be more than 0"
}

only_help() { # ARGUMENTS: of a script that takes no others
    case "${1:-}" in
        "") ;;
        -h | --help) usage && exit 0 ;;
        *) bad_usage "unknown argument '$1'" ;;
    esac
}

need_commands() { # NAME=DEBIAN_PACKAGE...
    local command
    for command in "$@"; do
        command -v "${command%=*}" >/dev/null || die "the command '${command%=*}' is missing. On Debian: apt-get install ${command#*=}"
    done
}

quietly() { # COMMAND...: shows its output only if it fails
    local output status=0
    output=$("$@" 2>&1) || status=$?
    [ "$status" = 0 ] || say "$output"
    return "$status"
}

# ── time ────────────────────────────────────────────────────────────────────────────────────────────────────

now_ms() { # since the epoch
    local now=${EPOCHREALTIME:-$(perl -MTime::HiRes=time -e 'printf "%.6f", time')} # bash 5 has it
    now=${now/[^0-9]/} # the separator depends on the locale
    echo "${now%???}"
}

seconds() { printf '%d.%03d' "$(($1 / 1000))" "$(($1 % 1000))"; } # MS: as a decimal number of seconds

milliseconds() { # SECONDS: a decimal number
    local part=000
    case "$1" in *.*) part=${1#*.}000 ;; esac
    echo $((${1%%.*} * 1000 + 10#${part:0:3}))
}

wait_until() { # SECONDS COMMAND...: repeats the command until it succeeds; fails when the time is over
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -le "$deadline" ] || return 1
        sleep 0.2
    done
}

within() { # SECONDS COMMAND...: ends it by force when the time is over; `timeout` is not everywhere
    local limit=$1 pid watchdog status=0
    shift
    set -m # a process group of its own, which ends as a whole
    "$@" </dev/null &
    pid=$!
    set +m
    { trap 'kill $!; exit' TERM; sleep "$limit" & wait $!; kill -KILL -- "-$pid"; } >/dev/null 2>&1 &
    watchdog=$!
    wait "$pid" 2>/dev/null || status=$?
    { kill "$watchdog" && wait "$watchdog"; } 2>/dev/null || true
    return "$status"
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

process_gone() { # PID; a zombie that nobody has reaped yet is gone, too
    case "$(ps -o stat= -p "$1" 2>/dev/null)" in "" | *Z*) ;; *) return 1 ;; esac
}

# ── HTTP ────────────────────────────────────────────────────────────────────────────────────────────────────

local_curl() { curl --silent --noproxy '*' "$@"; } # a proxy cannot reach this machine's own ports
http_answers() { local_curl --fail --max-time 2 --output /dev/null "$1"; } # URL

# ── Docker and Debian ───────────────────────────────────────────────────────────────────────────────────────

# shellcheck disable=SC2034 # for the scripts
readonly OFFICIAL_IMAGE=python:3.13-slim@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b # what docker-compose.yml builds on if nothing else is said
readonly OLDEST_ENGINE=25 # the first with a health check's start_interval
readonly ENGINE_SECONDS=10 # an engine that takes longer to say its version does not answer

docker_says() { within "$ENGINE_SECONDS" docker "$@" 2>/dev/null; } # ARGUMENTS: nothing where no engine answers
engine_version() { within "$ENGINE_SECONDS" docker version --format '{{.Server.Version}}'; }

engine_obstacle() { # prints why there is no engine, if there is none
    local version
    command -v docker >/dev/null || { echo "there is no 'docker' command" && return; }
    version=$(engine_version 2>&1) && return
    case "$version" in
        *"permission denied"*) echo "the Docker engine does not let $(id -un) in; use sudo, or join its group and log in again: sudo usermod -aG docker $(id -un)" ;;
        *) echo "no Docker engine answers" ;;
    esac
}

docker_obstacle() { # prints why containers cannot be used; prints nothing if they can
    local version obstacle plugin
    obstacle=$(engine_obstacle)
    [ -z "$obstacle" ] || { echo "$obstacle" && return; }
    version=$(engine_version)
    if [ "${version%%.*}" -lt "$OLDEST_ENGINE" ] 2>/dev/null; then
        echo "the Docker engine is $version, $OLDEST_ENGINE or newer is needed" && return
    fi
    for plugin in compose buildx; do
        docker "$plugin" version >/dev/null 2>&1 || { echo "'docker $plugin' does not answer" && return; }
    done
}

apt_get() {
    DEBIAN_FRONTEND=noninteractive quietly apt-get -q -y -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 "$@" </dev/null
}

install_from_debian() { # OPTION_OR_PACKAGE...
    say "installing from Debian's packages: $* ..."
    apt_get update && apt_get install --no-install-recommends "$@"
}

debian_codename() { (. /etc/os-release && echo "${VERSION_CODENAME:-unknown}") 2>/dev/null || echo unknown; }

debian_mirror() { # prints the address this machine takes Debian's main packages from
    # shellcheck disable=SC2016 # apt expands these, not the shell
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        awk -v suite="$(debian_codename)" '$2 == suite && $3 == "main" { print $1; exit }'
}

# ── .env: what docker compose by hand reads, too ────────────────────────────────────────────────────────────

readonly OWN_LINE="# by scripts/up.sh"

env_is_readable() { [ ! -e .env ] || { [ -f .env ] && [ -r .env ]; }; }

noted_line() { { tr -d '\r' <.env | grep "^$1=" | tail -n 1; } 2>/dev/null || true; } # NAME: the last one that sets it

noted() { noted_line "$1" | sed -n "s/^$1=[\"']\{0,1\}\([^\"' #]*\).*/\1/p"; } # NAME: prints the value that docker compose finds there

chosen() { if [ -n "${!1+given}" ]; then echo "${!1}"; else noted "$1"; fi; } # NAME: prints the value in the environment, else that in .env

rewrite_env() { # NAME [LINE]: without what sets it, and with that line; mktemp makes it for this user only, as it may hold a token
    local new
    new=$(mktemp .env.XXXXXX) || die "the file .env cannot be written in $PWD."
    grep -v "^$1=" .env >"$new" 2>/dev/null || true
    [ -z "${2:-}" ] || printf '%s\n' "$2" >>"$new"
    mv "$new" .env
}

note() { # NAME VALUE [OF_WHAT]
    [[ "$2" =~ ^[A-Za-z0-9._:/@+~=-]+$ ]] && [[ ! "${3:-}" =~ [[:cntrl:]] ]] || die "'$2${3:+ $3}' cannot be noted in .env as $1."
    rewrite_env "$1" "$1=$2 $OWN_LINE${3:+ $3}"
}

# ── whose stack this is ─────────────────────────────────────────────────────────────────────────────────────

# A checkout is a stack of its own, which has one name: containers, networks, volumes and images carry it as their Compose
# project, processes on their command lines, and their folder is called so. It is made once, at random, and noted in .env
# together with the folder that it was made for: in a copied or moved checkout it does not hold.

readonly NOTED_FOR="for $PWD"
BY_HAND=durable-rpc-$(printf %s "$PWD" | tr '[:upper:]' '[:lower:]' | LC_ALL=C tr -cd 'a-z0-9_-') # see docker-compose.yml

use_name() { # NAME
    export COMPOSE_PROJECT_NAME=$1
    STACK_DIR=${STACK_DIR:-.local/$1} # port files, logs, token and database of the stack as processes
    case "$STACK_DIR" in /*) ;; *) STACK_DIR=$PWD/$STACK_DIR ;; esac
    export STACK_DIR
}

is_foreign() { # whether the name in .env was made for another folder, and not chosen by somebody
    case "$(noted_line COMPOSE_PROJECT_NAME)" in
        *"$OWN_LINE $NOTED_FOR") return 1 ;;
        *"$OWN_LINE for "*) ;;
        *) return 1 ;;
    esac
}

# What runs knows its checkout. So a stack is found again after `git clean`, and one that was started by hand.
found_name() { # prints the one of what runs for this folder, but not one that somebody chose for the moment
    { names_of_processes; names_of_containers; } 2>/dev/null | grep -x -E "durable-rpc-[0-9a-f]{8}|$BY_HAND" | head -n 1
}

names_of_processes() {
    ps -A -ww -o command= | MARK="$VENV/bin/python -X $PROCESS_MARK=" awk '
        index($0, ENVIRON["MARK"]) == 1 { split(substr($0, length(ENVIRON["MARK"]) + 1), name, "/"); print name[1] }'
}

names_of_containers() { # also where they were started through a symlink
    local name folder
    docker_says ps --all --filter label=com.docker.compose.service=resonate-server --format \
        '{{.Label "com.docker.compose.project"}} {{.Label "com.docker.compose.project.working_dir"}}' |
        while read -r name folder; do
            [ "$(cd -P -- "$folder" && pwd)" != "$PWD" ] || echo "$name"
        done && docker_says volume inspect "${BY_HAND}_resonate-data" --format "$BY_HAND"
}

find_stack() { # sets the name if it is not given; where nothing is found, a new one, which nothing has yet
    [ -n "${COMPOSE_PROJECT_NAME:-}" ] && [ -n "${STACK_DIR:-}" ] && return
    local found
    found=$(found_name) || true
    use_name "${found:-durable-rpc-$(od -An -N4 -tx1 /dev/urandom | tr -d ' \n')}"
}

# shellcheck disable=SC2034 # used by the scripts that read this file
readonly CHOSEN_NAME=${COMPOSE_PROJECT_NAME:-} # by whoever started this
given=$CHOSEN_NAME
[ -n "$given" ] || is_foreign || given=$(noted COMPOSE_PROJECT_NAME)
[[ ! "$given" =~ ^[a-z0-9][a-z0-9_-]*$ ]] || use_name "$given"
unset given

# ── the stack as processes ──────────────────────────────────────────────────────────────────────────────────

# Every process has this on its command line, with the name of its stack and its own. So all of them are found, with or
# without notes, and a pid that some other program has by now is nobody's.
readonly PROCESS_MARK=durable-rpc-stack

# A process is known by the name of its service; a second one of the same service has a number: bar-2.
service_of() { echo "${1%-[0-9]*}"; } # NAME

log_file() { echo "$STACK_DIR/log/$1.log"; }
earlier_log() { [ ! -f "$(log_file "$1").1" ] || cat "$(log_file "$1").1"; } # what stood in it before it was emptied, when it had become large
health_file() { echo "$STACK_DIR/run/$1.health"; }
token_file() { echo "$STACK_DIR/run/token"; } # goes with the processes; the settings stay for those that are started by hand
settings_file() { echo "$STACK_DIR/run/settings"; }

stack_processes() { # prints "PID GROUP NAME" of each; those that a service has started share its group and its name
    ps -A -ww -o pid= -o pgid= -o command= | MARK=" -X $PROCESS_MARK=$COMPOSE_PROJECT_NAME/" awk '
        { at = index($0, ENVIRON["MARK"]) }
        at { split(substr($0, at + length(ENVIRON["MARK"])), name, " "); print $1, $2, name[1] }'
}

process_pid() { stack_processes | awk -v name="$1" '$3 == name && $1 == $2 { print $1; found = 1 } END { exit !found }'; } # NAME

process_ended() { [ -z "$(stack_processes | awk -v name="$1" '$3 == name')" ]; } # NAME: with its children

signal_process() { # SIGNAL NAME: with its children
    local group
    for group in $(stack_processes | awk -v name="$2" '$3 == name { print $2 }' | sort -u); do
        kill "-$1" -- "-$group" 2>/dev/null || true
    done
}

# The children of a foo that was killed end when the last of the requests that wait are told so, and hold its port until then.
await_process_end() { wait_until 15 process_ended "$1" || signal_process KILL "$1"; } # NAME

start_process() { # NAME
    process_pid "$1" >/dev/null && return 0
    await_process_end "$1"
    RESONATE_TOKEN=$(running processes RESONATE_TOKEN) \
        FOO_PORT=$(foo_port) RESONATE_PORT=$(resonate_port) LEASE_SECONDS=$(lease_seconds processes) DEMO_FAULTS=$(demo_faults processes) \
        HEALTH_FILE=$(health_file "$1") LOG_FILE=$(log_file "$1") \
        "$VENV/bin/python" -IS scripts/launch.py "$PROCESS_MARK=$COMPOSE_PROJECT_NAME/$1" "$(service_of "$1")"
}

stop_process_group() { # NAMES: one that is frozen is killed
    local name
    for name in $1; do signal_process TERM "$name"; done
    for name in $1; do
        wait_until 5 process_ended "$name" || signal_process KILL "$name"
        rm -f "$(health_file "$name")"
    done
}

# Workers first: they hand back what they hold while the server is still there.
stop_processes() {
    stop_process_group "$(stack_processes | awk '$3 != "resonate-server" { print $3 }' | sort -u)"
    stop_process_group resonate-server
    rm -f "$(token_file)" || true # somebody else's
}

process_healthy() { # NAME
    case "$(service_field "$(service_of "$1")" kind)" in
        worker) HEALTH_FILE=$(health_file "$1") "$VENV/bin/python" -I worker/src/worker/health.py ;;
        web) http_answers "http://127.0.0.1:$(foo_port)/health" ;;
        *) http_answers "http://127.0.0.1:$(resonate_port)/ready" ;;
    esac
}

# ── either kind of stack ────────────────────────────────────────────────────────────────────────────────────

processes_are_up() { [ -n "$(stack_processes | awk '$1 == $2')" ]; } # what only outlives its parent for a moment does not count

stack_kind() { # prints processes, containers or none
    if processes_are_up; then
        echo processes
    elif [ -n "$(docker_says compose ps --quiet)" ]; then
        echo containers
    else
        echo none
    fi
}

container_settings() { # prints NAME=VALUE, of containers that run and of those that are stopped
    local containers
    containers=$(docker_says ps --all --quiet --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME")
    # shellcheck disable=SC2016,SC2086 # a template; a list of ids
    [ -z "$containers" ] || docker_says inspect $containers --format '
        {{- range .Config.Env}}{{println .}}{{end}}
        {{- range $port, $bound := .HostConfig.PortBindings}}{{range $bound}}{{$port}}={{println .HostPort}}{{end}}{{end}}' |
        sed -e '/^FOO_PORT=/d' -e 's|^5000/tcp=|FOO_PORT=|' -e 's|^8001/tcp=|RESONATE_PORT=|'
}

running() { # KIND NAME: prints the value with which the stack that is there was started
    case "$1" in
        containers) container_settings || true ;;
        processes) cat "$(settings_file)" "$(token_file)" 2>/dev/null || true ;;
    esac | sed -n "s/^$2=//p" | tail -n 1
}

setting() { # KIND NAME USUAL: what was chosen for this command, else what the stack has, else what .env says, else the usual
    local value=${!2:-}
    value=${value:-$(running "$1" "$2")}
    value=${value:-$(noted "$2")}
    echo "${value:-$3}"
}

port_of() { # NAME USUAL
    local port=${!1:-}
    [ -n "$port" ] || port=$(setting "$(processes_are_up && echo processes || echo containers)" "$1" "$2")
    { [[ "$port" =~ ^[1-9][0-9]{0,4}$ ]] && [ "$port" -le 65535 ]; } ||
        die "$1 must be a port number, 1 to 65535, not '$port'."
    echo "$port"
}

foo_port() { port_of FOO_PORT 5000; }
resonate_port() { port_of RESONATE_PORT 8001; }
lease_seconds() { setting "$1" LEASE_SECONDS 10; } # KIND: the lease of the workers
demo_faults() { setting "$1" DEMO_FAULTS 1; } # KIND: whether the page may kill and freeze them

adopt_token() { # KIND: that of the stack, for whatever asks its server or starts a part of it again
    local token
    token=$(running "$1" RESONATE_TOKEN)
    export RESONATE_TOKEN=${token:-${RESONATE_TOKEN:-}}
}

find_running() { # sets kind
    need_commands ps=procps curl=curl
    find_stack
    kind=$(stack_kind)
    [ "$kind" != none ] || die "the stack is not up; scripts/up.sh starts it."
}

require_server() { # sets kind, for those who ask it, whatever else is up
    find_running
    service_is_up "$kind" resonate-server || die "resonate-server is not running; scripts/up.sh starts it."
    adopt_token "$kind"
}

require_stack() { # sets kind, and the variables by which a service that is started again becomes what it was
    local missing
    find_running
    missing=$(missing_service "$kind")
    [ -z "$missing" ] || die "$missing is not running; scripts/up.sh starts it."
    FOO_PORT=$(foo_port)
    RESONATE_PORT=$(resonate_port)
    LEASE_SECONDS=$(lease_seconds "$kind")
    DEMO_FAULTS=$(demo_faults "$kind")
    export FOO_PORT RESONATE_PORT LEASE_SECONDS DEMO_FAULTS
    adopt_token "$kind"
}

service_is_up() { [ -n "$(instances "$1" "$2" 2>/dev/null)" ]; } # KIND SERVICE

service_log() { # KIND SERVICE: all it has printed, of all its instances
    local instance
    for instance in $("$1_with_logs" "$2"); do instance_log "$1" "$instance"; done
}

resonate_command() { # KIND ARGUMENTS: the command `resonate` beside the server, on this terminal if there is one
    local kind=$1 options=()
    shift
    case "$kind" in
        containers)
            { [ -t 0 ] && [ -t 1 ]; } || options+=(-T)
            [ ! -t 1 ] || options+=(--env FORCE_COLOR=1) # the report has colours, too, though it reads logs
            [ -z "${NO_COLOR:-}" ] || options+=(--env "NO_COLOR=$NO_COLOR")
            [ -z "${COLUMNS:-}" ] || options+=(--env "COLUMNS=$COLUMNS")
            docker compose exec ${options[@]+"${options[@]}"} resonate-server resonate "$@"
            ;;
        processes) "$VENV/bin/resonate" --server "http://127.0.0.1:$(resonate_port)" "$@" ;;
    esac
}

# ── one instance of a service: a container by its id, or a process by its name ──────────────────────────────

instances() { "$1_of" "$2"; } # KIND SERVICE: those that live, frozen ones as well

# KIND INSTANCE, of each:
instance_log() { "$1_log" "$2"; }
instance_healthy() { "$1_healthy" "$2"; }
kill_instance() { "$1_kill" "$2"; }
start_instance() { "$1_start" "$2"; } # one that was killed
freeze_instance() { "$1_freeze" "$2"; } # it stands still, with its connections open
thaw_instance() { "$1_thaw" "$2"; }
loosen_instance() { "$1_loosen" "$2"; } # thawed if it is frozen, connected again if it is cut off; dead it may stay
mend_instance() { loosen_instance "$@" && "$1_revive" "$2"; } # whatever a fault has done to it, undone
cut_off_instance() { quietly docker network disconnect "$(network_of "$2")" "$2"; } # containers only; processes share an interface
reconnect_instance() { quietly docker network connect --alias "$(label_of "$2" service)" "$(network_of "$2")" "$2"; }

containers_of() { docker compose ps --quiet "$1"; }
containers_with_logs() { docker compose ps --all --quiet "$1"; }
containers_log() { docker logs "$1" 2>&1; }
containers_healthy() { [ "$(docker inspect --format '{{.State.Status}} {{.State.Health.Status}}' "$1")" = "running healthy" ]; }
containers_kill() { quietly docker kill "$1"; }
containers_start() { quietly docker start "$1"; }
# An engine under load may fail to freeze ("OCI runtime pause failed: unable to freeze"), and can if it is asked again.
containers_freeze() { wait_until 15 pause_container "$1" || quietly docker pause "$1"; }
containers_thaw() { quietly docker unpause "$1"; }
# From EXIT traps, too, where a plain `return` gives the status from before the trap: so none is left to that.
containers_loosen() {
    { ! has_status "$1" paused || containers_thaw "$1"; } && { is_connected "$1" || reconnect_instance containers "$1"; }
}
containers_revive() { has_status "$1" running || containers_start "$1"; }

processes_of() { stack_processes | awk '$1 == $2 { print $3 }' | grep -x -E -e "$1(-[0-9]+)?" | sort || true; }
processes_with_logs() { # SERVICE
    local file
    for file in "$STACK_DIR/log/$1.log" "$STACK_DIR/log/$1"-[0-9]*.log; do
        [ ! -f "$file" ] || basename "$file" .log
    done
}
processes_log() { earlier_log "$1" && cat "$(log_file "$1")"; }
processes_healthy() { process_healthy "$1"; }
processes_kill() { signal_process KILL "$1"; }
processes_start() { wait_until 5 process_ended "$1" && start_process "$1"; }
processes_freeze() { signal_process STOP "$1"; }
processes_thaw() { signal_process CONT "$1"; }
processes_loosen() { processes_thaw "$1"; }
processes_revive() { wait_until 1 process_ended "$1" || true && start_process "$1"; } # the end of a killed one takes a moment

has_status() { [ "$(docker inspect --format '{{.State.Status}}' "$1")" = "$2" ]; } # CONTAINER STATUS
pause_container() { docker pause "$1" || has_status "$1" paused; }
label_of() { docker inspect --format "{{ index .Config.Labels \"com.docker.compose.$2\" }}" "$1"; } # CONTAINER LABEL

network_of() { # CONTAINER: that of its stack, whether it is connected to it now or not
    docker network ls --quiet --filter "label=com.docker.compose.project=$(label_of "$1" project)" \
        --filter "label=com.docker.compose.network=default"
}

is_connected() { # CONTAINER: to the network of its stack
    local network
    network=$(network_of "$1")
    [ -n "$network" ] &&
        docker inspect --format '{{range .NetworkSettings.Networks}}{{.NetworkID}} {{end}}' "$1" | grep -q "$network"
}

# ── all instances of all services ───────────────────────────────────────────────────────────────────────────

each_instance() { # KIND COMMAND: fails where it fails for one
    local service instance
    for service in $SERVICES; do
        for instance in $(instances "$1" "$service"); do "$2" "$1" "$instance" || return 1; done
    done
}

missing_service() { # KIND: prints the first of which nothing lives
    local service
    for service in $SERVICES; do
        service_is_up "$1" "$service" || { echo "$service" && return; }
    done
}

loosen_all() { each_instance "$1" loosen_instance; } # KIND
all_healthy() { [ -z "$(missing_service "$1")" ] && each_instance "$1" instance_healthy; } # KIND: and none is missing
