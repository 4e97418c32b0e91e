#!/usr/bin/env -S bash -p
# Sends chains through the stack while its parts are killed, frozen and cut off, and prints a ledger.
set -euo pipefail; SELF=$(readlink -f -- "$0"); cd -P -- "${SELF%/*}/.."; . scripts/lib.sh #

chains=200 seconds=120 seed=$((RANDOM * 32768 + RANDOM))
read_arguments 0 "$@"
need_some --chains "$chains"
need_some --seconds "$seconds"
break_alone
require
scripts/venv.sh
PYTHONPATH=scripts exec "$VENV/bin/python" -m chaos.experiment kind="$kind" services="$SERVICES" foo_port="$FOO_PORT" \
    lease="$LEASE_SECONDS" chains="$chains" seconds="$seconds" seed="$seed"
