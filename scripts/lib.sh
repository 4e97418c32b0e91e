# shellcheck shell=bash
# Shared by all scripts: messages, arguments, and control of the stack. Sourced from the repository's folder.
# The "#" that ends the next line, and the line that sources this file, swallows a CR, so that a checkout with CR LF gets a message.
read -r REPLY <scripts/lib.sh; case "$REPLY" in *$'\r') echo "Lines in scripts/*.sh end with CR LF, which bash cannot read. A fresh git clone has the right line endings." >&2 && exit 1 ;; esac #

readonly VENV=$PWD/.venv
: "${SELF:=$0}" # the script that sources this, whatever symlink led there
readonly SCRIPT=${SELF##*/}

# Python settings of a person's shell are meant for other programs: they could break the installation of uv, or make a service
# load another module. Keep those that say where packages come from, and how to reach them.
for variable in ${!PIP_@} ${!PYTHON@} ${!UV_@}; do
    case "$variable" in
        PYTHON | PYTHON_IMAGE) ;; # ours
        *INDEX* | *FIND_LINKS | *MIRROR | *CERT* | *TLS | *PROXY | *HOST | *KEYRING* | *CONFIG_FILE | *CACHE_DIR | *TIMEOUT | *RETRIES) ;;
        *) unset "$variable" ;;
    esac
done
unset variable CDPATH TMOUT # with them, cd may print and go elsewhere, and `read` gives up after a while

# ── the services ────────────────────────────────────────────────────────────────────────────────────────────

# What each script does at its start is done by bash itself: to start one of sed, tr or awk takes longer than all of it.
services() { # [KIND]: prints their names
    local IFS=$' \t\r' name kind
    while read -r name _ kind _; do
        [[ -z "$name" || "$name" = "#"* || "${1:-$kind}" != "$kind" ]] || printf '%s\n' "$name"
    done <services/services.txt
}

service_field() { # NAME group|kind|image: status 1 where there is no such service or field
    tr -d '\r' <services/services.txt | awk -v name="$1" -v field="$2" '$1 == name { of["group"] = $2; of["kind"] = $3; of["image"] = $4 }
        END { if (!(field in of)) exit 1; print of[field] }'
}

# ── messages and arguments ──────────────────────────────────────────────────────────────────────────────────

say() { printf '%s\n' "$*" >&2 || true; } # the disk may be full: what a script does must not depend on what it says
die() { say "$SCRIPT: $*"; exit 1; }
bad_usage() { say "$SCRIPT: $*; see scripts/$SCRIPT --help"; exit 2; }

quietly() { # COMMAND...: shows its output only if it fails
    local output status
    output=$("$@" 2>&1) || { status=$? && say "$output" && return "$status"; }
}

usage() { awk -v script="scripts/$SCRIPT" '/^usage: / { shown = $2 == script } shown' scripts/usage.txt; }

# Accepts the options listed in scripts/usage.txt: "--keep-down" sets keep_down to yes, and "--down SECONDS" sets down. Other words
# go into `words`. A value is checked if the usage calls it SECONDS or NUMBER, or names the only one that is allowed.
read_arguments() { # HOW_MANY_WORDS_AT_MOST ARGUMENTS...
    local most=$1 listed="" option value
    [ $# = 1 ] || listed=$(usage | sed -n -E 's/^  (-f, )?(--[a-z-]+)( ([A-Za-z]+))?.*/ \2=\4/p')
    listed=${listed//$'\n'/ }" "
    shift
    words=()
    while [ $# -gt 0 ]; do
        option=$1 && shift
        case "$option" in
            -h | --help) usage && exit 0 ;;
            --) words+=("$@") && break ;;
            -f) option=--follow ;;
            "") bad_usage "an argument is empty" ;;
            -*) ;;
            *) words+=("$option") && continue ;;
        esac
        [[ "$listed" = *" $option="* ]] || bad_usage "unknown option '$option'"
        value=${listed#*" $option="}
        value=${value%% *}
        if [ -n "$value" ]; then
            [ -n "${1:-}" ] || bad_usage "$option needs a value"
            check_value "$option" "$value" "$1"
            value=$1 && shift
        fi
        option=${option#--}
        printf -v "${option//-/_}" %s "${value:-yes}"
    done
    [ "${#words[@]}" -le "$most" ] || bad_usage "unknown argument '${words[most]}'"
}

check_value() { # OPTION KIND VALUE
    case "$2" in
        SECONDS) [[ "$3" =~ ^(0|[1-9][0-9]{0,8})(\.[0-9]+)?$ ]] || bad_usage "$1 needs a number of seconds, not '$3'" ;;
        NUMBER) [[ "$3" =~ ^(0|[1-9][0-9]{0,8})$ ]] || bad_usage "$1 needs a whole number, not '$3'" ;;
        [a-z]*) [ "$3" = "$2" ] || bad_usage "$1 must be $2, not '$3'" ;;
    esac
}

need_service() { [[ " $SERVICES " = *" $1 "* ]] || bad_usage "unknown service '$1'; the services are $(sed 's/ /, /g; s/\(.*\),/\1 and/' <<<"$SERVICES")"; } # NAME
need_some() { [[ ! "$2" =~ ^[0.]+$ ]] || bad_usage "$1 must be more than 0"; } # OPTION NUMBER

one_of() { # OPTION..., without dashes: prints the one that was given
    local option one=""
    for option in "$@"; do
        [ -z "${!option}" ] || [ -z "$one" ] || bad_usage "--$one and --$option cannot be combined"
        [ -z "${!option}" ] || one=$option
    done
    echo "$one"
}

# ── waiting ─────────────────────────────────────────────────────────────────────────────────────────────────

wait_until() { # SECONDS COMMAND...: repeats the command until it succeeds; fails after that time
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -le "$deadline" ] || return 1
        sleep 0.2
    done
}

alone() { # FILE DOING [SECONDS]: waits so long until no other script holds it, and writes its pid there; status 1 if it had to wait
    local had_to_wait=0 other most=${3:-3600}
    { mkdir -p "${1%/*}" && exec 8<>"$1"; } 2>/dev/null || return 0
    lock 8 || {
        other="process $(head -n 1 "$1")" had_to_wait=1
        say "another script, $other, $2; waiting for it, at most $most s ..."
        wait_until "$most" lock 8 || die "$other has not ended within $most s; end it first."
    }
    { echo $$ >&8 || true; } 2>/dev/null # the disk may be full
    return "$had_to_wait"
}
lock() { # FILE_DESCRIPTOR: fails if another has it. A Mac has no `flock`, but Perl; without either, nobody waits
    if command -v flock >/dev/null; then flock -n "$1"; return; fi
    ! command -v perl >/dev/null || perl -MFcntl=:flock -e 'open my $file, ">&=" . pop; exit !flock($file, LOCK_EX | LOCK_NB)' -- "$1"
}

# shellcheck disable=SC2046 # a list
end_jobs() { exec 2>/dev/null; kill -KILL $(jobs -pr | sed 's/^/-/') || true; } # with `set -m`, each is a process group. Told by TERM, `docker compose logs` may hang. Bash would report their end
within() { timeout --signal KILL "$@" </dev/null; } # SECONDS COMMAND...: kills it after that time

local_curl() { curl -q --silent --noproxy '*' "$@"; } # no ~/.curlrc; and a proxy cannot reach this machine's own ports

# ── Docker and Debian ───────────────────────────────────────────────────────────────────────────────────────

# shellcheck disable=SC2034 # for the scripts
readonly OFFICIAL_IMAGE=python:3.13-slim@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b # the default of docker-compose.yml
readonly OLDEST_ENGINE=25 # the first with a health check's start_interval
readonly ENDED_BY_FORCE=137 ENGINE_SECONDS=10 # an engine that takes longer to report its version counts as dead
readonly NO_ANSWER="Docker has not answered within $ENGINE_SECONDS s"

docker_says() { within "$ENGINE_SECONDS" docker "$@" 2>/dev/null; } # ARGUMENTS: nothing where no engine answers
engine_version() { within "$ENGINE_SECONDS" docker version --format '{{.Server.Version}}'; }

engine_obstacle() { # prints why there is no engine, if there is none
    local said
    command -v docker >/dev/null || { echo "there is no 'docker' command" && return; }
    said=$(engine_version 2>&1) || case "$said" in
        *"permission denied"*) echo "the Docker engine refuses $(id -un); use sudo, or join the docker group and log in again: sudo usermod -aG docker $(id -un)" ;;
        *) echo "no Docker engine answers" ;;
    esac
}

docker_obstacle() { # prints why containers cannot be used; prints nothing if they can
    local version obstacle plugin
    obstacle=$(engine_obstacle)
    [ -z "$obstacle" ] || { echo "$obstacle" && return; }
    version=$(engine_version)
    ! [ "${version%%.*}" -lt "$OLDEST_ENGINE" ] 2>/dev/null || { echo "the Docker engine is version $version; $OLDEST_ENGINE or newer is required" && return; }
    for plugin in compose buildx; do
        docker "$plugin" version >/dev/null 2>&1 || { echo "'docker $plugin' does not answer" && return; }
    done
}

apt_get() { DEBIAN_FRONTEND=noninteractive quietly apt-get -q -y -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 "$@" </dev/null; }

install_from_debian() { # OPTION_OR_PACKAGE...
    say "installing from Debian's packages: $* ..."
    apt_get update && apt_get install --no-install-recommends "$@"
}

# shellcheck disable=SC2034 # used by the scripts that read this file
readonly NEWER_DEBIAN=trixie # the first release with Engine >= 25, the `docker compose` plugin, and a Python that the SDK can use: 3.13
debian_codename() { (. /etc/os-release && echo "${VERSION_CODENAME:-unknown}") 2>/dev/null || echo unknown; }

debian_mirror() { # prints the address this machine takes Debian's main packages from
    # shellcheck disable=SC2016 # apt expands these, not the shell
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        awk -v suite="$(debian_codename)" '$2 == suite && $3 == "main" { print $1; exit }'
}

# ── .env: what docker compose by hand reads, too ────────────────────────────────────────────────────────────

readonly OWN_LINE="# by scripts/up.sh"

env_is_readable() { [ ! -e .env ] || { [ -f .env ] && [ -r .env ]; }; }
last_line() { # NAME: prints the last line of the input that sets it
    local line last=""
    while IFS= read -r line || [ -n "$line" ]; do [[ "$line" != "$1="* ]] || last=$line; done
    printf '%s\n' "${last%$'\r'}"
}
noted_line() { last_line "$1" <.env || true; } 2>/dev/null
noted() { # NAME: prints the value as docker compose reads it
    local value
    value=$(noted_line "$1") && value=${value#*=} && value=${value#[\"\']}
    printf '%s\n' "${value%%[\"\' #]*}"
}

rewrite_env() { # NAME [LINE]: removes lines that set it, and appends LINE; mktemp makes the file private, as it may hold a token
    local new=""
    new=$(mktemp .env.XXXXXX) && {
        { [ ! -e .env ] || grep -a -v "^$1=" .env || [ $? = 1 ]; } && { [ -z "${2:-}" ] || printf '%s\n' "$2"; }
    } >"$new" && mv "$new" "$(readlink -f .env)" && return
    rm -f "$new"
    die "cannot write the file .env in $PWD."
}

note() { # NAME VALUE [OF_WHAT]
    [[ "$2" =~ ^[A-Za-z0-9._:/@+~=-]+$ ]] && [[ ! "${3:-}" =~ [[:cntrl:]] ]] || die "cannot save '$2${3:+ $3}' in .env as $1."
    rewrite_env "$1" "$1=$2 $OWN_LINE${3:+ $3}"
}

# ── what a stack consists of ────────────────────────────────────────────────────────────────────────────────

# With PostgreSQL, docker compose has a second file, which up.sh notes in .env. The stack as processes obeys that, too.
COMPOSE_FILE=${COMPOSE_FILE:-$(noted COMPOSE_FILE)}
if [ -n "$COMPOSE_FILE" ]; then export COMPOSE_FILE; else unset COMPOSE_FILE; fi
has_postgres() { [[ "${COMPOSE_FILE:-}" = *compose.postgres.yml* ]]; }

SERVICES=$(! has_postgres || echo postgres; echo resonate-server; services)
readonly SERVICES=${SERVICES//$'\n'/ }

# ── whose stack this is ─────────────────────────────────────────────────────────────────────────────────────

# Each checkout is a stack of its own, with one name: it is the Compose project of containers, networks, volumes and images, it
# is on the command lines of processes, and it names their folder. It is made once, at random, and noted in .env together with
# the folder that it was made for: it is not valid in a copied or moved checkout.

readonly NOTED_FOR="for $PWD"
by_hand() { printf %s "durable-rpc-$PWD" | tr '[:upper:]' '[:lower:]' | LC_ALL=C tr -cd 'a-z0-9_-'; } # see docker-compose.yml

# STACK_DIR is for settings, logs, health files and database of the stack as processes.
use_name() { export COMPOSE_PROJECT_NAME=$1 STACK_DIR=${STACK_DIR:-$PWD/.local/$1}; } # NAME

is_foreign() { # whether the name in .env was made for another folder, rather than chosen by somebody
    [[ "$(noted_line COMPOSE_PROJECT_NAME)" = *"$OWN_LINE for "* && "$(noted_line COMPOSE_PROJECT_NAME)" != *" $NOTED_FOR" ]]
}

# Containers and processes know their checkout, so a stack is found again after `git clean`, or if it was started by hand.
found_name() { # prints the name of what runs for this folder, but not one that somebody chose for the moment
    { processes stacks; names_of_containers; } 2>/dev/null | grep -x -E "durable-rpc-[0-9a-f]{8}|$(by_hand)" | head -n 1
}

names_of_containers() { # even if they were started through a symlink
    local name folder
    docker_says ps --all --filter label=com.docker.compose.service=resonate-server --format '{{.Label "com.docker.compose.project"}} {{.Label "com.docker.compose.project.working_dir"}}' |
        while read -r name folder; do
            [ "$(cd -P -- "$folder" && pwd)" != "$PWD" ] || echo "$name"
        done && docker_says volume inspect "$(by_hand)_resonate-data" --format "$(by_hand)"
}

random_hex() { od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'; } # BYTES

find_stack() { # sets the name if it is not given: the one of what runs, else a new one
    [ -n "${COMPOSE_PROJECT_NAME:-}" ] && [ -n "${STACK_DIR:-}" ] && return
    local found
    found=$(found_name) || true
    use_name "${found:-durable-rpc-$(random_hex 4)}"
}

# shellcheck disable=SC2034 # used by the scripts that read this file
readonly CHOSEN_NAME=${COMPOSE_PROJECT_NAME:-} # by whoever started this
chosen=$CHOSEN_NAME
[ -n "$chosen" ] || is_foreign || chosen=$(noted COMPOSE_PROJECT_NAME)
[[ ! "$chosen" =~ ^[a-z0-9][a-z0-9_-]*$ ]] || use_name "$chosen"
unset chosen

# ── the stack as processes ──────────────────────────────────────────────────────────────────────────────────

# scripts/processes.py is for processes what `docker` is for containers. If the environment is gone, any Python will do.
processes() { # VERB ARGUMENTS...
    local python=$VENV/bin/python
    [ -x "$python" ] || python=/usr/bin/python3
    [ -x "$python" ] || python=python3
    (trap '' INT && exec "$python" -IS scripts/processes.py "$@") # it accepts Ctrl-C once it can end without a traceback
}

# ── either kind of stack ────────────────────────────────────────────────────────────────────────────────────

look_at_stack() { # sets kind (processes, containers or none), the running services, and what of_stack reads, even from stopped containers
    command -v curl >/dev/null || die "the command 'curl' is missing. On Debian: apt-get install curl"
    command -v timeout >/dev/null || die "the command 'timeout' is missing. On Debian: apt-get install coreutils"
    find_stack
    kind=none stack_settings="" looked=0
    running_services=$(processes running 2>/dev/null | sed 's/-[0-9]*$//') || true
    if [ -n "$running_services" ]; then
        kind=processes stack_settings=$(cat "$STACK_DIR/run/settings" 2>/dev/null || true)
        return
    fi
    running_services=$(docker_says ps --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME" --filter label=com.docker.compose.oneoff=False --format '{{.Label "com.docker.compose.service"}}') || looked=$?
    [ -z "$running_services" ] || kind=containers
    stack_settings=$(container_settings || true)
}

containers_can_be_seen() { # STATUS of what asked the engine; without Docker there are none
    local reason=$NO_ANSWER
    [ "$1" != 0 ] && command -v docker >/dev/null || return 0
    [ "$1" = "$ENDED_BY_FORCE" ] || reason=$(engine_obstacle)
    die "cannot tell whether containers of the stack are running: ${reason:-docker ends with status $1}. No processes of it run; scripts/up.sh starts them."
}

container_settings() { # prints NAME=VALUE
    local containers
    containers=$(docker_says ps --all --quiet --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME")
    # shellcheck disable=SC2016,SC2086 # a template; a list of ids
    [ -z "$containers" ] || docker_says inspect $containers --format '
        {{- range .Config.Env}}{{println .}}{{end}}
        {{- range $port, $bound := .HostConfig.PortBindings}}{{range $bound}}{{$port}}={{println .HostPort}}{{end}}{{end}}' |
        sed -e '/^FOO_PORT=/d' -e 's|^5000/tcp=|FOO_PORT=|' -e 's|^8001/tcp=\([0-9]*\).*|RESONATE_PORT=\1|'
}

of_stack() { local line && line=$(last_line "$1" <<<"$stack_settings") && printf '%s\n' "${line#*=}"; } # NAME: prints the value with which the stack was started

use_settings() { # SOURCE...: exports each setting, as chosen for this command, else from the first source that has it
    local setting name source value
    for setting in FOO_PORT=5000 RESONATE_PORT=8001 LEASE_SECONDS=10 DEMO_FAULTS=1 RESONATE_TOKEN=; do
        name=${setting%%=*}
        value=${!name:-}
        for source in "$@"; do value=${value:-$("$source" "$name")}; done
        export "$name=${value:-${setting#*=}}"
    done
    for name in FOO_PORT RESONATE_PORT; do
        { [[ "${!name}" =~ ^[1-9][0-9]{0,4}$ ]] && [ "${!name}" -le 65535 ]; } ||
            die "$name must be a port number, 1 to 65535, not '${!name}'."
    done
}

need_stack() { # [HINT]
    [ "$kind" = none ] || return 0
    containers_can_be_seen "$looked"
    die "the stack is not up; scripts/up.sh starts it.${1:-}"
}

require() { # [SERVICES], else all: sets kind, and the variables with which a restarted service becomes what it was
    local service token
    look_at_stack
    need_stack
    for service in ${1:-$SERVICES}; do
        grep -q -x -- "$service" <<<"$running_services" || die "$service is not running; scripts/up.sh starts it."
    done
    token=$(of_stack RESONATE_TOKEN)
    RESONATE_TOKEN=${token:-${RESONATE_TOKEN:-}} # the stack's own, whatever the shell has
    use_settings of_stack noted
}

break_alone() { find_stack; alone "$STACK_DIR/run/breaking" "breaks this stack" || true; } # one script at a time breaks a stack, and repairs it
end_breaking() { # fails until it has ended: it would start again what down.sh stops
    { exec 7<>"$STACK_DIR/run/breaking"; } 2>/dev/null || return 0
    lock 7 || { kill -TERM "$(head -n 1 <&7)" && kill -CONT "$(head -n 1 "$STACK_DIR/run/breaking")"; return 1; } # Ctrl-Z may have stopped it
} 2>/dev/null

resonate_command() { # ARGUMENTS: runs `resonate` beside the server, on this terminal if there is one; with become=exec, in place of this shell
    local name options=()
    if [ "$kind" = processes ]; then
        ${become:-} "$VENV/bin/resonate" --server "http://127.0.0.1:$RESONATE_PORT" "$@"
        return
    fi
    { [ -t 0 ] && [ -t 1 ]; } || options+=(-T)
    [ ! -t 1 ] || options+=(--env FORCE_COLOR=1) # for colours in the report, too, although its stdin is a pipe
    for name in NO_COLOR COLUMNS; do [ -z "${!name:-}" ] || options+=(--env "$name=${!name}"); done
    ${become:-} docker compose exec ${options[@]+"${options[@]}"} resonate-server resonate "$@"
}

# ── one instance of a service: a container by its id, or a process by its name ──────────────────────────────

# Actions, as KIND VERB INSTANCE:
#   log, healthy
#   kill, start          SIGKILL it; start it again
#   freeze, thaw         stop it, with its connections open
#   cut_off, reconnect   from the network; containers only, as processes share an interface
#   loosen               thaw it if it is frozen, reconnect it if it is cut off; a dead one may stay dead; containers only
#   mend                 undo whatever a fault has done to it
#   remove               remove a second one that is no longer needed
# KIND of SERVICE prints its living instances, frozen ones included; KIND said SERVICE... prints the output of all their instances;
# KIND second SERVICE starts one more, and prints it.

# SERVICE OPTIONS...: prints their ids, or those of all services if it is empty, without the workers of examples, in a tenth of the time that docker compose needs
containers_of() { docker ps --quiet --no-trunc --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME" --filter label=com.docker.compose.oneoff=False --filter "label=com.docker.compose.service${1:+=$1}" "${@:2}"; }

containers() { # VERB ARGUMENTS...
    local id service
    case "$1" in
        of) containers_of "$2" ;;
        said) for service in "${@:2}"; do for id in $(containers_of "$service" --all); do containers log "$id"; done; done ;;
        log) docker logs "$2" 2>&1 ;;
        healthy) [ "$(docker inspect --format '{{.State.Status}} {{.State.Health.Status}}' "$2")" = "running healthy" ] ;;
        kill) quietly docker kill "$2" ;;
        start) quietly docker start "$2" ;;
        # An engine under load may fail at first ("OCI runtime pause failed: unable to freeze"), and succeed when asked again.
        freeze) wait_until 15 pause_container "$2" || quietly docker pause "$2" ;;
        thaw) quietly docker unpause "$2" ;;
        cut_off) quietly docker network disconnect "${COMPOSE_PROJECT_NAME}_default" "$2" ;;
        reconnect)
            id=$(docker inspect --format '{{index .Config.Labels "com.docker.compose.service"}}' "$2")
            quietly docker network connect --alias "$id" "${COMPOSE_PROJECT_NAME}_default" "$2"
            ;;
        loosen) { ! has_status "$2" paused || containers thaw "$2"; } && { is_connected "$2" || containers reconnect "$2"; } ;;
        mend) containers loosen "$2" && { has_status "$2" running || containers start "$2"; } ;;
        second) # without --wait, which fails if the first one's last health checks failed because it was frozen
            id=$(containers of "$2")
            quietly docker compose up --detach --no-build --no-deps --no-recreate --scale "$2=2" "$2" || true
            containers_of "$2" --all | grep -vxF "$id"
            ;;
        remove) quietly docker rm --force "$2" ;;
    esac
}

has_status() { [ "$(docker inspect --format '{{.State.Status}}' "$1")" = "$2" ]; } # CONTAINER STATUS
pause_container() { docker pause "$1" || has_status "$1" paused; }
is_connected() { docker inspect --format '{{range $name, $_ := .NetworkSettings.Networks}}{{println $name}}{{end}}' "$1" | grep -q -x "${COMPOSE_PROJECT_NAME}_default"; } # CONTAINER: to its stack's network
loosen_containers() { local id && for id in $(containers_of ""); do containers loosen "$id" || return 1; done; }
