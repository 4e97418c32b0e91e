#!/usr/bin/env bash
# Stops the whole stack, whichever kind it is.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

usage() {
    cat <<'USAGE'
usage: scripts/down.sh [--volumes]

Stops the stack. Requests on their way are kept and go on after the next scripts/up.sh.

  --volumes   also deletes the database, and with it all requests
USAGE
}

volumes=""
while [ $# -gt 0 ]; do
    case "$1" in
        --volumes) volumes=--volumes ;;
        -h | --help) usage && exit 0 ;;
        *) bad_usage "unknown argument '$1'" ;;
    esac
    shift
done

started=$(now_ms)
if processes_are_up; then
    say "stopping the processes ..."
    stop_processes
fi
if [ -n "$volumes" ]; then
    rm -f "$STACK_DIR"/resonate.sqlite*
fi
# With --volumes there may be something to delete even if nothing runs.
if [ -z "$(docker_obstacle)" ] && { [ -n "$volumes" ] || containers_exist; }; then
    say "stopping the containers ..."
    # shellcheck disable=SC2086 # one option or none
    quietly docker compose down --remove-orphans $volumes
fi
say "The stack is down ($(seconds $(($(now_ms) - started))) s)."
