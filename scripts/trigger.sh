#!/usr/bin/env bash
# Sends a request to foo and shows its answer.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

usage() {
    cat <<'USAGE'
usage: scripts/trigger.sh [--id ID] [--pause SECONDS | --running SECONDS] [--async]

Sends POST /foo, prints the JSON it answers with, and the elapsed time. Ends with 0 if the answer is a success.

  --id ID             the request's identity: a repeated request with the same id joins the one on its way
  --pause SECONDS     bar sleeps for so long, durably, between calling baz and awaiting it
  --running SECONDS   bar works for so long instead, holding its lease
  --async             do not wait for the result: the answer says where it will be

Variable: FOO_PORT, the port of foo (else the one the running stack has, else 5000).
USAGE
}

id=""
body="{}"
prefer=""
while [ $# -gt 0 ]; do
    case "$1" in
        --id)
            need_value "$1" $#
            id=$2
            shift
            ;;
        --pause | --running)
            need_value "$1" $#
            need_seconds "$1" "$2"
            [ "$body" = "{}" ] || bad_usage "--pause and --running exclude each other"
            body="{\"${1#--}\": $2}"
            shift
            ;;
        --async) prefer=respond-async ;;
        -h | --help) usage && exit 0 ;;
        *) bad_usage "unknown argument '$1'" ;;
    esac
    shift
done

url=http://127.0.0.1:$(foo_port)
headers=(--header "Content-Type: application/json")
[ -z "$id" ] || headers+=(--header "Idempotency-Key: $id")
[ -z "$prefer" ] || headers+=(--header "Prefer: $prefer")

outcome=$(mktemp)
trap 'rm -f "$outcome"' EXIT
printed=$(local_curl --show-error --output "$outcome" --write-out '%{http_code} %{time_total}' \
    --request POST "${headers[@]}" --data "$body" "$url/foo" 2>&1) || {
    die "no answer from foo at $url (${printed%%$'\n'*}). Is the stack up? scripts/up.sh starts it."
}
read -r status elapsed <<<"$printed"
cat "$outcome"
[ -z "$(tail -c 1 "$outcome")" ] || echo
say "HTTP $status after $elapsed s"
case "$status" in
    2*) ;;
    *) exit 1 ;;
esac
