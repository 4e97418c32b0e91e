#!/usr/bin/env -S bash
# Sends a request to foo and shows its answer.
set -euo pipefail; cd -P -- "$(dirname -- "$(readlink -f -- "$0")")/.."; . scripts/lib.sh #

usage() {
    cat <<'USAGE'
usage: scripts/trigger.sh [--id ID] [--pause SECONDS | --running SECONDS] [--async] [--max-time SECONDS]
       scripts/trigger.sh --flow fan-out|detached [--id ID]

Sends POST /foo, prints the JSON it answers with, and the elapsed time. Ends with 0 if the answer is a success.

  --id ID             the request's identity: a repeated request with the same id joins the one on its way
                      (a new one for each request)
  --pause SECONDS     bar sleeps for the given time, durably, between calling baz and awaiting it
  --running SECONDS   bar works for so long instead, holding its lease
  --async             do not wait for the result, but say where it will be
  --max-time SECONDS  wait no longer than that; the request continues anyway
  --flow FLOW         chain, which is the above, or an example: fan-out, a hundred calls of bar at once, or detached, a call
                      of bar that nobody waits for (see scripts/example.sh)

Variable: FOO_PORT, the port of foo (else the one the running stack has, else 5000).
USAGE
}

readonly HINT_SECONDS=10

new_id() { echo "trigger-$(od -An -N6 -tx1 /dev/urandom | tr -d ' \n')"; }

hint() { # if there is no answer for a while
    sleep "$HINT_SECONDS" >/dev/null 2>&1
    say "still waiting; to see for what: scripts/watch.sh $id"
}

leave() { # REASON [STATUS]: nobody waits any more
    say "$(basename "$0"): $1. The request goes on; this gets its answer: scripts/trigger.sh --id $id"
    exit "${2:-1}"
}

explain() { # STATUS MESSAGE: why curl has brought no answer
    case "$1" in
        7) die "no answer from foo at $url (${2%%$'\n'*}). Is the stack up? scripts/up.sh starts it." ;;
        28) leave "no answer within $max_time s" ;;
        *) leave "the connection to foo broke (${2%%$'\n'*})" ;;
    esac
}

id="" body="{}" prefer=() max_time=0 flow=chain only_chain=""
while [ $# -gt 0 ]; do
    case "$1" in
        --pause | --running | --max-time | --async) only_chain=$1 ;;
    esac
    case "$1" in
        --flow) need_value "$1" $#
            case "$2" in chain | fan-out | detached) flow=$2 && shift ;; *) bad_usage "--flow is chain, fan-out or detached, not '$2'" ;; esac ;;
        --id) need_value "$1" $#
            [ -n "$2" ] && [[ ! "$2" =~ [[:cntrl:]] ]] || bad_usage "--id needs an id, of one line at that" # it becomes a header
            id=$2 && shift ;;
        --pause | --running) need_value "$1" $# && need_seconds "$1" "$2"
            [ "$body" = "{}" ] || bad_usage "--pause and --running exclude each other"
            body="{\"${1#--}\": $2}" && shift ;;
        --max-time) need_value "$1" $# && need_some_seconds "$1" "$2" && max_time=$2 && shift ;;
        --async) prefer=(--header "Prefer: respond-async") ;;
        -h | --help) usage && exit 0 ;;
        *) bad_usage "unknown argument '$1'" ;;
    esac
    shift
done

if [ "$flow" != chain ]; then
    [ -z "$only_chain" ] || bad_usage "$only_chain is for the chain only"
    exec scripts/example.sh "$flow" ${id:+--id "$id"}
fi

need_commands ps=procps curl=curl
find_stack
url=http://127.0.0.1:$(foo_port)
id=${id:-$(new_id)}

outcome=$(mktemp)
trap 'kill "$hint" 2>/dev/null || true; rm -f "$outcome"' EXIT
trap 'leave interrupted 130' INT
hint </dev/null >&2 &
hint=$!
disown "$hint" || true # bash would report its end
printed=$(local_curl --show-error --max-time "$max_time" --output "$outcome" --write-out '%{http_code} %{time_total}' \
    --header "Idempotency-Key: $id" --header "Content-Type: application/json" ${prefer[@]+"${prefer[@]}"} \
    --data "$body" "$url/foo" 2>&1) || explain $? "$printed"
read -r status elapsed <<<"$printed"
cat "$outcome"
[ -z "$(tail -c 1 "$outcome")" ] || echo
say "HTTP $status after $elapsed s"
case "$status" in
    202) say "Its answer will be here: curl $url/foo/$id" ;;
    2*) ;;
    *) exit 1 ;;
esac
