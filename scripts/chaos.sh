#!/usr/bin/env -S bash
# Sends chains through the stack while its parts are killed, frozen and cut off, and prints a ledger.
set -euo pipefail; cd -P -- "$(dirname -- "$(readlink -f -- "$0")")/.."; . scripts/lib.sh #

chains=200 seconds=120 seed=$((RANDOM * 32768 + RANDOM))
read_arguments 0 "$@"
need_some --chains "$chains"
need_some --seconds "$seconds"
require
scripts/venv.sh
PYTHONPATH=chaos/src exec "$VENV/bin/python" -m chaos --kind "$kind" --services "$SERVICES" --foo-port "$FOO_PORT" \
    --lease "$LEASE_SECONDS" --chains "$chains" --seconds "$seconds" --seed "$seed"
