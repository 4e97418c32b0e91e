#!/usr/bin/env -S bash -p
# Shows the calls of a request as they happen, whichever kind of stack it is.
set -euo pipefail; SELF=$(readlink -f -- "$0"); cd -P -- "${SELF%/*}/.."; . scripts/lib.sh #

read_arguments 1 "$@"
require resonate-server
id=${words[0]:-$(resonate_command chains --limit 1)} ||
    die "the server at port $RESONATE_PORT did not say which request is the newest; name one: scripts/watch.sh ID"
[ -n "$id" ] || die "there is no request yet; scripts/trigger.sh --pause 10 sends one."
become="exec"
[ "$kind" = containers ] || resonate_command tree --watch -- "$id" # in place of this script
trap 'while kill $(jobs -pr) 2>/dev/null; do sleep 0.5; done' EXIT && trap exit INT TERM HUP
while true; do
    resonate_command tree --watch -- "$id" <&0 & # a signal does not wait for it
    status=0 && wait $! || status=$?
    [ "$status" = "$ENDED_BY_FORCE" ] || exit "$status" # what runs in the server's container is killed with it
    [ ! -t 1 ] || printf '\033[?25h' # the cursor was hidden when it was killed
    say "the server is unreachable; waiting"
    wait_until 120 local_curl --fail --max-time 2 "http://127.0.0.1:$RESONATE_PORT/ready" ||
        die "the server did not come back within 120 s; scripts/up.sh starts it."
done
