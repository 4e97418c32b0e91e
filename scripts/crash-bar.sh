#!/usr/bin/env -S bash
# Kills bar in the middle of a request, starts it again, and shows that the request is answered all the same.
set -euo pipefail; cd -P -- "$(dirname -- "$(readlink -f -- "$0")")/.."; . scripts/lib.sh #
. scripts/lib-crash.sh

# shellcheck disable=SC2034 # for lib-crash.sh
service=bar fault=kill when=suspended pause="" running="" down=5 keep_down="" length_option=--pause
read_arguments 0 "$@"
need_some --pause "$pause"
need_some --running "$running"
length=$(one_of pause running)
[ "$length" != running ] || when=running length_option=--running
duration=${pause:-${running:-10}}
play
echo
resonate_command "$kind" tree "$id" || true # a picture, not a verdict
