#!/usr/bin/env -S bash -p
# Sends a request to foo and shows its answer.
set -euo pipefail; SELF=$(readlink -f -- "$0"); cd -P -- "${SELF%/*}/.."; . scripts/lib.sh #

readonly HINT_SECONDS=10

leave() { # REASON [STATUS]: stops waiting
    say "$SCRIPT: $1. The request continues; to get its answer: scripts/trigger.sh --id $id"
    exit "${2:-1}"
}

explain() { # STATUS MESSAGE: why curl got no answer
    case "$1" in
        7) die "no answer from foo at $url (${2%%$'\n'*}). Is the stack up? scripts/up.sh starts it." ;;
        23) leave "the answer cannot be kept in $outcome (${2%%$'\n'*})" ;;
        28) leave "no answer within $max_time s" ;;
        *) leave "the connection to foo broke (${2%%$'\n'*})" ;;
    esac
}

# shellcheck disable=SC2034 # one_of looks at them
id="" pause="" running="" async="" max_time="" flow=chain prefer=()
read_arguments 0 "$@"
length=$(one_of pause running)
[[ ! "$id" =~ [[:cntrl:]] ]] || bad_usage "--id needs an id on a single line" # it becomes a header
need_some --max-time "$max_time"
case "$flow" in
    chain) ;;
    fan-out | detached)
        [ -z "$length$async$max_time" ] || bad_usage "--pause, --running, --async and --max-time work only with the chain"
        exec scripts/example.sh "$flow" ${id:+--id "$id"}
        ;;
    *) bad_usage "--flow must be chain, fan-out or detached, not '$flow'" ;;
esac
[ -z "$async" ] || prefer=(--header "Prefer: respond-async")

look_at_stack
# What listens on a default port, or on one that is noted, may belong to another checkout.
[ -n "${FOO_PORT:-}" ] || need_stack " A foo that you started by hand: FOO_PORT=5000 scripts/trigger.sh"
use_settings of_stack noted
id=${id:-trigger-$(random_hex 6)}
url=http://127.0.0.1:$FOO_PORT
outcome=$(mktemp) || die "no request was sent: cannot create a file for its answer in ${TMPDIR:-/tmp}."
trap 'kill -PIPE $(jobs -pr) 2>/dev/null || true; rm -f "$outcome"' EXIT # unlike other signals, PIPE is not reported
trap 'leave interrupted 130' INT
{ sleep "$HINT_SECONDS" >/dev/null 2>&1 && say "still waiting; to see why: scripts/watch.sh $id"; } </dev/null >/dev/null &
printed=$(local_curl --show-error --max-time "${max_time:-0}" --output "$outcome" --write-out '%{http_code} %{time_total}' \
    --header "Idempotency-Key: $id" --header "Content-Type: application/json" ${prefer[@]+"${prefer[@]}"} \
    --data "{${length:+\"$length\": ${!length}}}" "$url/foo" 2>&1) || explain $? "$printed"
read -r status elapsed <<<"$printed"
cat "$outcome"
[ -z "$(tail -c 1 "$outcome")" ] || echo
say "HTTP $status after $elapsed s"
[ "$status" != 202 ] || say "To get its answer: curl $url/foo/$id"
[[ "$status" = 2* ]]
