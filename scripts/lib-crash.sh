# shellcheck shell=bash
# shellcheck disable=SC2154 # what the scripts that source this file set: see the list below
# What crash.sh and crash-bar.sh share: one request, one fault, and a timeline. This starts and kills; how far the request has
# come, and whether all was as it should be, `resonate wait` and `resonate report` say. Sourced after lib.sh.
#
# The script sets, before it calls `play`:
#   service fault when   who is struck, how (kill, pause, freeze, partition) and at which moment (suspended, running, idle)
#   duration             s: how long bar sleeps or works; empty for not at all
#   down                 s: how long the service stays as the fault left it; empty for longer than a lease
#   length_option        the option by which a person chooses the duration
#   keep_down            not empty: stop after the fault, and say how to go on by hand

readonly START_SECONDS=40     # until baz has run, and bar sleeps or works; as much for a second instance to start
readonly RECOVERY_SECONDS=120 # an answer that takes longer than pause, or work, and this is counted as missing
readonly MENDING_SECONDS=30   # what could not be brought back at once is tried for so long
readonly TAKEOVER_SECONDS=60  # a lease that has ended is given away again within this
readonly LOG_SECONDS=10       # what a container has printed can be read by then
readonly RIGHT_ANSWER=3
readonly SETTLED_BEFORE=3     # a status of `resonate wait`

red="" green="" bold="" plain=""
[ ! -t 1 ] || [ -n "${NO_COLOR:-}" ] || { red=$'\033[31m' green=$'\033[32m' bold=$'\033[1m' plain=$'\033[0m'; }

now_ms() { # since the epoch
    local now=${EPOCHREALTIME/[^0-9]/} # the separator depends on the locale
    echo "${now%???}"
}

event() { # TEXT [COLOUR]: one line of the timeline
    local elapsed=$(($(now_ms) - began))
    printf '%5d.%d s  %s%s%s\n' $((elapsed / 1000)) $((elapsed % 1000 / 100)) "${2:-}" "$1" "${2:+$plain}"
}

detail() { printf '           %s\n' "$1"; }

in_background() { # COMMAND...: in a process group of its own, out of reach of Ctrl-C
    set -m
    "$@" </dev/null &
    set +m
}

nap() { in_background sleep "$1" && wait $!; } # SECONDS: unlike in sleep itself, the script can be told to leave

# What must not be ended half-way. The script can be told to leave meanwhile, and then finishes it first.
shielded="" # its pid

shield() { # COMMAND...
    in_background "$@"
    shielded=$!
    finish_shielded
}

finish_shielded() { # its exit status
    local status=0
    [ -z "$shielded" ] || wait "$shielded" || status=$?
    shielded=""
    return "$status"
}

# ── the request ─────────────────────────────────────────────────────────────────────────────────────────────

send_request() {
    event "a caller sends POST /foo and waits for the answer: $id"
    sent=$(now_ms)
    in_background call_foo
    caller=$!
}

# As any client would, it repeats a request whose connection broke, or that was refused for the moment, with the same key.
call_foo() {
    local status=000
    while [[ "$status" =~ ^(000|503)$ ]]; do
        [ ! -s "$work/statuses" ] || sleep 0.3
        status=$(local_curl --output "$work/answer" --write-out '%{http_code}' --request POST \
            --header "Idempotency-Key: $id" --header "Content-Type: application/json" \
            --data "$body" "http://127.0.0.1:$FOO_PORT/foo") || status=000
        echo "$status" >>"$work/statuses"
    done
    now_ms >"$work/answered"
}

caller_is_done() { process_gone "$caller"; }
answer() { cat "$work/answer"; }
status_of_answer() { tail -n 1 "$work/statuses"; }

give_up() { # the caller has its answer too early
    [ "$(status_of_answer)" != 200 ] || die "the request was over before $service was struck: give it a longer $length_option."
    die "the caller has an answer already, HTTP $(status_of_answer): $(answer)"
}

start_watcher() { # before there is anything to see: its start may take longer than a short request
    local goal=bar=suspended
    [ "$when" = suspended ] || goal=step=running
    in_background resonate_command "$kind" wait "$id" --until baz=settled --until "$goal" --timeout "$((2 * START_SECONDS))s" \
        >"$work/reached" 2>"$work/watcher"
    watcher=$!
    wait_until "$START_SECONDS" [ -s "$work/watcher" ] || die "the Resonate server cannot be asked; see scripts/logs.sh."
}

one_is_done() { process_gone "$watcher" || caller_is_done; }

await_moment() { # to strike
    wait_until "$START_SECONDS" one_is_done || die "bar has not come so far within $START_SECONDS s; see scripts/logs.sh."
    ! caller_is_done || give_up
    wait "$watcher" || { wait_until 5 caller_is_done && give_up; } || die "bar is not $when: $(tail -n 1 "$work/watcher")"
    event "foo has called bar, bar has called baz, baz has run and returned 1"
    if [ "$when" = suspended ]; then
        event "bar sleeps for $duration s before it looks at that result"
        detail "it is suspended and holds no lease"
    else
        event "bar works for $duration s before it looks at that result"
        detail "it is at work and holds its lease"
    fi
}

await_answer() {
    local limit=$((whole_duration + RECOVERY_SECONDS)) repeats
    wait_until "$limit" caller_is_done || die "no answer after $limit s; see scripts/logs.sh."
    event "the caller has its answer: $(answer)" "$bold"
    [ "$(status_of_answer)" = 200 ] || detail "HTTP $(status_of_answer)"
    repeats=$(($(grep -c . "$work/statuses") - 1))
    [ "$repeats" = 0 ] || detail "it had repeated its request, with the same Idempotency-Key: $repeats"
}

# ── the fault ───────────────────────────────────────────────────────────────────────────────────────────────

describe_fault() { # how it is told, and which actions of lib.sh do and undo it
    case "$fault" in
        kill) strike=kill undo=start struck_how="killed (SIGKILL)" undone="started again" ;;
        pause) strike=freeze undo=thaw struck_how="stopped (SIGSTOP)" undone=thawed ;;
        freeze) strike=freeze undo=thaw struck_how="frozen, for longer than a lease ($LEASE_SECONDS s)" undone=thawed ;;
        partition) strike=cut_off undo=reconnect struck_how="cut off from the network (docker network disconnect)" undone="connected again" ;;
    esac
    [ "$fault-$kind" != pause-containers ] || struck_how="stopped (docker pause)"
}

struck_are() { # WHAT: told of one or of several
    case "$struck" in
        *$'\n'*) echo "all $(grep -c . <<<"$struck") ${service}s are $1" ;;
        *) echo "$service is $1" ;;
    esac
}

second_instance() {
    case "$kind" in
        containers) docker compose ps --all --quiet "$service" | grep -vxF -f "$work/first" ;;
        processes) echo "$service-2" ;;
    esac
}

second_healthy() { "${kind}_healthy" "$(second_instance)"; }

start_second() { # if it is a worker, and there is not one already that could take over
    "${kind}_of" "$service" >"$work/first"
    [ "$(service_field "$service" kind)" = worker ] && [ "$(grep -c . "$work/first")" -lt 2 ] || return 0
    second=yes # from now on there may be one
    case "$kind" in # without --wait, which fails on a first one whose last checks failed, as it was frozen
        containers) shield quietly docker compose up --detach --no-build --no-deps --no-recreate --scale "$service=2" "$service" || true ;;
        processes) processes_start "$service-2" ;;
    esac
    wait_until "$START_SECONDS" second_healthy || die "a second $service could not be started; see scripts/logs.sh."
    event "a second $service is started and stands by"
}

remove_second() {
    case "$kind" in
        containers) second_instance | xargs -r docker rm --force >/dev/null ;;
        processes) stop_processes "$service-2" ;;
    esac
}

find_holder() { # the instance that does the work, or one that ran its function for this request; else the last one
    local ran=" running function $service  promise=$id.*  attempt="
    [ "$service-$when" != bar-running ] || ran+="$(reached_attempt)\$" # another bar may have had an earlier attempt
    for struck in $("${kind}_of" "$service"); do
        ! has_printed "$struck" "$ran" || return 0
    done
    return 1
}

has_printed() { # INSTANCE PATTERN: not `grep -q`, which would end the log's reader by SIGPIPE
    [ "$("${kind}_log" "$1" | grep -c -- "$2")" -gt 0 ]
}

reached_attempt() { awk 'END { print $2 }' "$work/reached"; } # as `resonate wait` prints it

each_struck() { # COMMAND: for each instance
    local instance failed=""
    for instance in $struck; do "$1" "$instance" || failed=yes; done
    [ -z "$failed" ]
}

strike() {
    if [ "$fault" = freeze ]; then
        find_holder || [ "$service-$when" != bar-running ] || wait_until "$LOG_SECONDS" find_holder ||
            die "no $service says that it works; see scripts/logs.sh."
    else
        struck=$("${kind}_of" "$service")
    fi
    struck_at=$(now_ms)
    shield each_struck "${kind}_$strike"
    event "$(struck_are "$struck_how")" "$red"
}

show_request() { # while the fault lasts
    case "$service-$fault" in
        foo-kill | foo-partition) detail "the caller's connection is gone with it; it repeats the request, with the same Idempotency-Key" ;;
        foo-*) detail "the caller's connection stays open, and silent" ;;
        resonate-server-kill) detail "what it has acknowledged is on disk; foo, bar and baz try to reach it again" ;;
        resonate-server-*) detail "nothing can be recorded now; foo, bar and baz wait for it" ;;
        *) detail "GET /foo/$id: $(local_curl --max-time 5 "http://127.0.0.1:$FOO_PORT/foo/$id")"
            [ "$when" = idle ] || ! caller_is_done || give_up
            detail "the caller still waits; the Resonate server keeps what was done so far" ;;
    esac
}

let_it_last() { # the fault
    local left status=0 work_is="does the work"
    [ "$service-$fault-$when" = bar-freeze-running ] || { nap "$down" && return; }
    in_background resonate_command "$kind" wait "$id" --until bar=running --after "$(reached_attempt)" \
        --timeout "${TAKEOVER_SECONDS}s" >/dev/null 2>"$work/takeover"
    wait $! || status=$? # told to leave, the script does so at once
    case "$status" in
        0) ;;
        "$SETTLED_BEFORE") work_is="has done the work" ;; # the look at it took longer
        *) die "no other bar took over within $TAKEOVER_SECONDS s ($(tail -n 1 "$work/takeover")); see scripts/logs.sh." ;;
    esac
    event "its lease has ended: the other bar $work_is, from its beginning"
    left=$((${down%%.*} - ($(now_ms) - struck_at) / 1000))
    [ "$left" -le 0 ] || nap "$left"
}

has_lost_lease() { has_printed "$1" "promise=$id.*  lease lost"; } # INSTANCE: and says so

end_fault() {
    local were=$struck
    back=$(now_ms)
    event "$(struck_are "$undone")" "$green" # as many of it as were struck
    shield each_struck "${kind}_$undo"
    struck=""
    case "$service-$fault-$when" in
        foo-kill-*) detail "the repeated request joins the chain that the first one began" ;;
        resonate-server-kill-*) detail "the others connect again within half a second; leases begin anew" ;;
        *-kill-*) detail "nobody tells it what it was doing; the Resonate server knows" ;;
        bar-freeze-running)
            detail "it does not know that its lease has ended, and sends its result"
            wait_until "$((whole_duration + 30))" has_lost_lease "$were" || true # the report tells
            ;;
    esac
    [ "$service-$fault-$when" != bar-kill-running ] ||
        detail "the dead bar held a lease; the server takes it back, and gives the work to the next bar"
}

# ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────

say_how_to_go_on() {
    cat <<HOW

bar stays dead. To go on by hand:
  bring it back:     $([ "$kind" = containers ] && echo "docker compose start bar" || echo "scripts/up.sh --processes")
  see the answer:    scripts/trigger.sh --id $id    (joins the request, does not start another)
  without waiting:   curl http://127.0.0.1:$FOO_PORT/foo/$id
HOW
}

mend_patiently() { wait_until "$MENDING_SECONDS" "${kind}_mend" "$1"; } # INSTANCE

leave() { # whatever happens, nothing stays dead, frozen or cut off unless that was wished for
    local group
    trap '' INT TERM HUP PIPE
    finish_shielded || true # the fault strikes, or its end comes, before it is looked after
    for group in $(jobs -p); do kill -- "-$group" 2>/dev/null || true; done # the caller, a sleep
    if [ -n "$struck" ]; then # it may have struck half of them, or be half undone
        if shield each_struck mend_patiently; then
            say "$service has been $undone."
        else
            say "$service could not be $undone; scripts/up.sh tries that again."
        fi
    fi
    [ -z "$second" ] || shield remove_second || say "the second $service could not be removed; scripts/down.sh removes it."
    rm -rf "$work"
}

report() { # ends with 0 if all is as it should be
    local group name
    group=$(service_field "$service" group) || true # the server has none
    echo
    for name in $(services); do "${kind}_said" "$name"; done | resonate_command "$kind" report "$id" \
        --expect "$RIGHT_ANSWER" --answer "$(answer)" --sent "$sent" --answered "$(cat "$work/answered")" \
        --takes "$(awk -v s="${duration:-0}" 'BEGIN { printf "%d", s * 1000 }')ms" \
        --fault "$fault" --struck "$service" --struck-at "$struck_at" --over-at "$back" ${group:+--group "$group"}
}

prepare() { # or say why there is nothing to strike
    caller="" struck="" second="" work=""
    trap leave EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP PIPE # PIPE: whoever read what it prints has gone
    # shellcheck disable=SC2086 # a list
    require $SERVICES
    [ "$fault-$kind" != partition-processes ] ||
        die "--partition needs the stack as containers: processes share one network interface, none can be cut off alone."
    down=${down:-$((${LEASE_SECONDS%%.*} + 3))}
    whole_duration=${duration%%.*}
    id=crash-$(date +%H%M%S)-$$
    body="{${duration:+\"pause\": $duration}}"
    [ "$when" != running ] || body=${body/pause/running}
    work=$(mktemp -d)
    touch "$work/answer" "$work/statuses"
    describe_fault
}

play() { # ends with 0 if all is as it should be
    prepare
    [ "$when" = idle ] || start_watcher
    began=$(now_ms)
    [ "$fault" != freeze ] || start_second # now, as the request does not wait for it
    [ "$when" != idle ] || strike
    send_request
    [ "$when" = idle ] || { await_moment && strike; }
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
