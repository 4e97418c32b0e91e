#!/usr/bin/env -S bash
# Kills bar in the middle of a request, starts it again, and shows that the request is answered all the same.
set -euo pipefail; cd -P -- "$(dirname -- "$(readlink -f -- "$0")")/.."; . scripts/lib.sh #
. scripts/lib-crash.sh

usage() {
    cat <<'USAGE'
usage: scripts/crash-bar.sh [--pause SECONDS | --running SECONDS] [--down SECONDS] [--keep-down]

Sends a request whose bar pauses after it has called baz, waits until baz has run, kills bar by SIGKILL, starts it
again, waits for the answer and draws the calls of the request. Ends with 0 only if the answer is 3 and baz ran
exactly once. If it ends early, it starts bar again first. Where bar has several containers, all of them are killed.

  --pause SECONDS     how long bar sleeps, durably, while it is killed (10)
  --running SECONDS   bar works for so long instead and holds its lease when it is killed: the server gives its
                      work away again when it has noticed that the worker is gone, at the latest when the
                      lease has lapsed
  --down SECONDS      how long bar stays dead (5)
  --keep-down         stop after the kill, and say how to go on by hand

Other services and other faults: scripts/crash.sh --help
USAGE
}

# shellcheck disable=SC2034 # for lib-crash.sh
service=bar fault=kill when=suspended duration="" down=5 keep_down="" length_option=--pause
while [ $# -gt 0 ]; do
    case "$1" in
        --pause | --running)
            need_value "$1" $# && need_some_seconds "$1" "$2"
            [ -z "$duration" ] || bad_usage "--pause and --running exclude each other"
            [ "$1" = --pause ] || when=running
            length_option=$1 duration=$2 && shift
            ;;
        --down) need_value "$1" $# && need_seconds "$1" "$2" && down=$2 && shift ;;
        --keep-down) keep_down=yes ;;
        -h | --help) usage && exit 0 ;;
        *) bad_usage "unknown argument '$1'" ;;
    esac
    shift
done
duration=${duration:-10}

prepare
play
echo
resonate_command "$kind" tree "$id" || true # a picture, not a verdict
