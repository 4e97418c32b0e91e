#!/usr/bin/env -S bash
# Sends chains through the stack while its parts are killed, frozen and cut off, and draws up a ledger.
set -euo pipefail; cd -P -- "$(dirname -- "$(readlink -f -- "$0")")/.."; . scripts/lib.sh #

usage() {
    cat <<'USAGE'
usage: scripts/chaos.sh [--chains NUMBER] [--seconds SECONDS] [--seed NUMBER]

Sends requests to foo, one after the other without waiting for answers, while instances of all services and
resonate-server are killed (SIGKILL) and started again, frozen (SIGSTOP, docker pause) and thawed, and, as
containers, cut off from the network and connected again; one or several at a time. A request whose connection
dies with foo is repeated with the same Idempotency-Key, as a client would.

At the end all services are up again, and a ledger on standard output tells every chain's answer, how often each
function ran (by the logs), the faults and the longest recovery. Ends with 0 only if no chain was lost, none was
answered wrongly, and no function ran more often than the faults that it met explain.
Ctrl-C ends it early, and as cleanly: with 130, or with 1 if something was wrong by then.

  --chains NUMBER     how many requests (200)
  --seconds SECONDS   over which time they are sent, and faults happen (120)
  --seed NUMBER       what happens, by this number (random, and printed)
USAGE
}

need_number() { # OPTION VALUE
    [[ "$2" =~ ^(0|[1-9][0-9]{0,8})$ ]] || bad_usage "$1 needs a whole number, not '$2'"
}

chains=200 seconds=120 seed=$((RANDOM * 32768 + RANDOM))
while [ $# -gt 0 ]; do
    case "$1" in
        --chains) need_value "$1" $# && need_number "$1" "$2" && need_some_seconds "$1" "$2" && chains=$2 && shift ;;
        --seconds) need_value "$1" $# && need_some_seconds "$1" "$2" && seconds=$2 && shift ;;
        --seed) need_value "$1" $# && need_number "$1" "$2" && seed=$2 && shift ;;
        -h | --help) usage && exit 0 ;;
        *) bad_usage "unknown argument '$1'" ;;
    esac
    shift
done

require_stack
scripts/venv.sh
PYTHONPATH=chaos/src exec "$VENV/bin/python" -m chaos --kind "$kind" --services "$SERVICES" --foo-port "$FOO_PORT" \
    --lease "$LEASE_SECONDS" --chains "$chains" --seconds "$seconds" --seed "$seed"
