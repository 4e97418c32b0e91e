#!/usr/bin/env -S bash
# Shows the calls of a request as they happen, whichever kind of stack it is.
set -euo pipefail; cd -P -- "$(dirname -- "$(readlink -f -- "$0")")/.."; . scripts/lib.sh #

usage() {
    cat <<'USAGE'
usage: scripts/watch.sh [ID]

Draws the call tree of a request, with a bar for each call, and follows it until the request is settled. Ctrl-C ends
this, not the request. ID is the one in foo's answer; without it, the newest request is taken. Where the
output is no terminal, the tree is printed once, at the end.

Ends with 0 if the request is resolved, 1 if it is rejected (or there is nothing to watch), 2 if there is no such ID,
3 if it is cancelled, 4 if it has timed out, 130 after Ctrl-C.

Variable: RESONATE_PORT, the port of the Resonate server (else the one the running stack has, else 8001).
USAGE
}

readonly BACK_SECONDS=120       # a server that is away for longer is not waited for
readonly KILLED_WITH_SERVER=137 # what runs in a container ends with it, by SIGKILL

newest_id() {
    local newest
    newest=$(resonate_command "$kind" chains --limit 1) ||
        die "the server at port $(resonate_port) does not say which request is the newest; name one: $0 ID"
    [ -n "$newest" ] || die "there is no request yet; scripts/trigger.sh --pause 10 sends one."
    printf '%s\n' "$newest"
}

watch() { # ID: in a container, goes on in the next one if the server's ends
    local status=0
    until resonate_command "$kind" tree --watch -- "$1"; do
        status=$?
        [ "$kind-$status" = "containers-$KILLED_WITH_SERVER" ] || return "$status"
        [ ! -t 1 ] || printf '\033[?25h' # the cursor was hidden when it was killed
        say "the server is away, waiting"
        wait_until "$BACK_SECONDS" http_answers "http://127.0.0.1:$(resonate_port)/ready" ||
            die "the server has not come back within $BACK_SECONDS s; scripts/up.sh starts it."
    done
}

id=""
while [ $# -gt 0 ]; do
    case "$1" in
        -h | --help) usage && exit 0 ;;
        --) [ $# -le 2 ] || bad_usage "only one request can be watched"
            id=${2:-} && break ;;
        -*) bad_usage "unknown option '$1'" ;;
        "") bad_usage "the ID is empty" ;;
        *) [ -z "$id" ] || bad_usage "only one request can be watched, not '$1' as well"
            id=$1 ;;
    esac
    shift
done

require_server
[ -n "$id" ] || id=$(newest_id)
watch "$id"
