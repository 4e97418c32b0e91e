#!/usr/bin/env -S bash -p
# Stops the whole stack, whichever kind it is.
set -euo pipefail; SELF=$(readlink -f -- "$0"); cd -P -- "${SELF%/*}/.."; . scripts/lib.sh #

# The name of the stack is enough to find what must be stopped, so neither notes nor a readable .env are needed. Whatever
# could not be stopped, or looked for, is reported.
trouble=""

tell() { say "$SCRIPT: $*" && trouble=yes; }

stop_all_processes() {
    [ -n "$(processes list 2>/dev/null)" ] || return 0
    found=yes
    say "stopping the processes ..."
    processes stop || trouble=yes # and says why
}

containers_of_stack() { docker_says ps --all --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME" --format '{{.Names}}'; }

stop_all_containers() {
    local container obstacle left
    command -v docker >/dev/null || return 0
    obstacle=$(engine_obstacle)
    if [ -n "$obstacle" ]; then
        # A stack is of one kind: if its processes have just been stopped, it has no running containers.
        { [ -n "$found" ] && [ -z "$volumes" ]; } || tell "cannot tell whether containers of the stack are running: $obstacle."
        return
    fi
    left=$(containers_of_stack) || { tell "cannot tell whether containers of the stack are running: $NO_ANSWER." && return; }
    [ -z "$left" ] || say "stopping the containers ..."
    [ -n "$left$volumes" ] || return 0 # with --volumes there may be something to delete even if nothing runs
    # shellcheck disable=SC2086 # an option, or nothing; the .env may be unreadable
    quietly within 60 docker compose --env-file /dev/null down --remove-orphans $volumes || trouble=yes
    left=$(containers_of_stack) || tell "cannot tell whether all containers of the stack are gone: $NO_ANSWER."
    for container in $left; do tell "container $container could not be removed."; done
}

volumes="" found=""
read_arguments 0 "$@"
volumes=${volumes:+--volumes}
env_is_readable || tell "$PWD/.env cannot be read by $(id -un)."
[ -n "$CHOSEN_NAME" ] || alone .local/up.lock "starts or stops this stack" 120 || true # otherwise it would go on starting what this stops
find_stack
! is_foreign || say "Note: this checkout was copied or moved. To stop its former stack: COMPOSE_PROJECT_NAME=$(noted COMPOSE_PROJECT_NAME) scripts/down.sh"
end_breaking || say "ending the script that breaks the stack; it repairs everything first ..."
wait_until 60 end_breaking || tell "crash.sh or chaos.sh has not ended within 60 s."
stop_all_processes
[ -z "$volumes" ] || [ -n "$trouble" ] || rm -rf "$STACK_DIR"/resonate.sqlite* "$STACK_DIR/postgres"
stop_all_containers
[ -z "$trouble" ] || die "cannot confirm that the stack $COMPOSE_PROJECT_NAME has stopped; see above."
[ -z "$volumes" ] || rm -f "$STACK_DIR/last-run"
say "The stack is down ($SECONDS s)."
