#!/usr/bin/env bash
# Shows what the services print, whichever kind of stack it is.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

usage() {
    cat <<'USAGE'
usage: scripts/logs.sh [-f] [SERVICE]

Shows the logs of all services or of one: foo, bar, baz, resonate-server.

  -f, --follow   go on with what comes; ends with Ctrl-C
USAGE
}

show_process_log() { # SERVICE: each line with the service's name before it, at once
    local file
    file=$(log_file "$1")
    [ -f "$file" ] || return 0
    # shellcheck disable=SC2086 # one option or none
    tail -n +1 $follow "$file" | awk -v name="$1" '{ printf "%-15s | %s\n", name, $0; fflush() }'
}

show_container_logs() {
    # shellcheck disable=SC2086 # each is one word or none
    if [ -t 1 ]; then
        docker compose logs $follow $wanted
    else # some versions put terminal control characters into pipes as well
        docker compose logs $follow $wanted | awk '{ sub(/^\033\[2K/, ""); print; fflush() }'
    fi
}

follow=""
wanted=""
while [ $# -gt 0 ]; do
    case "$1" in
        -f | --follow) follow=-f ;;
        -h | --help) usage && exit 0 ;;
        -*) bad_usage "unknown option '$1'" ;;
        *)
            case " $SERVICES " in
                *" $1 "*) wanted=$1 ;;
                *) bad_usage "there is no service '$1'" ;;
            esac
            ;;
    esac
    shift
done

if ! processes_are_up && containers_are_up; then
    show_container_logs
    exit
fi
[ -d "$STACK_DIR/log" ] || die "there is nothing to show: the stack has not run yet (scripts/up.sh)."
if [ -z "$follow" ]; then
    for service in ${wanted:-$SERVICES}; do show_process_log "$service"; done
    exit
fi
set -m # each background job is a process group, so that the trap ends all of it
end_jobs() { jobs -p | while read -r group; do kill -- "-$group" 2>/dev/null || true; done; }
trap end_jobs EXIT
trap 'exit 0' INT TERM
for service in ${wanted:-$SERVICES}; do show_process_log "$service" & done
wait
