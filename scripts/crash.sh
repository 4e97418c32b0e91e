#!/usr/bin/env -S bash -p
# Breaks one service during a request and shows the outcome.
set -euo pipefail; SELF=$(readlink -f -- "$0"); cd -P -- "${SELF%/*}/.."; . scripts/lib.sh #
. scripts/lib-crash.sh

# shellcheck disable=SC2034 # one_of looks at them
kill="" pause="" freeze="" partition="" when="" for="" down=""
read_arguments 1 "$@"
service=${words[0]:-}
[ -n "$service" ] || bad_usage "SERVICE is missing"
need_service "$service"
[[ "$when" =~ ^(|suspended|running|idle)$ ]] || bad_usage "--when must be suspended, running or idle, not '$when'"
need_some --for "$for"
fault=$(one_of kill pause freeze partition) usual=10
case "${fault:=kill}-$service" in
    freeze-bar) when=${when:-running} usual=6 ;; # how long it lasts depends on the lease of the stack
    freeze-*) usual=6 ;;
    pause-*) down=${down:-2} ;;
    *) down=${down:-5} ;;
esac
when=${when:-suspended}
[ "$when" = idle ] || for=${for:-$usual}
play "$service" fault="$fault" when="$when" length_option=--for ${for:+duration="$for"} ${down:+down="$down"}
