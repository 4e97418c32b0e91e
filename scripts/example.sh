#!/usr/bin/env -S bash
# Runs one of the examples against the stack that is up, whichever kind it is.
set -euo pipefail; cd -P -- "$(dirname -- "$(readlink -f -- "$0")")/.."; . scripts/lib.sh #

usage() {
    cat <<'USAGE'
usage: scripts/example.sh NAME [--id ID]

Calls the function of an example, serves it with a worker until the call is settled, and prints its promise. NAME is
fan-out, detached, approval, saga or schedule. The top of each examples/*.py says what to kill, and what to see then.
schedule runs until Ctrl-C.

  --id ID   the identity of the call. The id of a call that was broken off continues it (a new one for each call)

Ends with 0 if the call is resolved, 1 if it is rejected or the worker has ended, 130 after Ctrl-C. A call that is not
settled waits for the next worker.
USAGE
}

readonly LONGEST=30d # what an approval may take

worker_name() { echo "$COMPOSE_PROJECT_NAME-example-$$"; }

serve() { # in place of this shell; the image of bar has all that an example needs, and gets the example as an argument
    case "$kind" in
        containers) exec docker compose run --rm --no-deps -T --name "$(worker_name)" bar python -c "$(cat "$file")" ;;
        processes) RESONATE_URL=http://127.0.0.1:$(resonate_port) exec "$VENV/bin/python" -P "$file" ;;
    esac
}

end_worker() {
    case "$kind" in
        containers) docker stop "$(worker_name)" ;;
        processes) kill "$worker" ;;
    esac >/dev/null 2>&1 || true
    wait_until 10 process_gone "$worker" || true
}

kill_command() {
    case "$kind" in
        containers) echo "docker kill $(worker_name)" ;;
        processes) echo "kill -9 $worker" ;;
    esac
}

call() {
    quietly resonate_command "$kind" invoke "$id" --func "${name//-/_}" --target "poll://any@example-$name" --timeout "$LONGEST" ||
        die "the server does not take the call $id."
}

settled() { # waits for it, for a moment; a trap would be as silent as what it interrupts, were that not in a subshell
    if [ -z "$id" ] || ! (resonate_command "$kind" wait "$id" --timeout 2s) </dev/null >/dev/null 2>&1; then
        sleep 0.5
        return 1
    fi
}

leave() { # REASON STATUS
    end_worker
    trap - EXIT
    say "$1. To go on: scripts/example.sh $name${id:+ --id $id}"
    exit "$2"
}

name=${1:-} id=""
case "$name" in
    -*) only_help "$name" ;;
    "") bad_usage "one NAME is needed" ;;
esac
file=examples/${name//-/_}.py
[[ "$name" =~ ^[a-z-]+$ ]] && [ -f "$file" ] || bad_usage "there is no example '$name'"
shift
while [ $# -gt 0 ]; do
    case "$1" in
        --id) need_value "$1" $#
            [ "$name" != schedule ] || bad_usage "a schedule makes the ids of its calls itself"
            [[ "$2" =~ ^[A-Za-z0-9][A-Za-z0-9._~-]{0,127}$ ]] || bad_usage "--id needs an id of letters, digits and . _ ~ -"
            id=$2 && shift ;;
        -h | --help) usage && exit 0 ;;
        *) bad_usage "unknown argument '$1'" ;;
    esac
    shift
done

require_server
LEASE_SECONDS=$(lease_seconds "$kind")
export LEASE_SECONDS
if [ "$name" != schedule ]; then
    id=${id:-$name-$(od -An -N4 -tx1 /dev/urandom | tr -d ' \n')}
    call
fi

serve </dev/null >&2 &
worker=$!
disown "$worker" # bash would report its end
trap end_worker EXIT
trap 'leave interrupted 130' INT TERM
say "${id:+calling $id; }to kill the worker: $(kill_command)"
until settled; do
    ! process_gone "$worker" || leave "the worker has ended" 1
done
promise=$(resonate_command "$kind" promises get "$id" </dev/null)
printf '%s\n' "$promise"
grep -q '"state": "resolved"' <<<"$promise"
