#!/usr/bin/env -S bash -p
# Adds a service: a worker with one durable function. From then on, up.sh starts it.
set -euo pipefail; SELF=$(readlink -f -- "$0"); cd -P -- "${SELF%/*}/.."; . scripts/lib.sh #

read_arguments 1 "$@"
name=${words[0]:-}
! python3 -c 'import typing' 2>/dev/null || exec python3 -IS scripts/add_service.py "$name"
image=$(scripts/base-image.sh) || die "needs Python or a Docker engine."
exec docker run --rm --volume "$PWD:/checkout" --workdir /checkout --user "$(id -u):$(id -g)" "$image" python3 -IS scripts/add_service.py "$name"
