#!/usr/bin/env -S bash -p
# Kills bar in the middle of a request, starts it again, and shows that the request is still answered.
set -euo pipefail; SELF=$(readlink -f -- "$0"); cd -P -- "${SELF%/*}/.."; . scripts/lib.sh #
. scripts/lib-crash.sh

pause="" running="" down=5 keep_down=""
read_arguments 0 "$@"
need_some --pause "$pause"
need_some --running "$running"
length=$(one_of pause running) when=${running:+running}
play bar fault=kill when="${when:-suspended}" length_option="--${length:-pause}" duration="${pause:-${running:-10}}" down="$down" ${keep_down:+keep_down=1}
