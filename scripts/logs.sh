#!/usr/bin/env -S bash -p
# Shows what the services print, whichever kind of stack it is.
# shellcheck disable=SC2086 # options and names: each is one word or none
set -euo pipefail; SELF=$(readlink -f -- "$0"); cd -P -- "${SELF%/*}/.."; . scripts/lib.sh #

show() { # FILE, of a process: prefixes each line with the service's name, without delay; goes on if the file is emptied
    { cat "$1.1" 2>/dev/null || true; tail -n +1 $follow "$1" 2>/dev/null; } | sed -u "s/^/$(printf %-15s "$(basename "$1" .log)") | /"
}

follow="" containers="" looked=0
read_arguments 1 "$@"
follow=${follow:+-f} wanted=${words[0]:-}
[ -z "$wanted" ] || need_service "$wanted"
set -m && trap end_jobs EXIT && trap exit INT TERM HUP # in its own time: at once, not every job would be known
find_stack
[ -n "$(processes running 2>/dev/null)" ] || containers=$(docker_says compose ps --all --quiet) || looked=$?
if [ -n "$containers" ]; then
    [ ! -t 1 ] || exec docker compose logs $follow $wanted
    # Some versions of Compose put terminal control characters into pipes as well.
    docker compose logs $follow $wanted | sed -u $'s/^\033\\[2K//' &
    wait $!
    exit
fi
[ -d "$STACK_DIR/log" ] || { containers_can_be_seen "$looked" && die "there is nothing to show: the stack has not run yet (scripts/up.sh)."; }
for service in ${wanted:-$SERVICES}; do
    for file in "$STACK_DIR/log/$service"{,-[0-9]*}.log; do
        if [ ! -f "$file" ]; then continue; fi
        show "$file" &
        [ -n "$follow" ] || wait
    done
done
wait
