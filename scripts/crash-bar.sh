#!/usr/bin/env bash
# Kills bar in the middle of a request, starts it again, and shows that the request is answered all the same.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

usage() {
    cat <<'USAGE'
usage: scripts/crash-bar.sh [--pause SECONDS | --running SECONDS] [--down SECONDS] [--keep-down]

Sends a request whose bar pauses after it has called baz, waits until baz has run, kills bar by SIGKILL, starts it
again and waits for the answer. Ends with 0 only if the answer is 3 and baz ran exactly once. If it ends early,
it starts bar again first. Where bar has several containers, all of them are killed.

  --pause SECONDS     how long bar sleeps, durably, while it is killed (10)
  --running SECONDS   bar works for so long instead and holds its lease when it is killed: the server gives its
                      work away again when it has noticed that the worker is gone, at the latest when the
                      lease has lapsed
  --down SECONDS      how long bar stays dead (5)
  --keep-down         stop after the kill, and say how to go on by hand
USAGE
}

readonly RECOVERY_SECONDS=120 # an answer that takes longer than pause, or work, and this is counted as missing

# ── the timeline ────────────────────────────────────────────────────────────────────────────────────────────

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    red=$'\033[31m' green=$'\033[32m' bold=$'\033[1m' plain=$'\033[0m'
else
    red="" green="" bold="" plain=""
fi

event() { # TEXT [COLOUR]: one line of the timeline
    local elapsed=$(($(now_ms) - began))
    printf '%5d.%d s  %s%s%s\n' $((elapsed / 1000)) $((elapsed % 1000 / 100)) "${2:-}" "$1" "${2:+$plain}"
}

detail() { printf '           %s\n' "$1"; }

# ── what can be seen from outside ───────────────────────────────────────────────────────────────────────────

runs_of() { # SERVICE: how often its function ran for this request; a child's id begins with that of its root
    service_log "$kind" "$1" 2>/dev/null | grep -c "^running function $1 .*promise=${id}\(:[^ ]*\)\{0,1\}\( .*\)\{0,1\}$" || true
}

ask_server() { # KIND DATA: one request in the protocol of the Resonate server
    local_curl --max-time 5 --data "{\"kind\": \"$1\", \"head\": {\"corrId\": \"crash-bar\", \"version\": \"2026-04-01\"}, \"data\": $2}" \
        "http://127.0.0.1:$resonate_port/"
}

call_from() { # PROMISE SERVICE: the one call from there to the service, as the server knows it
    ask_server promise.search "{\"tags\": {\"resonate:parent\": \"$1\", \"resonate:target\": \"poll://any@service-$2\"}}"
}

baz_has_returned() { # the value is the JSON text 1, in Base64
    bar_promise=$(call_from "$id" bar | sed -n 's/.*"id": *"\([^"]*\)".*/\1/p')
    [ -n "$bar_promise" ] && call_from "$bar_promise" baz | grep '"state": *"resolved"' | grep -q '"data": *"MQ=="'
}

bar_is() { # STATE: whether the server sees bar's task so
    ask_server task.get "{\"id\": \"$bar_promise\"}" | grep -q "\"state\": *\"$1\""
}

pause_end_ms() { # when the sleep of bar ends; the server knows it, bar or no bar
    ask_server promise.search "{\"tags\": {\"resonate:parent\": \"$bar_promise\", \"resonate:timer\": \"true\"}}" |
        sed -n 's/.*"timeoutAt": *\([0-9]*\).*/\1/p' | head -n 1
}

caller_is_done() { process_gone "$caller"; }

or_caller_is_done() { "$@" || caller_is_done; } # COMMAND...

# ── the acts ────────────────────────────────────────────────────────────────────────────────────────────────

send_request() {
    event "a caller sends POST /foo and waits for the answer: $id"
    call_foo &
    caller=$!
}

call_foo() { # notes the answer, and when it came
    trap 'kill "$request" 2>/dev/null; exit 1' TERM
    curl --silent --show-error --noproxy '*' --output "$work/answer" --write-out 'HTTP %{http_code}' \
        --request POST --header "Idempotency-Key: $id" --header "Content-Type: application/json" \
        --data "{\"$variant\": $duration}" "http://127.0.0.1:$foo_port/foo" >"$work/report" 2>&1 &
    request=$!
    wait "$request" || true
    now_ms >"$work/answered"
}

await() { # SECONDS WHAT COMMAND...: or say why it did not come about
    local limit=$1 what=$2
    shift 2
    wait_until "$limit" or_caller_is_done "$@" || die "$what within $limit s; see scripts/logs.sh."
    ! caller_is_done || give_up
}

give_up() { # the caller has its answer too early
    case "$(cat "$work/report")" in
        "HTTP 200") die "the request was over before bar was killed: give it a longer --$variant." ;;
        "HTTP "*) die "the caller has an answer already, $(cat "$work/report"): $(cat "$work/answer")" ;;
        *) die "the caller has lost its connection: $(head -n 1 "$work/report")" ;;
    esac
}

watch_chain_start() {
    await 30 "baz has not run" baz_has_returned
    event "foo has called bar, bar has called baz, baz has run and returned 1"
    if [ "$variant" = pause ]; then
        await 10 "bar was not suspended" bar_is suspended
        event "bar sleeps for $duration s before it looks at that result"
        detail "it is suspended and holds no lease"
    else
        await 10 "bar was not at work" bar_is acquired
        event "bar works for $duration s before it looks at that result"
        detail "it is at work and holds its lease"
    fi
}

kill_bar() {
    local what="bar is killed"
    case "$kind" in
        containers) killed=$(docker compose ps --quiet bar) ;;
        processes) killed=bar ;;
    esac
    case "$killed" in *$'\n'*) what="all $(grep -c . <<<"$killed") bars are killed" ;; esac
    kill_service "$kind" bar
    event "$what (SIGKILL)" "$red"
    detail "GET /foo/$id: $(local_curl --max-time 5 "http://127.0.0.1:$foo_port/foo/$id")"
    ! caller_is_done || give_up
    detail "the caller still waits; the Resonate server keeps what was done so far"
}

say_how_to_go_on() {
    cat <<HOW

bar stays dead. To go on by hand:
  bring it back:     $([ "$kind" = containers ] && echo "docker compose start bar" || echo "scripts/up.sh --processes")
  see the answer:    scripts/trigger.sh --id $id    (joins the request, does not start another)
  without waiting:   curl http://127.0.0.1:$foo_port/foo/$id
HOW
}

start_bar() {
    back=$(now_ms)
    event "bar is started again" "$green" # as many of it as were killed
    detail "nobody tells it what it was doing; the Resonate server knows"
    start_killed
    [ "$variant" = pause ] && return
    detail "the dead bar held a lease; the server has taken it back, or does so"
    detail "when it lapses, and gives the work away again"
}

start_killed() {
    # shellcheck disable=SC2086 # a list of containers
    case "$kind" in
        containers) quietly docker start $killed ;;
        processes) start_process bar ;;
    esac
    killed=""
}

leave() { # whatever happens, bar does not stay dead unless that was wished for
    trap '' INT TERM HUP
    [ -z "$caller" ] || kill "$caller" 2>/dev/null || true
    rm -rf "$work"
    if [ -n "$killed" ] && [ -z "$keep_down" ]; then
        start_killed && say "bar has been started again."
    fi
}

await_answer() {
    wait_until "$((${duration%%.*} + RECOVERY_SECONDS))" caller_is_done || {
        kill "$caller" 2>/dev/null || true
        die "no answer after $((${duration%%.*} + RECOVERY_SECONDS)) s; see scripts/logs.sh."
    }
    event "the caller has its answer: $(cat "$work/answer")" "$bold"
    case "$(cat "$work/report")" in
        "HTTP 200") ;;
        *) detail "$(cat "$work/report")" ;;
    esac
}

# ── the result ──────────────────────────────────────────────────────────────────────────────────────────────

report_recovery_time() {
    local since=$back what="bar was started"
    if [ "$variant" = pause ] && [ "${pause_ends:-0}" -gt "$since" ]; then
        since=$pause_ends
        what="the pause ended"
    fi
    echo "The answer came $(seconds $(($(cat "$work/answered") - since))) s after $what."
    [ "$variant" = pause ] || {
        detail "($duration s of these are bar's work again, from its beginning:"
        detail "the killed bar had not finished it)"
    }
}

report() {
    local message foo_runs bar_runs baz_runs cost
    message=$(sed -n 's/.*"message": *\([^,}]*[^,} ]\).*/\1/p' "$work/answer")
    foo_runs=$(runs_of foo) bar_runs=$(runs_of bar) baz_runs=$(runs_of baz)
    echo
    echo "Runs of each function, counted in the logs: foo $foo_runs, bar $bar_runs, baz $baz_runs."
    detail "(a function that waits runs from its top when it goes on;"
    detail "a call it has made before is not made again)"
    [ "$message" != 3 ] || report_recovery_time
    if [ "$message" = 3 ] && [ "$baz_runs" = 1 ]; then
        case "$variant" in
            pause) cost="The crash cost nothing: the answer is 3, and baz ran exactly once." ;;
            running) cost="The answer is 3, and baz ran exactly once; of bar only the unfinished step was done again." ;;
        esac
        echo "$green$bold$cost$plain"
    else
        echo "${red}${bold}That is not as it should be: the answer should be 3 (it is ${message:-missing}), and baz should have run once.${plain}"
        return 1
    fi
}

# ── main ────────────────────────────────────────────────────────────────────────────────────────────────────

variant=pause
duration=10
down=5
keep_down=""
chosen=""
while [ $# -gt 0 ]; do
    case "$1" in
        --pause | --running)
            need_value "$1" $#
            need_some_seconds "$1" "$2"
            [ -z "$chosen" ] || bad_usage "--pause and --running exclude each other"
            chosen=$1 variant=${1#--} duration=$2
            shift
            ;;
        --down)
            need_value "$1" $#
            need_seconds "$1" "$2"
            down=$2
            shift
            ;;
        --keep-down) keep_down=yes ;;
        -h | --help) usage && exit 0 ;;
        *) bad_usage "unknown argument '$1'" ;;
    esac
    shift
done

foo_port=$(foo_port)
resonate_port=$(resonate_port)
kind=$(stack_kind)
[ "$kind" != none ] || die "the stack is not up; scripts/up.sh starts it."
for service in $SERVICES; do
    service_is_up "$kind" "$service" || die "$service is not running; scripts/up.sh starts it."
done

id=crash-$(date +%H%M%S)-$$
work=$(mktemp -d)
touch "$work/answer" "$work/report"
caller=""
killed=""
trap leave EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

began=$(now_ms)
send_request
watch_chain_start
pause_ends=$(pause_end_ms)
kill_bar
if [ -n "$keep_down" ]; then
    say_how_to_go_on
    exit 0
fi
sleep "$down"
start_bar
await_answer
report
