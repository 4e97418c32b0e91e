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

shown_names() {
    local service
    for service in ${wanted:-$SERVICES}; do log_names "$service"; done
}

# The lines are copied by the shell, not by awk: some versions of that hold back what comes through a pipe. A file that has
# become large is emptied; tail tells that on stderr and goes on.
show_process_log() { # NAME: each line with the service's name before it, at once
    local file line
    file=$(log_file "$1")
    [ -f "$file" ] || return 0
    # shellcheck disable=SC2086 # one option or none
    { kept_log "$file" && tail -n +1 $follow "$file" 2>/dev/null; } | while IFS= read -r line; do printf '%-15s | %s\n' "$1" "$line"; done
}

show_container_logs() {
    local line erase=$'\033[2K'
    # shellcheck disable=SC2086 # each is one word or none
    if [ -t 1 ]; then
        docker compose logs $follow $wanted
    else # some versions put terminal control characters into pipes as well
        docker compose logs $follow $wanted | while IFS= read -r line; do printf '%s\n' "${line#"$erase"}"; done
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
            [ -z "$wanted" ] || bad_usage "only one service can be named, not '$1' as well"
            case " $SERVICES " in
                *" $1 "*) wanted=$1 ;;
                *) bad_usage "there is no service '$1'" ;;
            esac
            ;;
    esac
    shift
done

need_commands ps=procps
find_stack
if ! processes_are_up && containers_exist; then
    show_container_logs
    exit
fi
[ -d "$STACK_DIR/log" ] || die "there is nothing to show: the stack has not run yet (scripts/up.sh)."
if [ -z "$follow" ]; then
    for name in $(shown_names); do show_process_log "$name"; done
    exit
fi
set -m # each background job is a process group, so that the trap ends all of it
end_jobs() { jobs -p | while read -r group; do kill -- "-$group" 2>/dev/null || true; done; }
trap end_jobs EXIT
trap 'exec 2>/dev/null; exit 0' INT TERM # bash would report each job that ends so
for name in $(shown_names); do show_process_log "$name" & done
wait
