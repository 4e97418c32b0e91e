# shellcheck shell=bash
# Shared by crash.sh and crash-bar.sh: scripts/crash.py decides and reports, and this does what it asks for. Sourced after lib.sh.
# shellcheck disable=SC2119,SC2120,SC2154 # kind: set by `require`; the arguments of a function are not those of the script

readonly DOCKER_FAILED=125 # `docker run` itself, rather than what it runs

# The server's image has the packages that it needs, but no file of this checkout, so the program is passed as an argument.
direct() { # ARGUMENTS of crash.py...
    if [ "$kind" = processes ]; then
        "$VENV/bin/python" -P scripts/crash.py "foo=127.0.0.1:$FOO_PORT" "server=http://127.0.0.1:$RESONATE_PORT" "$@"
        return
    fi
    { docker run --rm --interactive --init --no-healthcheck --label com.docker.compose.project= \
        --network "${COMPOSE_PROJECT_NAME}_default" --env RESONATE_TOKEN --env FOO_PORT \
        "$(docker inspect --format '{{.Image}}' "$(containers of resonate-server | head -n 1)")" \
        python3 -c "$(cat scripts/crash.py)" foo=foo:5000 server=http://resonate-server:8001 "$@" 2>&1 >&4 4>&- |
        (trap "" PIPE; while IFS= read -r line; do printf '%s\n' "$line" >&2 || true; done); } 4>&1 # docker ends if nobody reads its errors
}

serve() { # reads commands, one per line, and answers each with its status and, if wanted, its output
    local line status output
    trap : PIPE # the reader of the output may go; then crash.py ends, after mending what it broke
    while IFS= read -r line; do
        eval "set -- $line"
        status=0 output=""
        case "$1" in
            ask) output=$("${@:2}" 2>"$work/errors" </dev/null) || status=$? output=$(cat "$work/errors") ;;
            do) "${@:2}" </dev/null || status=$? ;;
        esac
        [ -z "$output" ] || output=$(printf %s "$output" | base64 | tr -d '\n')
        printf '%s %s\n' "$status" "$output" >&3
    done
}

at_once() { # KIND VERB INSTANCES...: fails if it fails for any of them
    local one pids="" failed=""
    for one in "${@:3}"; do "$1" "$2" "$one" & pids="$pids $!"; done
    for one in $pids; do wait "$one" || failed=yes; done
    [ -z "$failed" ]
}

print() { printf '%s\n' "$1" 2>/dev/null; } # TEXT: fails if nobody reads it any more

has_printed() { [ "$("$kind" log "$1" | grep -c -- "$2")" -gt 0 ]; } # INSTANCE PATTERN: `grep -q` would end the log's reader by SIGPIPE

report() { # ID OPTIONS...: ends with 0 if everything is as expected
    local group
    group=$(service_field "$service" group) || true # the server has none
    echo
    # shellcheck disable=SC2046 # a list
    "$kind" said $(services) | resonate_command report "$@" ${group:+--group "$group"}
}

play() { # SERVICE ARGUMENTS of crash.py...: sets id; ends with 0 if everything is as expected
    local service=$1 work status=0
    trap 'exit 130' INT
    break_alone
    require
    [ "$kind" = containers ] || [ -x "$VENV/bin/python" ] || die "the stack runs with $VENV/bin/python, which $(id -un) may not execute."
    [[ "$kind $*" != *processes*fault=partition* ]] ||
        die "--partition needs containers: processes share one network interface, so none can be disconnected alone."
    id=crash-$(date +%H%M%S)-$$
    set -- script="$SCRIPT" kind="$kind" id="$id" service="$service" lease="$LEASE_SECONDS" \
        down=$((${LEASE_SECONDS%%.*} + 3)) "${@:2}"
    [ "$(service_field "$service" kind)" != worker ] || set -- "$@" is_worker=1
    [ ! -t 1 ] || [ -n "${NO_COLOR:-}" ] || set -- "$@" colours=1
    work=$(mktemp -d)
    mkfifo "$work/asked" "$work/answered" "$work/lives"
    exec 3<>"$work/answered"
    trap 'echo "end 130" >&3' INT
    trap 'echo "end 143" >&3' TERM HUP
    set -m # process groups of their own, out of reach of Ctrl-C
    { read -r _ || echo "end 143"; } <"$work/lives" >&3 8>&- & # if this script is killed, its fault does not outlive it
    exec 6>"$work/lives"
    serve <"$work/asked" 6>&- &
    { exec 6>&-; direct "$@" <"$work/answered" >"$work/asked" 3>&- || status=$?; echo "$status" >"$work/status"; } &
    set +m
    while kill -0 $! 2>/dev/null; do wait $! || true; done
    trap : INT TERM HUP # the verdict is known: a signal that ends what runs now, such as rm, does not change it
    read -r status <"$work/status"
    rm -rf "$work" || true
    [ "$status" = 0 ] || [ "$kind" = processes ] || { [ "$status" != "$DOCKER_FAILED" ] && [ -z "$(engine_obstacle)" ]; } ||
        die "Docker has failed; see above. Whatever is broken, scripts/up.sh mends it."
    [[ $status != 0 || "$*" = *keep_down=1* ]] || { echo; resonate_command tree "$id"; } || true # a picture, not a verdict
    return "$status"
}
