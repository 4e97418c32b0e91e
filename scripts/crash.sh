#!/usr/bin/env -S bash
# Breaks one service during a request and shows the outcome.
set -euo pipefail; cd -P -- "$(dirname -- "$(readlink -f -- "$0")")/.."; . scripts/lib.sh #
. scripts/lib-crash.sh

usage() {
    cat <<USAGE
usage: scripts/crash.sh SERVICE [--when MOMENT] [--kill | --pause | --freeze | --partition] [--for SECONDS] [--down SECONDS]

Strikes SERVICE (one of $(one_of)) while a request is on its way, ends the fault and
waits for the answer. Ends with 0 only if the answer is 3 and nothing ran that should not have: baz once; bar's work once, or
twice if a fault took the lease of whoever did it. If it ends early, it ends the fault first.

The moment (suspended; with --freeze of bar: running):
  --when suspended    bar sleeps, durably; nobody holds a lease
  --when running      bar works and holds its lease
  --when idle         no request is on its way; one is sent while the fault lasts

The fault (--kill):
  --kill              SIGKILL (docker kill); started again afterwards
  --pause             stopped for less than a lease (SIGSTOP, docker pause); goes on afterwards
  --freeze            the same for longer than a lease. If it is a worker, like bar and baz, another one of its kind stands
                      by (it is started for this, and removed): it takes the work over, and what the thawed one sends
                      in late is refused
  --partition         cut off from the network (docker network disconnect); containers only

  --for SECONDS       how long bar sleeps or works (10; with --freeze 6; with --when idle not at all)
  --down SECONDS      how long the fault lasts (5; with --pause 2; with --freeze the lease and 3 more)

Where a service has several instances, all of them are struck, but by --freeze one.
USAGE
}

one_of() { # the services, as a sentence has them
    local names
    names=$(services)
    echo "${names//$'\n'/, } and resonate-server"
}

choose() { # VARIABLE VALUE OPTIONS: which may be given once
    [ -z "${!1}" ] || [ "${!1}" = "$2" ] || bad_usage "$3 exclude each other"
    printf -v "$1" %s "$2"
}

# shellcheck disable=SC2034 # for lib-crash.sh
service="" fault="" when="" duration="" down="" keep_down="" length_option=--for
while [ $# -gt 0 ]; do
    case "$1" in
        --when) need_value "$1" $#
            [[ "$2" =~ ^(suspended|running|idle)$ ]] || bad_usage "--when needs suspended, running or idle, not '$2'"
            choose when "$2" "two moments" && shift ;;
        --kill | --pause | --freeze | --partition) choose fault "${1#--}" "--kill, --pause, --freeze and --partition" ;;
        --for) need_value "$1" $# && need_some_seconds "$1" "$2" && duration=$2 && shift ;;
        --down) need_value "$1" $# && need_seconds "$1" "$2" && down=$2 && shift ;;
        -h | --help) usage && exit 0 ;;
        -*) bad_usage "unknown option '$1'" ;;
        *) [[ " $SERVICES " = *" $1 "* ]] || bad_usage "there is no service '$1', only $(one_of)"
            choose service "$1" "two services" ;;
    esac
    shift
done
[ -n "$service" ] || bad_usage "which SERVICE is to be struck?"

fault=${fault:-kill} usual=10
case "$fault-$service" in
    freeze-bar) when=${when:-running} usual=6 ;; # how long it lasts depends on the lease of the stack
    freeze-*) usual=6 ;;
    pause-*) down=${down:-2} ;;
    *) down=${down:-5} ;;
esac
when=${when:-suspended}
[ "$when" = idle ] || duration=${duration:-$usual}
prepare
play
