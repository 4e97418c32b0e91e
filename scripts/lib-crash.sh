# shellcheck shell=bash
# shellcheck disable=SC2154 # what the scripts that source this file set: see the list below
# What crash.sh and crash-bar.sh share: one request, one fault, a timeline, and a verdict. Sourced after lib.sh.
#
# The script sets, before it calls `prepare` and then `play`:
#   service fault when   who is struck, how (kill, pause, freeze, partition) and at which moment (suspended, running, idle)
#   duration             s: how long bar sleeps or works; empty for not at all
#   down                 s: how long the service stays as the fault left it
#   length_option        the option by which a person chooses the duration
#   keep_down            not empty: stop after the fault, and say how to go on by hand

readonly RECOVERY_SECONDS=120 # an answer that takes longer than pause, or work, and this is counted as missing
readonly MENDING_SECONDS=30   # what could not be brought back at once is tried for so long
readonly TAKEOVER_SECONDS=60  # a lease that has ended is given away again within this


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

runs_in() { # FUNCTION: how often it ran for this request, by the log on stdin; a child's id begins with that of its root
    grep -c "^[^ ]* running function $1 .*promise=${id}\(:[^ ]*\)\{0,1\}\( .*\)\{0,1\}$" || true
}

runs_of() { # SERVICE [FUNCTION]: of all its instances
    service_log "$kind" "$1" 2>/dev/null | runs_in "${2:-$1}"
}

ask_server() { # KIND DATA: one request in the protocol of the Resonate server
    server_curl --max-time 5 --data "{\"kind\": \"$1\", \"head\": {\"corrId\": \"crash\", \"version\": \"2026-04-01\"}, \"data\": $2}" \
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

bar_works() { bar_is acquired && [ "$(runs_of bar work)" -ge 1 ]; }

pause_end_ms() { # when the sleep of bar ends; the server knows it, bar or no bar
    ask_server promise.search "{\"tags\": {\"resonate:parent\": \"$bar_promise\", \"resonate:timer\": \"true\"}}" |
        sed -n 's/.*"timeoutAt": *\([0-9]*\).*/\1/p' | head -n 1
}

caller_is_done() { process_gone "$caller"; }

or_caller_is_done() { "$@" || caller_is_done; } # COMMAND...

# ── the caller ──────────────────────────────────────────────────────────────────────────────────────────────

send_request() {
    event "a caller sends POST /foo and waits for the answer: $id"
    sent=$(now_ms)
    due=$sent # when the answer would come without a fault: at once, or when what bar does is over
    call_foo &
    caller=$!
}

body() {
    case "$when-$duration" in
        *-) echo "{}" ;;
        running-*) echo "{\"running\": $duration}" ;;
        *) echo "{\"pause\": $duration}" ;;
    esac
}

# Notes the answer, and when it came. As any client would, it repeats a request whose connection broke, or that was
# refused for the moment, with the same key.
call_foo() {
    trap 'kill "$request" 2>/dev/null; exit 1' TERM
    while true; do
        curl --silent --show-error --noproxy '*' --output "$work/answer" --write-out 'HTTP %{http_code}' \
            --request POST --header "Idempotency-Key: $id" --header "Content-Type: application/json" \
            --data "$(body)" "http://127.0.0.1:$foo_port/foo" >"$work/report" 2>/dev/null &
        request=$!
        wait "$request" || true
        case "$(cat "$work/report")" in
            "" | "HTTP 000" | "HTTP 503") echo again >>"$work/repeats" && sleep 0.3 ;;
            *) break ;;
        esac
    done
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
        "HTTP 200") die "the request was over before $service was struck: give it a longer $length_option." ;;
        *) die "the caller has an answer already, $(cat "$work/report"): $(cat "$work/answer")" ;;
    esac
}

watch_chain_start() {
    await 30 "baz has not run" baz_has_returned
    event "foo has called bar, bar has called baz, baz has run and returned 1"
    if [ "$when" = suspended ]; then
        await 10 "bar was not suspended" bar_is suspended
        spent=$(pause_end_ms)
        due=$spent
        event "bar sleeps for $duration s before it looks at that result"
        detail "it is suspended and holds no lease"
    else
        await 10 "bar was not at work" bar_works
        spent=$(($(now_ms) + $(milliseconds "$duration")))
        due=$spent
        event "bar works for $duration s before it looks at that result"
        detail "it is at work and holds its lease"
    fi
}

await_answer() {
    local limit=${duration%%.*}
    limit=$((${limit:-0} + RECOVERY_SECONDS))
    wait_until "$limit" caller_is_done || {
        kill "$caller" 2>/dev/null || true
        die "no answer after $limit s; see scripts/logs.sh."
    }
    event "the caller has its answer: $(cat "$work/answer")" "$bold"
    case "$(cat "$work/report")" in
        "HTTP 200") ;;
        *) detail "$(cat "$work/report")" ;;
    esac
    [ ! -f "$work/repeats" ] ||
        detail "it had to repeat its request $(grep -c . "$work/repeats") times, with the same Idempotency-Key"
}

# ── the fault ───────────────────────────────────────────────────────────────────────────────────────────────

told() { # what the fault is called once it has struck, and once it is over
    case "$1-$fault-$kind" in
        struck-kill-*) echo "is killed (SIGKILL)" ;;
        struck-pause-processes) echo "is stopped (SIGSTOP)" ;;
        struck-pause-containers) echo "is stopped (docker pause)" ;;
        struck-freeze-*) echo "is frozen, for longer than a lease ($lease s)" ;;
        struck-partition-*) echo "is cut off from the network (docker network disconnect)" ;;
        over-kill-*) echo "is started again" ;;
        over-pause-* | over-freeze-*) echo "is thawed" ;;
        over-partition-*) echo "is connected again" ;;
    esac
}

struck_are() { # TOLD: the same of one or of several
    case "$struck" in
        *$'\n'*) echo "all $(grep -c . <<<"$struck") ${service}s ${1/#is/are}" ;;
        *) echo "$service $1" ;;
    esac
}

can_have_a_second() { case "$service" in bar | baz) return 0 ;; *) return 1 ;; esac }

start_second() { # if there is not one already that could take over
    can_have_a_second && [ "$(instances "$kind" "$service" | grep -c .)" -lt 2 ] || return 0
    [ "$kind" = processes ] || docker compose ps --all --quiet "$service" >"$work/containers"
    second=yes # from now on there may be one
    case "$kind" in
        containers) # without --wait, which fails on a first one whose last checks failed, as it has just been frozen
            LEASE_SECONDS=$lease shield quietly docker compose up --detach --no-build --no-deps --no-recreate \
                --scale "$service=2" "$service" || die "a second $service could not be started."
            ;;
        processes) start_process "$service-2" ;;
    esac
    wait_until 60 second_healthy || die "a second $service could not be started; see scripts/logs.sh."
    event "a second $service is started and stands by"
}

second_containers() { docker compose ps --all --quiet "$service" | grep -vxF -f "$work/containers"; }

second_healthy() {
    case "$kind" in
        containers) instance_healthy containers "$(second_containers)" ;;
        processes) process_healthy "$service-2" ;;
    esac
}

remove_second() {
    local container
    case "$kind" in
        containers) for container in $(second_containers); do quietly docker rm --force "$container"; done ;;
        processes) stop_process_group "$service-2" ;;
    esac
    second=""
}

instances_before() { cat "$work/instances"; }

holder() { # the instance that has run its function for this request; any if none has
    local instance
    for instance in $(instances_before); do
        [ "$(instance_log "$kind" "$instance" | runs_in "$service")" -gt 0 ] && echo "$instance" && return
    done
    instances_before | head -n 1
}

other_has_run() { # whether an instance that is not struck has run its function for this request
    local instance
    for instance in $(instances "$kind" "$service"); do
        [ "$instance" = "$struck" ] && continue
        [ "$(instance_log "$kind" "$instance" | runs_in "$service")" -gt 0 ] && return
    done
    return 1
}

each_struck() { # COMMAND: for each instance
    local instance failed=""
    for instance in $struck; do "$1" "$kind" "$instance" || failed=yes; done
    [ -z "$failed" ]
}

strike() {
    local chosen
    instances "$kind" "$service" >"$work/instances"
    chosen=$(instances_before)
    if [ "$fault" = freeze ]; then
        chosen=$(holder)
    fi
    struck=$chosen
    struck_at=$(now_ms)
    case "$fault" in
        kill) shield each_struck kill_instance ;;
        pause | freeze) shield each_struck freeze_instance ;;
        partition) shield each_struck cut_off_instance ;;
    esac
    event "$(struck_are "$(told struck)")" "$red"
}

show_request() { # while the fault lasts
    case "$service-$fault" in
        foo-kill | foo-partition)
            detail "the caller's connection is gone with it; it repeats the request, with the same Idempotency-Key" ;;
        foo-*) detail "the caller's connection stays open, and silent" ;;
        resonate-server-kill) detail "what it has acknowledged is on disk; foo, bar and baz try to reach it again" ;;
        resonate-server-*) detail "nothing can be recorded now; foo, bar and baz wait for it" ;;
        *)
            detail "GET /foo/$id: $(local_curl --max-time 5 "http://127.0.0.1:$foo_port/foo/$id")"
            [ "$when" = idle ] || ! caller_is_done || give_up
            detail "the caller still waits; the Resonate server keeps what was done so far"
            ;;
    esac
}

undo_fault() {
    case "$fault" in
        kill) shield each_struck start_instance ;;
        pause | freeze) shield each_struck thaw_instance ;;
        partition) shield each_struck reconnect_instance ;;
    esac
    struck=""
}

mend_struck() { # whatever the fault has come to: it may have struck half of them, or be half undone
    shield each_struck mend_patiently || return 1
    struck=""
}

mend_patiently() { wait_until "$MENDING_SECONDS" mend_instance "$@"; } # KIND INSTANCE

end_fault() {
    local were=$struck
    back=$(now_ms)
    event "$(struck_are "$(told over)")" "$green" # as many of it as were struck
    undo_fault
    case "$service-$fault" in
        bar-kill | baz-kill) detail "nobody tells it what it was doing; the Resonate server knows" ;;
        foo-kill) detail "the next attempt of the caller joins the chain that it began" ;;
        resonate-server-kill) detail "the others connect again within half a second; leases begin anew" ;;
    esac
    case "$service-$fault-$when" in
        bar-kill-running)
            detail "the dead bar held a lease; the server has taken it back, or does so"
            detail "when it lapses, and gives the work away again"
            ;;
        bar-freeze-running) show_refusal "$were" ;;
    esac
}

# ── frozen beyond the lease ─────────────────────────────────────────────────────────────────────────────────

await_takeover() {
    wait_until "$TAKEOVER_SECONDS" other_has_run || die "no other bar took over within $TAKEOVER_SECONDS s; see scripts/logs.sh."
    event "its lease has ended: the other bar does the work, from its beginning"
}

let_it_last() { # the fault
    local left=$((${down%%.*} * 1000))
    [ "$service-$fault-$when" = bar-freeze-running ] || { nap "$down" && return; }
    await_takeover
    left=$((left - ($(now_ms) - struck_at)))
    [ "$left" -le 0 ] || nap "$(seconds "$left")"
}

nap() { # SECONDS: unlike in sleep itself, the script can be told to leave
    sleep "$1" &
    wait $!
}

refusal() { # INSTANCE: prints what it says of the lease it has lost
    instance_log "$kind" "$1" | sed -n "s/^[^ ]* ended function $service .*promise=$id.* \(lease lost.*\)/\1/p" | head -n 1 | grep .
}

show_refusal() { # INSTANCE: of the result of the bar that was frozen, when it comes at last
    detail "it does not know that its lease has ended, and sends its result"
    if wait_until "$((${duration%%.*} + 30))" refusal "$1"; then
        refused=yes
        event "the server refuses that; the thawed bar says:"
        detail "$(refusal "$1")"
    else
        event "nothing shows that the server has refused it" "$red"
    fi
}

# ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────

say_how_to_go_on() {
    cat <<HOW

bar stays dead. To go on by hand:
  bring it back:     $([ "$kind" = containers ] && echo "docker compose start bar" || echo "scripts/up.sh --processes")
  see the answer:    scripts/trigger.sh --id $id    (joins the request, does not start another)
  without waiting:   curl http://127.0.0.1:$foo_port/foo/$id
HOW
}

leave() { # whatever happens, nothing stays dead, frozen or cut off unless that was wished for
    local pid
    trap '' INT TERM HUP PIPE
    finish_shielded || true # the fault strikes, or its end comes, before it is looked after
    for pid in $(jobs -p); do kill "$pid" 2>/dev/null || true; done # the caller, a sleep
    if [ -n "$struck" ]; then
        if mend_struck; then
            say "$service has been ${fault_undone}."
        else
            say "$service could not be ${fault_undone}; scripts/up.sh tries that again."
        fi
    fi
    [ -z "$second" ] || shield remove_second || say "the second $service could not be removed; scripts/down.sh removes it."
    rm -rf "$work"
}

report_recovery_time() {
    local since=$back what
    what="$service $(told over)"
    what=${what/ is / was }
    if [ "$fault" = freeze ]; then
        since=$struck_at what="$service was frozen"
    elif [ "$when" = suspended ] && [ "${spent:-0}" -gt "$since" ]; then
        since=$spent what="the pause ended"
    elif [ "$when" = running ] && [ "$work_runs" = 1 ] && [ "$spent" -gt "$since" ]; then
        since=$spent what="bar's work was to end"
    fi
    [ "$answered" -ge "$since" ] || since=$answered
    echo "The answer came $(seconds $((answered - since))) s after $what."
    [ "$work_runs" -lt 2 ] || {
        detail "($duration s of these are bar's work again, from its beginning:"
        detail "the ${told_struck} bar had not finished it)"
    }
    [ -z "$cost" ] ||
        echo "Without the fault it would have come after $(seconds $((due - sent))) s; it came after $(seconds $((answered - sent))) s."
}

find_cost() { # sets it, and when the answer came; less than half a second is none
    answered=$(cat "$work/answered")
    cost=""
    [ $((answered - due)) -lt 500 ] || cost=$(seconds $((answered - due)))
}

most_work() { # how often bar's work may have run: once more if the one that did it lost its lease
    case "$service-$when" in
        bar-running | resonate-server-running) echo 2 ;;
        *) echo 1 ;;
    esac
}

as_it_should_be() { # MESSAGE
    [ "$1" = 3 ] && [ "$baz_runs" = 1 ] && [ "$work_runs" -le "$(most_work)" ] &&
        { [ "$service-$fault-$when" != bar-freeze-running ] || [ -n "$refused" ]; }
}

verdict() {
    case "$service-$fault-$when-$work_runs" in
        bar-freeze-running-*) echo "Counted once: the answer is 3, baz ran exactly once, and the late result was refused." ;;
        *-running-2) echo "The answer is 3, and baz ran exactly once; only bar's unfinished step ran again." ;;
        *-running-*) echo "The answer is 3; baz ran exactly once, and so did bar's work." ;;
        *-idle-*) echo "The answer is 3, and baz ran exactly once." ;;
        *) echo "The crash cost $([ -n "$cost" ] && echo "$cost s" || echo nothing): the answer is 3, and baz ran exactly once." ;;
    esac
}

report() {
    local message baz_runs work_runs also=""
    message=$(sed -n 's/.*"message": *\([^,}]*[^,} ]\).*/\1/p' "$work/answer")
    baz_runs=$(runs_of baz) work_runs=$(runs_of bar work)
    [ "$when" != running ] || also=" (its work: $work_runs)"
    echo
    echo "Runs of each function, counted in the logs: foo $(runs_of foo), bar $(runs_of bar)$also, baz $baz_runs."
    detail "(a waiting function runs from its top when it continues;"
    detail "a call it made before is not made again)"
    find_cost
    [ "$message" != 3 ] || report_recovery_time
    if as_it_should_be "$message"; then
        echo "$green$bold$(verdict)$plain"
    else
        echo "${red}${bold}Something went wrong: the answer should be 3 (it is ${message:-missing}), and baz should have run once.${plain}"
        return 1
    fi
}

# ── the whole ───────────────────────────────────────────────────────────────────────────────────────────────

prepare() { # or say why there is nothing to strike
    require_stack
    [ "$fault-$kind" != partition-processes ] ||
        die "--partition needs the stack as containers: processes share one network interface, none can be cut off alone."
    # shellcheck disable=SC2153 # require_stack sets these
    foo_port=$FOO_PORT resonate_port=$RESONATE_PORT lease=$LEASE_SECONDS
    [ -n "$down" ] || down=$((${lease%%.*} + 3)) # --freeze
    id=crash-$(date +%H%M%S)-$$
    work=$(mktemp -d)
    touch "$work/answer" "$work/report"
    caller="" struck="" second="" refused="" spent=""
    case "$fault" in
        kill) fault_undone="started again" told_struck=killed ;;
        pause | freeze) fault_undone=thawed told_struck=frozen ;;
        partition) fault_undone="connected again" told_struck="cut off" ;;
    esac
    trap leave EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP PIPE # PIPE: whoever read what it prints has gone
}

play() { # ends with 0 if all is as it should be
    began=$(now_ms)
    [ "$fault" != freeze ] || start_second # now, as the request does not wait for it
    if [ "$when" = idle ]; then
        strike
        send_request
    else
        send_request
        watch_chain_start
        strike
    fi
    show_request
    if [ -n "$keep_down" ]; then
        say_how_to_go_on
        struck="" # and stays so
        return
    fi
    let_it_last
    end_fault
    await_answer
    report
}
