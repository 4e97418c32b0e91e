#!/usr/bin/env -S bash -p
# Sends a request to foo and shows its answer.
set -euo pipefail; SELF=$(readlink -f -- "$0"); cd -P -- "${SELF%/*}/.."; . scripts/lib.sh #

leave() { # REASON [STATUS]: stops waiting
    say "$SCRIPT: $1. The request continues; to get its answer: scripts/trigger.sh --id $id"
    exit "${2:-1}"
}

explain() { # STATUS MESSAGE: why curl got no answer
    case "$1" in
        7) die "no answer from foo at $url ($2). Is the stack up? scripts/up.sh starts it." ;;
        23) leave "the answer cannot be kept in $outcome${2:+ ($2)}" ;;
        28) leave "no answer within $max_time s" ;;
        *) leave "the connection to foo broke ($2)" ;;
    esac
}

# shellcheck disable=SC2034 # one_of looks at them
id="" pause="" running="" async="" max_time="" flow=chain prefer=()
read_arguments 0 "$@"
length=$(one_of pause running)
[[ ! "$id" =~ [[:cntrl:]] ]] || bad_usage "--id needs an id on a single line" # it becomes a header
need_some --max-time "$max_time"
[[ "$flow" =~ ^(chain|fan-out|detached)$ ]] || bad_usage "--flow must be chain, fan-out or detached, not '$flow'"
if [ "$flow" != chain ]; then
    [ -z "$length$async$max_time" ] || bad_usage "--pause, --running, --async and --max-time work only with the chain"
    exec scripts/example.sh "$flow" ${id:+--id "$id"}
fi
[ -z "$async" ] || prefer=(--header "Prefer: respond-async")

# What listens on a default port, or on one that is noted, may belong to another checkout.
stack_settings=""
[ -n "${FOO_PORT:-}" ] || { look_at_stack && need_stack " A foo that you started by hand: FOO_PORT=5000 scripts/trigger.sh"; }
use_settings of_stack noted
id=${id:-trigger-$(random_hex 6)}
url=http://127.0.0.1:$FOO_PORT
{ outcome=$(mktemp -d) && : >"$outcome/body"; } || die "no request was sent: cannot create a file for its answer in ${TMPDIR:-/tmp}."
set -m && trap 'end_jobs; rm -rf "$outcome"' EXIT
trap 'leave interrupted 130' INT TERM HUP
{ sleep 10 >/dev/null 2>&1 && say "still waiting; to see why: scripts/watch.sh $id"; } </dev/null >/dev/null &
local_curl --show-error --max-time "${max_time:-0}" --output "$outcome/body" --write-out '%{http_code} %{time_total}\n' \
    --header "Idempotency-Key: $id" --header "Content-Type: application/json" ${prefer[@]+"${prefer[@]}"} \
    --data "{${length:+\"$length\": ${!length}}}" "$url/foo" >"$outcome/said" 2>"$outcome/errors" & # a signal does not wait for it
wait $! || explain $? "$(tail -n 1 "$outcome/errors")"
read -r status elapsed <"$outcome/said"
cat "$outcome/body"
[ -z "$(tail -c 1 "$outcome/body")" ] || echo
say "HTTP $status after $elapsed s"
[ "$status" != 202 ] || say "To get its answer: curl $url/foo/$id"
[[ "$status" = 2* ]]
