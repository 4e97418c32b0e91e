#!/usr/bin/env bash
# Kills bar in the middle of a request, starts it again, and shows that the request is answered all the same.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

usage() {
    cat <<'USAGE'
usage: scripts/crash-bar.sh [--pause SECONDS | --running SECONDS] [--down SECONDS] [--keep-down]

Sends a request whose bar pauses after it has called baz, waits until baz has run, kills bar by SIGKILL, starts it
again and waits for the answer. Ends with 0 only if the answer is 3 and baz ran exactly once.

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

has_run() { [ "$(runs_of "$1")" -gt 0 ]; } # SERVICE

promise_of() { # SERVICE: the id of the promise of its function
    service_log "$kind" "$1" | sed -n "s/^running function $1 .*promise=\(${id}[^ ]*\).*/\1/p" | tail -n 1
}

ask_server() { # KIND DATA: one request in the protocol of the Resonate server
    local_curl --max-time 5 --data "{\"kind\": \"$1\", \"head\": {\"corrId\": \"crash-bar\", \"version\": \"2026-04-01\"}, \"data\": $2}" \
        "http://127.0.0.1:$resonate_port/"
}

bar_is() { # STATE: whether the server sees bar's task so
    ask_server task.get "{\"id\": \"$bar_promise\"}" | grep -q "\"state\": *\"$1\""
}

pause_end_ms() { # when the sleep of bar ends; the server knows it, bar or no bar
    ask_server promise.search "{\"tags\": {\"resonate:parent\": \"$bar_promise\", \"resonate:timer\": \"true\"}}" |
        sed -n 's/.*"timeoutAt": *\([0-9]*\).*/\1/p' | head -n 1
}

caller_waits() { ! process_gone "$caller"; }
caller_is_done() { process_gone "$caller"; }

# ── the acts ────────────────────────────────────────────────────────────────────────────────────────────────

send_request() {
    event "a caller sends POST /foo and waits for the answer (request $id)"
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

watch_chain_start() {
    wait_until 30 has_run baz || die "baz did not run within 30 s; foo: $(cat "$work/report" "$work/answer" 2>/dev/null || true); see scripts/logs.sh."
    event "foo has called bar, bar has called baz, baz has run and returned 1"
    bar_promise=$(promise_of bar)
    if [ "$variant" = pause ]; then
        wait_until 10 bar_is suspended || die "bar is not suspended after 10 s; see scripts/logs.sh."
        event "bar sleeps for $duration s before it looks at that result; it is suspended and holds no lease"
    else
        wait_until 10 bar_is acquired || die "bar is not at work after 10 s; see scripts/logs.sh."
        event "bar works for $duration s before it looks at that result; it is at work and holds its lease"
    fi
}

kill_bar() {
    kill_service "$kind" bar
    event "bar is killed (SIGKILL)" "$red"
    detail "GET /foo/$id: $(local_curl --max-time 5 "http://127.0.0.1:$foo_port/foo/$id")"
    if caller_waits; then
        detail "the caller is still waiting; the Resonate server keeps what has been done so far"
    else
        die "the request was over before bar was killed: give it a longer --$variant"
    fi
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
    event "bar is started again; nobody tells it what it was doing, the Resonate server knows" "$green"
    start_service "$kind" bar
    [ "$variant" = pause ] || detail "the dead bar held a lease; the server has taken it back, or does so when it lapses, and gives the work away again"
}

await_answer() {
    wait_until "$((${duration%%.*} + RECOVERY_SECONDS))" caller_is_done || {
        kill "$caller" 2>/dev/null || true
        die "no answer after $((${duration%%.*} + RECOVERY_SECONDS)) s; see scripts/logs.sh."
    }
    event "the caller has its answer: $(cat "$work/answer")" "$bold"
}

# ── the result ──────────────────────────────────────────────────────────────────────────────────────────────

report_recovery_time() {
    local since=$back what="bar was started"
    if [ "$variant" = pause ] && [ "${pause_ends:-0}" -gt "$since" ]; then
        since=$pause_ends
        what="the pause ended"
    fi
    echo "The answer came $(seconds $(($(cat "$work/answered") - since))) s after $what."
    [ "$variant" = pause ] || detail "($duration s of these are bar's work again, from its beginning: the killed bar had not finished it)"
}

report() {
    local message foo_runs bar_runs baz_runs
    message=$(sed -n 's/.*"message": *\([^,}]*[^,} ]\).*/\1/p' "$work/answer")
    foo_runs=$(runs_of foo) bar_runs=$(runs_of bar) baz_runs=$(runs_of baz)
    echo
    echo "Runs of each function, counted in the logs: foo $foo_runs, bar $bar_runs, baz $baz_runs."
    detail "(a function that waits runs from its top when it goes on; a call it has made before is not made again)"
    [ "$message" != 3 ] || report_recovery_time
    if [ "$message" = 3 ] && [ "$baz_runs" = 1 ]; then
        echo "${green}${bold}The crash cost nothing: the answer is 3, and baz ran exactly once.${plain}"
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
            need_seconds "$1" "$2"
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

kind=$(stack_kind)
[ "$kind" != none ] || die "the stack is not up; scripts/up.sh starts it."
foo_port=$(foo_port)
resonate_port=$(resonate_port)
id=crash-$(date +%Y%m%d-%H%M%S)-$$
work=$(mktemp -d)
caller=""
trap '[ -z "$caller" ] || kill "$caller" 2>/dev/null || true; rm -rf "$work"' EXIT

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
