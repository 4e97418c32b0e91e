#!/usr/bin/env -S bash
# Shows what the services print, whichever kind of stack it is.
set -euo pipefail; cd -P -- "$(dirname -- "$(readlink -f -- "$0")")/.."; . scripts/lib.sh #

usage() {
    cat <<'USAGE'
usage: scripts/logs.sh [-f] [SERVICE]

Shows the logs of all services, or of one: resonate-server or one of services/services.txt.

  -f, --follow   go on with what comes; ends with Ctrl-C
USAGE
}

follow=""
wanted=""
while [ $# -gt 0 ]; do
    case "$1" in
        -f | --follow) follow=-f ;;
        -h | --help) usage && exit 0 ;;
        -*) bad_usage "unknown option '$1'" ;;
        *)
            [ -z "$wanted" ] || bad_usage "only one service can be named, not '$1' as well"
            case " $SERVICES " in *" $1 "*) wanted=$1 ;; *) bad_usage "there is no service '$1'" ;; esac
            ;;
    esac
    shift
done

# The lines are copied by the shell, not by awk: some versions of that hold back what comes through a pipe. A file that has
# become large is emptied; tail tells that on stderr and goes on.
show() { # NAME: each line with the service's name before it, at once
    local line
    # shellcheck disable=SC2086 # one option or none
    { earlier_log "$1" && tail -n +1 $follow "$(log_file "$1")" 2>/dev/null; } |
        while IFS= read -r line; do printf '%-15s | %s\n' "$1" "$line"; done
}

need_commands ps=procps
find_stack
if ! processes_are_up && [ -n "$(docker_says compose ps --all --quiet)" ]; then
    # shellcheck disable=SC2086 # each is one word or none
    [ ! -t 1 ] || exec docker compose logs $follow $wanted
    # Some versions of Compose put terminal control characters into pipes as well.
    # shellcheck disable=SC2086 # each is one word or none
    docker compose logs $follow $wanted | while IFS= read -r line; do printf '%s\n' "${line#$'\033[2K'}"; done
    exit
fi
[ -d "$STACK_DIR/log" ] || die "there is nothing to show: the stack has not run yet (scripts/up.sh)."
[ -z "$follow" ] || set -m # each background job is a process group, so that the trap ends all of it
end_jobs() { jobs -p | while read -r group; do kill -- "-$group" 2>/dev/null || true; done; }
trap end_jobs EXIT
trap 'exec 2>/dev/null; exit 0' INT TERM # bash would report each job that ends so
for service in ${wanted:-$SERVICES}; do
    for name in $(processes_with_logs "$service"); do
        if [ -n "$follow" ]; then show "$name" & else show "$name"; fi
    done
done
wait
