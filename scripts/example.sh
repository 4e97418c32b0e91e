#!/usr/bin/env -S bash -p
# Runs one of the examples against the stack that is up, whichever kind it is.
set -euo pipefail; SELF=$(readlink -f -- "$0"); cd -P -- "${SELF%/*}/.."; . scripts/lib.sh #

readonly LONGEST=30d # how long an approval may take

settled() { # waits for the result, for a moment; in a subshell, as otherwise the output of a trap would be lost, too
    if [ -z "$id" ] || ! (resonate_command wait "$id" --timeout 2s) </dev/null >/dev/null 2>&1; then
        sleep 0.5
        return 1
    fi
}

worker_gone() { ! kill -0 "$worker" 2>/dev/null; }
end_worker() {
    $stop >/dev/null 2>&1 || true
    wait_until 10 worker_gone || true
}

leave() { # REASON STATUS
    end_worker
    trap - EXIT
    say "$1. To continue: scripts/example.sh $name${id:+ --id $id}"
    exit "$2"
}

id=""
read_arguments 1 "$@"
name=${words[0]:-}
file=examples/${name//-/_}.py
[[ "$name" =~ ^[a-z-]+$ ]] && [ -f "$file" ] || bad_usage "NAME must be fan-out, detached, approval, saga or schedule, not '$name'"
[ -z "$id" ] || [ "$name" != schedule ] || bad_usage "a schedule generates the ids of its calls"
[[ "$id" =~ ^([A-Za-z0-9][A-Za-z0-9._~-]{0,127})?$ ]] || bad_usage "--id needs an id of letters, digits and . _ ~ -"

require resonate-server
if [ "$name" != schedule ]; then
    id=${id:-$name-$(random_hex 4)}
    quietly resonate_command invoke "$id" --func "${name//-/_}" --target "example-$name" --timeout "$LONGEST" ||
        die "the server refused the call $id."
fi
if [ "$kind" = containers ]; then # the image of bar has all that an example needs, and gets the example as an argument
    container=$COMPOSE_PROJECT_NAME-example-$$
    docker compose run --rm --no-deps -T --name "$container" bar python -c "$(cat "$file")" </dev/null >&2 &
    worker=$! stop="docker stop $container" kill="docker kill $container"
else
    RESONATE_URL=http://127.0.0.1:$RESONATE_PORT "$VENV/bin/python" -P "$file" </dev/null >&2 &
    worker=$! stop="kill $!" kill="kill -9 $!"
fi
disown "$worker" # bash would report its end
trap end_worker EXIT
trap 'leave interrupted 130' INT TERM
say "${id:+calling $id; }to kill the worker: $kill"
until settled; do
    ! worker_gone || leave "the worker has ended" 1
done
end_worker
trap - EXIT
resonate_command tree "$id" --watch </dev/null # its exit status says how the call ended
