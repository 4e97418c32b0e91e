#!/usr/bin/env -S bash -p
# Starts the whole stack, as containers or as processes, and sends one request through it.
set -euo pipefail; SELF=$(readlink -f -- "$0"); cd -P -- "${SELF%/*}/.."; . scripts/lib.sh #

readonly HEALTHY_SECONDS=90 # how long a start may take
readonly FIRST_ANSWER_SECONDS=60

# ── whose stack this is ─────────────────────────────────────────────────────────────────────────────────────

keep_name() { # in .env; the former stack is left alone, and reported
    [ -z "$CHOSEN_NAME" ] && [ "$(noted COMPOSE_PROJECT_NAME)" != "$COMPOSE_PROJECT_NAME" ] || return 0
    ! is_foreign || tell_of_other "$(noted COMPOSE_PROJECT_NAME)"
    note COMPOSE_PROJECT_NAME "$COMPOSE_PROJECT_NAME" "$NOTED_FOR"
}

traces_of() { # NAME: prints what exists of that stack
    local COMPOSE_PROJECT_NAME=$1 data=.local/$1/resonate.sqlite filter=label=com.docker.compose.project=$1
    [ ! -e "$data" ] || echo "  database   $data"
    processes list 2>/dev/null | sed 's/^/  process    /' || true
    docker_says ps --all --filter "$filter" --format '  container  {{.Names}}' || true
    docker_says volume ls --filter "$filter" --format '  volume     {{.Name}}' || true
}

tell_of_other() { # NAME
    cat >&2 <<OTHER
Note: this checkout was copied or moved; it was the stack $1. From now on it is a stack of its own,
$COMPOSE_PROJECT_NAME. That one is left alone:
$(traces_of "$1")
  To stop it:  COMPOSE_PROJECT_NAME=$1 scripts/down.sh
  To take it over instead, with its data, have this line in .env, in place of the one with the new name:
               COMPOSE_PROJECT_NAME=$1
OTHER
}

# ── settings ────────────────────────────────────────────────────────────────────────────────────────────────

choose_settings() { # as chosen for this time, else from .env, else as the stack has them, else the defaults
    local given=${RESONATE_TOKEN-unset} # set to nothing: none
    use_settings noted of_stack
    [ -n "$given" ] || RESONATE_TOKEN=""
    export SERVER_PORTS=$RESONATE_PORT-$((RESONATE_PORT + 2)) POSTGRES_IMAGE=${POSTGRES_IMAGE:-$(noted POSTGRES_IMAGE)}
    # An image that up.sh itself noted is chosen anew, by scripts/base-image.sh.
    [ -n "${PYTHON_IMAGE:-}" ] || image_is_ours || PYTHON_IMAGE=$(noted PYTHON_IMAGE)
    export PYTHON_IMAGE=${PYTHON_IMAGE:-}
    [ "$FOO_PORT" != "$RESONATE_PORT" ] || die "FOO_PORT and RESONATE_PORT must differ: both are $FOO_PORT."
    check_value LEASE_SECONDS SECONDS "$LEASE_SECONDS"
    need_some LEASE_SECONDS "$LEASE_SECONDS"
    [[ "${MAX_TASKS:-1}" =~ ^([1-9][0-9]{0,2}|1000)$ ]] || bad_usage "MAX_TASKS must be a whole number from 1 to 1000, not '$MAX_TASKS'"
    [[ ! "$RESONATE_TOKEN" =~ [[:cntrl:]] ]] || bad_usage "RESONATE_TOKEN must be a single line"
    [[ "$DEMO_FAULTS" =~ ^[01]$ ]] || bad_usage "DEMO_FAULTS must be 1 or 0, not '$DEMO_FAULTS'"
    [ -z "$token" ] || [ -n "$RESONATE_TOKEN" ] || new_token=yes RESONATE_TOKEN=$(random_hex 24)
}
image_is_ours() { case "$(noted_line PYTHON_IMAGE)" in *"$OWN_LINE") ;; *) return 1 ;; esac }

check_running() { # a running stack keeps its kind and its settings
    local name is has="" differs=""
    [[ ! "$wanted-$up_as" =~ ^(docker-processes|processes-containers)$ ]] || die "the stack is already running as $up_as; stop it with scripts/down.sh, or use --recreate"
    ! has_postgres || [ -n "$("$up_as" of postgres)" ] || die "the stack is running without PostgreSQL; use --recreate to change that. Its state stays in SQLite, and the new database starts empty unless you copy it first: docs/scaling.md, 'Moving up from SQLite'."
    [ -n "$stack_settings" ] || die "the settings of what runs are gone from $STACK_DIR, as if this checkout had been deleted and made again; --recreate stops it and starts it anew."
    for name in FOO_PORT RESONATE_PORT LEASE_SECONDS DEMO_FAULTS RESONATE_TOKEN; do
        is=$(of_stack "$name")
        [ "$is" = "${!name}" ] || differs="$differs $name"
        [ "$name" = RESONATE_TOKEN ] || has="$has $name=$is"
    done
    [ -z "$differs" ] || die "the stack is running with$has; you asked for another value of$differs. Nothing was changed; --recreate stops the stack and starts it with the new settings (pending requests continue)."
}

note_settings() { # those that docker compose by hand must know, too
    keep_name
    [ -z "$new_token" ] || { note RESONATE_TOKEN "$RESONATE_TOKEN" && say "A new token is saved in .env as RESONATE_TOKEN; it applies until you delete that line."; }
    [ -z "$new_ports" ] || { note FOO_PORT "$FOO_PORT" && note RESONATE_PORT "$RESONATE_PORT"; }
    if has_postgres && [ -n "$postgres$(noted COMPOSE_FILE)" ]; then
        note COMPOSE_FILE "$COMPOSE_FILE"
        note SERVER_PORTS "$SERVER_PORTS"
        [ -z "$POSTGRES_IMAGE" ] || note POSTGRES_IMAGE "$POSTGRES_IMAGE"
    fi
    [ "$kind" = containers ] && [ "$PYTHON_IMAGE" != "$(noted PYTHON_IMAGE)" ] || return 0
    if [ "$PYTHON_IMAGE" != "$OFFICIAL_IMAGE" ]; then note PYTHON_IMAGE "$PYTHON_IMAGE"; elif image_is_ours; then rewrite_env PYTHON_IMAGE; fi
}

# ── which kind of stack ─────────────────────────────────────────────────────────────────────────────────────

choose_kind() {
    local obstacle="" reason="a Docker engine answers" last
    kind=containers last=$(last_run)
    case "$wanted-$up_as-$last" in
        processes-*) kind=processes reason="--processes was given" ;;
        -processes-*) kind=processes reason="it is already running that way" ;;
        -none-processes*) kind=processes reason="that is how it ran last time" ;;
        *)
            obstacle=$(docker_obstacle)
            [ -n "$obstacle" ] || PYTHON_IMAGE=$(scripts/base-image.sh) || obstacle="no base image is available"
            [ -n "$obstacle" ] || ! has_postgres || POSTGRES_IMAGE=$(scripts/base-image.sh --postgres) || obstacle="no PostgreSQL image is available"
            ;;
    esac
    if [ -n "$obstacle" ]; then
        [ "$wanted" != docker ] || die "$obstacle. On bare Debian, as root, scripts/docker-engine.sh installs and starts one."
        [[ "$wanted-$last" != -containers* ]] || die "$obstacle, but the stack last ran as containers, which have its database. Start the engine, or start with another database: scripts/up.sh --processes"
        kind=processes reason=$obstacle
    fi
    say "Starting the stack as $kind: $reason."
    [[ "$last" = "" || "$last" = "$(this_run)" ]] || say "Note: last time it ran as $last, which has another database. Requests pending there continue when it runs that way again."
}

this_run() { echo "$kind with $(has_postgres && echo PostgreSQL || echo SQLite)"; }
last_run() { cat "$STACK_DIR/last-run" 2>/dev/null || { [ ! -e "$STACK_DIR/resonate.sqlite" ] || echo "processes with SQLite"; }; }

# ── ports ───────────────────────────────────────────────────────────────────────────────────────────────────

belongs_to() { # SERVICE, or to the remains of a killed one, whose end is awaited
    { [ "$kind" = "$up_as" ] && grep -q -x -- "$1" <<<"$running_services"; } || processes list 2>/dev/null | grep -q ", $1\$"
}

own_ports_aside() { # FOO SERVER...: prints the ports that the stack does not have already
    belongs_to foo || echo "$1"
    belongs_to resonate-server || printf '%s\n' "${@:2}"
}

can_have() { # PORT...: holds them until the stack has bound them, against others that start meanwhile; else sets taken
    if [ $# = 0 ]; then return; else exec 9<&-; fi
    for taken in "$@"; do # by a program, whether it accepts connections or not
        within 2 bash -p -c "exec 3<>/dev/tcp/127.0.0.1/$taken" 2>/dev/null
        [ $? = 1 ] || return 1
    done
    exec 9< <(processes hold "$@" 2>/dev/null)
    read -r taken <&9 || return 0 # there is no Python
    [ "$taken" = held ]
}

choose_ports() {
    local taken first="" hint="" foo=$FOO_PORT server=$RESONATE_PORT more=0
    ! has_postgres || [ "$kind" = processes ] || more=2 # there are three servers
    # shellcheck disable=SC2046 # a list
    until can_have $(own_ports_aside "$foo" $(seq "$server" $((server + more)))); do
        first=${first:-$taken} foo=$((foo + 1)) server=$((server + 1))
        [ "$foo" -le 65535 ] && [ $((server + more)) -le 65535 ] || die "port $first is taken by another program, and so are those that follow it; choose another FOO_PORT and RESONATE_PORT."
    done
    [ -n "$first" ] || return 0
    [ "$first-$(uname)" != 5000-Darwin ] || hint=" (often AirPlay)"
    [ "$ports-$up_as" = auto-none ] || die "port $first is taken by another program$hint. These are free: FOO_PORT=$foo RESONATE_PORT=$server scripts/up.sh; to use and save them: scripts/up.sh --ports auto"
    FOO_PORT=$foo RESONATE_PORT=$server SERVER_PORTS=$server-$((server + 2)) new_ports=yes
    say "Port $first is taken. Using $foo for foo and $server for the server from now on (saved in .env)."
}

# ── starting ────────────────────────────────────────────────────────────────────────────────────────────────

shown_on_terminal() { if [ -t 2 ]; then "$@" >&2; else quietly "$@"; fi; } # COMMAND...: its progress; elsewhere only its failure

kept_scale() { # prints the options that keep each worker's number of instances
    local count service
    for service in $(services worker); do
        count=$(containers_of "$service" --all | grep -c . || true)
        [ "$count" -lt 2 ] || echo "--scale $service=$count"
    done
}
none_unhealthy() { [ -z "$(docker ps --quiet --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME" --filter health=unhealthy)" ]; }

start_containers() {
    say "building the images ..."
    shown_on_terminal docker compose build || die "the images could not be built."
    loosen_containers || die "could not bring back frozen or disconnected containers."
    # Compose gives up at once on a container whose last health checks failed, as those of a frozen one did, so wait for the
    # next check first. Compose reports a container that stays unhealthy.
    wait_until "$HEALTHY_SECONDS" none_unhealthy || true
    say "starting the containers and waiting until all are healthy ..."
    # shellcheck disable=SC2046 # a list of options
    shown_on_terminal docker compose up --detach --wait --wait-timeout "$HEALTHY_SECONDS" $(kept_scale) || {
        { docker compose ps --all && docker compose logs --tail 8; } >&2 || true # the engine may be gone
        die "not all containers became healthy; the last lines of their logs are above."
    }
}

start_processes() {
    scripts/venv.sh
    say "starting the processes and waiting until all are healthy ..."
    # shellcheck disable=SC2086 # a list
    metrics=$(processes up $SERVICES)
}

show_next_steps() {
    local shown=$RESONATE_TOKEN
    [ -z "$shown" ] || [ -t 2 ] || shown=... # output that does not go to a terminal is often kept
    cat >&2 <<NEXT

The stack $COMPOSE_PROJECT_NAME is up, as $kind$(! has_postgres || echo ": three servers and two bars, with the state in PostgreSQL").
  foo               http://127.0.0.1:$FOO_PORT/foo     try: curl -X POST http://127.0.0.1:$FOO_PORT/foo
  Resonate server   http://127.0.0.1:$RESONATE_PORT
  the live page     http://127.0.0.1:$RESONATE_PORT/ui/${shown:+#token=$shown}        every call as it waits, runs, breaks off and continues
  metrics           $metrics
NEXT
    [ -z "$shown" ] || say "The server and its page require the token, RESONATE_TOKEN; foo, the application's public API, does not."
    [ "$kind" = processes ] || [ "$PYTHON_IMAGE" = "$OFFICIAL_IMAGE" ] || say "Base image: $PYTHON_IMAGE (saved in .env, for docker compose by hand)."
    echo >&2 && cat scripts/next-steps.txt >&2
}

# shellcheck disable=SC2034 # one_of looks at them
metrics="not published; see docs/operations.md" docker="" processes="" postgres="" token="" ports="" recreate="" new_token="" new_ports=""
read_arguments 0 "$@"
wanted=$(one_of docker processes)
if [ -n "$postgres" ] && ! has_postgres; then COMPOSE_FILE=docker-compose.yml:compose.postgres.yml exec scripts/up.sh "$@"; fi
env_is_readable || die "$PWD/.env cannot be read by $(id -un)."
[ -n "$CHOSEN_NAME" ] || alone .local/up.lock "starts or stops this stack" || exec scripts/up.sh "$@" # to find the name and the ports that the other has chosen; also of down.sh
look_at_stack
up_as=$kind
trap 'say "up.sh: interrupted. Services already started keep running: scripts/up.sh starts the rest, scripts/down.sh stops them."; exit 130' INT
choose_settings
if [ "$up_as" != none ] && [ -n "$recreate" ]; then scripts/down.sh && up_as=none; fi
[ "$up_as" = none ] || check_running
choose_kind
[ "$kind" = processes ] || quietly docker compose config --quiet || die "docker compose rejects its files; see above. If the fault is in .env, fix or delete that line."
choose_ports
note_settings
"start_$kind"
exec 8>&- 9<&- # the ports are taken now
{ mkdir -p "$STACK_DIR" && this_run >"$STACK_DIR/last-run"; } || die "cannot write to $STACK_DIR, which records where the requests are."
say "sending one request: scripts/trigger.sh"
scripts/trigger.sh --max-time "$FIRST_ANSWER_SECONDS" ||
    die "the stack is up, but that request failed; see above, and scripts/logs.sh."
show_next_steps
