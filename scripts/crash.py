"""The program behind crash.sh and crash-bar.sh: one request, one fault, and a timeline.

This decides and reports. It writes commands to standard output; lib-crash.sh carries them out, and answers on standard
input. So it needs neither Docker nor a file beside it, and runs in the server's image where a machine has no Python.
"""

import base64
import contextlib
import json
import os
import queue
import shlex
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPException
from typing import NoReturn

import msgspec
from msgspec import Struct

from resonate_server.client.account import FaultKind
from resonate_server.client.calls import Call, CallTree
from resonate_server.client.server_connection import CallFailed, ServerConnection
from resonate_server.client.wait import Goal, find

START_S = 40
"""Until baz has run, and bar sleeps or works; the same for a second instance to start."""
RECOVERY_S = 120
"""An answer that takes longer than the pause, or the work, plus this counts as missing."""
MENDING_S = 30
"""How long to retry what could not be brought back at once."""
TAKEOVER_S = 60
"""Within this, the work of an expired lease is given to another worker."""
REPORT_S = 60
"""Within this, a server that was struck is ready to be asked for the report."""
LOG_S = 10
"""Within this, the output of a container can be read."""
LEASE_LOST_S = 30
GONE = "No such"
"""What Docker says about a container that somebody has removed meanwhile."""
LOOK_S = 0.1
REPEAT_S = 0.3
ANSWER_S = 5.0

KEEPALIVE = {"TCP_KEEPIDLE": 1, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": 2}
"""Seconds, seconds, probes; not every system has all of them. Only containers are cut off, and their system does."""
RIGHT_ANSWER = "3"
OUTPUT_IS_GONE = 143
BUSY = 503
NEWLINE = "'$'\\n''"
"""How to write a newline within the shell's single quotes."""

RED, GREEN, BOLD, PLAIN = "\033[31m", "\033[32m", "\033[1m", "\033[0m"


class Fault(Struct, frozen=True):
    """``strike`` and ``undo``: verbs of lib.sh; ``struck``: how the timeline describes it."""

    strike: str
    undo: str
    struck: str


FAULTS = {
    FaultKind.KILL: Fault("kill", "start", "killed (SIGKILL)"),
    FaultKind.PAUSE: Fault("freeze", "thaw", "stopped (SIGSTOP)"),
    FaultKind.FREEZE: Fault("freeze", "thaw", "frozen, for longer than a lease ({lease:g} s)"),
    FaultKind.PARTITION: Fault("cut_off", "reconnect", "cut off from the network (docker network disconnect)"),
}

CALLER_REPEATS = "the caller's connection is gone with it; it repeats the request, with the same Idempotency-Key"
MEANWHILE = {
    "foo-kill": CALLER_REPEATS,
    "foo-partition": CALLER_REPEATS,
    "foo": "the caller's connection stays open, and silent",
    "resonate-server-kill": "everything it acknowledged is on disk; foo, bar and baz keep trying to reach it",
    "resonate-server": "nothing can be recorded now; foo, bar and baz wait for it",
    "postgres": "nothing can be recorded now; the servers wait for it, and foo, bar and baz for them",
    "one of several servers-kill": "the other servers continue; its clients connect to one of them",
    "one of several servers": "the other servers continue; requests to this one wait",
}
AFTER_KILL = {
    "foo": "the repeated request joins the chain that the first one began",
    "resonate-server": "the others connect again within half a second; leases start over",
    "postgres": "everything it acknowledged is on disk; the servers continue as soon as it answers",
    "one of several servers": "leases stayed as they were; it shares the work again",
}


class Case(Struct, frozen=True):
    """What to do, and where. Times are in seconds."""

    script: str
    kind: str
    service: str
    fault: FaultKind
    when: str
    length_option: str
    """The option with which a person chooses the duration."""
    id: str
    foo: str
    """Host and port."""
    server: str
    lease: float
    down: float
    """How long the fault lasts."""
    duration: float = 0
    """How long bar sleeps or works."""
    is_worker: bool = False
    keep_down: bool = False
    """Stop after the fault, and say how to continue by hand."""
    colours: bool = False

    @property
    def strikes_work(self) -> bool:
        return (self.service, self.when) == ("bar", "running")


class Ended(Exception):
    """Ends the script with ``status``, and says why unless that is obvious."""

    def __init__(self, status: int, reason: str = "") -> None:
        super().__init__(reason)
        self.status = status


def give_up(reason: str) -> NoReturn:
    raise Ended(1, reason)


def complain(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads it, as after a closed terminal; there may be more to bring back
        os.write(2, f"{text}\n".encode())  # without a buffer, which Python would complain about at its end


def now_ms() -> int:
    return round(time.time() * 1_000)


class Scripts:
    """The functions of the shell scripts; and waiting, which Ctrl-C cuts short."""

    def __init__(self) -> None:
        self._answers: queue.Queue[tuple[int, str]] = queue.Queue()
        self._told_to_end = threading.Event()
        self._status = OUTPUT_IS_GONE
        threading.Thread(target=self._read, daemon=True).start()

    def ask(self, *words: str) -> str:
        """Return what the command prints. Raises :class:`Ended` if it fails."""
        status, output = self._call("ask", *words)
        return output if status == 0 else give_up(f"{' '.join(words)}: {output}")

    def do(self, *words: str) -> bool:
        return self._call("do", *words)[0] == 0

    def failure(self, *words: str) -> str:
        status, output = self._call("ask", *words)
        return (output or f"status {status}") if status else ""

    def sleep(self, seconds: float) -> None:
        if self._told_to_end.wait(seconds):
            raise Ended(self._status)

    def until(self, seconds: float, is_so: Callable[[], object]) -> bool:
        """Wait for the condition; return whether it came true in that time."""
        end = time.monotonic() + seconds
        while not is_so():
            if time.monotonic() > end:
                return False
            self.sleep(LOOK_S)
        return True

    def _call(self, *words: str) -> tuple[int, str]:
        print(shlex.join(words).replace("\n", NEWLINE), flush=True)
        return self._answers.get()

    def _read(self) -> None:
        for line in sys.stdin:
            word, _, rest = line.strip().partition(" ")
            if word == "end":
                self._status = int(rest)
                self._told_to_end.set()
            else:
                self._answers.put((int(word), base64.b64decode(rest).decode(errors="replace")))
        os._exit(OUTPUT_IS_GONE)


class Answer(Struct, frozen=True):
    """``status`` 0: there was no answer, as the connection broke."""

    status: int
    text: str = ""


def ask_foo(foo: str, method: str, path: str, body: str = "", key: str = "", seconds: float | None = None) -> Answer:
    """Send a request. Notices within seconds if foo silently disappears from the network."""
    connection = HTTPConnection(foo, timeout=seconds)
    try:
        connection.connect()
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEPALIVE.items():
            if hasattr(socket, name):
                connection.sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        connection.request(method, path, body or None, {"Idempotency-Key": key, "Content-Type": "application/json"})
        response = connection.getresponse()
        return Answer(response.status, response.read().decode(errors="replace").strip())
    except (OSError, HTTPException):
        return Answer(0)
    finally:
        connection.close()


def attempts(foo: str, body: dict[str, float], key: str, seconds: float | None = None) -> Iterator[Answer]:
    """Like any client, repeat a request whose connection broke, or that was refused for the moment: yield all answers.

    ``seconds``: of silence after which to try again.
    """
    while True:
        yield (answer := ask_foo(foo, "POST", "/foo", json.dumps(body), key, seconds))
        if answer.status not in (0, BUSY):
            return
        time.sleep(REPEAT_S)


class Caller(threading.Thread):
    def __init__(self, case: Case) -> None:
        super().__init__(daemon=True)
        self._case = case
        self.repeats = 0
        self.sent = self.answered = 0
        """ms since the epoch."""
        self.answer = Answer(0)

    def run(self) -> None:
        case = self._case
        body = {"running" if case.when == "running" else "pause": case.duration} if case.duration else {}
        for self.repeats, answer in enumerate(attempts(case.foo, body, case.id)):
            last = answer
        self.answer = last
        self.answered = now_ms()  # last, as this marks it as done

    def is_done(self) -> bool:
        return self.answered > 0


class Crash:
    def __init__(self, case: Case, scripts: Scripts) -> None:
        self._case = case
        self._scripts = scripts
        self._fault = FAULTS[case.fault]
        self._caller = Caller(case)
        token = os.environ.get("RESONATE_TOKEN") or None
        self._tree = CallTree(ServerConnection(case.server, token, ANSWER_S), case.id)
        self._began = now_ms()
        self._attempt = 0
        """The attempt of bar, once bar has come that far."""
        self._struck: list[str] = []
        self._struck_at = self._over_at = 0
        self._second: list[str] = []
        self._role = case.service
        """Tells one of several servers from the only one: the others continue while it is struck."""
        self._answer_is_told = False

    def play(self) -> None:
        """Raises :class:`Ended` unless all is as it should be."""
        case = self._case
        self._look(must_answer=True)
        self._began = now_ms()
        if case.fault == "freeze" and case.is_worker:
            self._start_second()  # first, as the request does not wait for it
        if case.when == "idle":
            self.strike()
        self._caller.sent = now_ms()
        self._caller.start()
        self._event(f"a caller sends POST /foo and waits for the answer: {case.id}", at=self._caller.sent)
        if case.when != "idle":
            self._await_moment()
            self.strike()
        self._show_request()
        if case.keep_down:
            self._say_how_to_go_on()
            return
        self.let_it_last()
        self._end_fault()
        self._await_answer()
        self._report()

    # ── the timeline ──

    def _event(self, text: str, colour: str = "", at: int | None = None) -> None:
        """``at``: ms since the epoch; by default now. An answer that came before is reported first."""
        at = now_ms() if at is None else at
        if self._caller.is_done() and self._caller.answered <= at:
            self._tell_answer()
        if colour and self._case.colours:
            text = colour + text + PLAIN
        self._print(f"{(at - self._began) / 1_000:7.1f} s  {text}")

    def _detail(self, text: str) -> None:
        self._print(f"           {text}")

    def _print(self, text: str) -> None:
        if not self._scripts.do("print", text):
            raise Ended(OUTPUT_IS_GONE)

    def _struck_are(self, what: str) -> str:
        service, number = self._case.service, len(self._struck)
        return f"{service} is {what}" if number == 1 else f"all {number} {service}s are {what}"

    # ── the request ──

    def _look(self, *, must_answer: bool = False) -> list[Call]:
        """Read its calls; there are none while the server is away."""
        try:
            return self._tree.read()
        except CallFailed as error:
            if must_answer and error.status != 404:
                give_up(f"the Resonate server does not answer: {error}; see scripts/logs.sh.")
            return []

    def _bar_is_there(self) -> bool:
        calls = self._look()
        goal = Goal("bar", "suspended") if self._case.when == "suspended" else Goal("step", "running")
        reached = find(calls, Goal("baz", "settled"), 0) and find(calls, goal, 0)
        self._attempt = reached.attempt if reached else 0
        return reached is not None

    def _await_moment(self) -> None:
        if not self._scripts.until(START_S, lambda: self._bar_is_there() or self._caller.is_done()):
            give_up(f"bar did not get that far within {START_S} s; see scripts/logs.sh.")
        self._must_still_wait()
        self._event("foo has called bar, bar has called baz, baz has run and returned 1")
        sleeps = self._case.when == "suspended"
        self._event(
            f"bar {'sleeps' if sleeps else 'works'} for {self._case.duration:g} s before it looks at that result"
        )
        self._detail("it is suspended and holds no lease" if sleeps else "it is at work and holds its lease")

    def _must_still_wait(self) -> None:
        case, answer = self._case, self._caller.answer
        if answer.status == 200:
            give_up(f"the request was over before {case.service} was struck: give it a longer {case.length_option}.")
        if answer.status:
            give_up(f"the caller has an answer already, HTTP {answer.status}: {answer.text}")

    def _await_answer(self) -> None:
        limit, caller = self._case.duration + RECOVERY_S, self._caller
        if not self._scripts.until(limit, caller.is_done):
            give_up(f"no answer after {limit:g} s; see scripts/logs.sh.")
        self._tell_answer()

    def _tell_answer(self) -> None:
        """Report the answer once, with the time at which it came."""
        if self._answer_is_told:
            return
        self._answer_is_told, caller = True, self._caller
        self._event(f"the caller has its answer: {caller.answer.text}", BOLD, caller.answered)
        if caller.answer.status != 200:
            self._detail(f"HTTP {caller.answer.status}")
        if caller.repeats:
            times = "once" if caller.repeats == 1 else f"{caller.repeats} times"
            self._detail(f"it had repeated its request {times}, with the same Idempotency-Key")

    # ── the fault ──

    def _each(self, verb: str, instances: list[str]) -> bool:
        """Apply the verb to all, and return whether it succeeds: at once, or the last one would finish the request."""
        return self._scripts.do("at_once", self._case.kind, verb, *instances)

    def _instances(self) -> list[str]:
        return self._scripts.ask(self._case.kind, "of", self._case.service).split()

    def _start_second(self) -> None:
        """Start one, unless there already is one that could take over."""
        service, first = self._case.service, self._instances()
        if len(first) > 1:
            return
        self._second = self._scripts.ask(self._case.kind, "second", service).split()
        if not self._scripts.until(START_S, lambda: self._second and self._each("healthy", self._second)):
            give_up(f"a second {service} could not be started; see scripts/logs.sh.")
        self._event(f"a second {service} is started and stands by")

    def strike(self) -> None:
        self._struck = self._holder() if self._case.fault == "freeze" else self._instances()
        if self._case.service == "resonate-server":  # Others that share its database go on.
            self._role = "one of several servers" if len(self._instances()) > 1 else self._role
            self._struck = self._struck[:1]
        if not self._struck:
            give_up(f"{self._case.service} is not running any more; scripts/up.sh starts it.")
        self._struck_at = now_ms()
        if not self._each(self._fault.strike, self._struck):
            give_up(f"{self._case.service} could not be made to fail; see above.")
        how = (
            "stopped (docker pause)"
            if (self._case.kind, self._case.fault) == ("containers", "pause")
            else self._fault.struck
        )
        self._event(self._struck_are(how.format(lease=self._case.lease)), RED, self._struck_at)

    def _holder(self) -> list[str]:
        """Return the instance that does the work, or one that ran its function for this request; else the last one."""
        case = self._case
        attempt = f"{self._attempt}$" if case.strikes_work else ""  # another bar may have had an earlier attempt
        pattern = f" running function {case.service}  promise={case.id}.*  attempt={attempt}"
        holders: list[str] = []

        def is_found() -> bool:
            holders[:] = [one for one in self._instances() if self._has_printed(one, pattern)]
            return bool(holders)

        if not self._scripts.until(LOG_S if case.strikes_work else 0, is_found) and case.strikes_work:
            give_up(f"no {case.service} says that it works; see scripts/logs.sh.")
        return holders[:1] or self._instances()[-1:]

    def _has_printed(self, instance: str, pattern: str) -> bool:
        return self._scripts.do("has_printed", instance, pattern)

    def _show_request(self) -> None:
        case = self._case
        if told := MEANWHILE.get(f"{self._role}-{case.fault}") or MEANWHILE.get(self._role):
            self._detail(told)
            return
        self._detail(f"GET /foo/{case.id}: {ask_foo(case.foo, 'GET', f'/foo/{case.id}', seconds=ANSWER_S).text}")
        if case.when != "idle":
            self._must_still_wait()
        self._detail("the caller still waits; the Resonate server keeps what was done so far")

    def let_it_last(self) -> None:
        if self._case.strikes_work and self._case.fault == "freeze":
            self._await_takeover()
        end = self._struck_at / 1_000 + self._case.down
        if self._scripts.until(max(0, end - time.time()), self._caller.is_done):
            self._tell_answer()
        self._scripts.sleep(max(0, end - time.time()))

    def _await_takeover(self) -> None:
        does = ""

        def is_taken_over() -> bool:
            nonlocal does
            calls = self._look()
            if find(calls, Goal("bar", "running"), self._attempt):
                does = "does"
            elif calls and calls[0].is_settled:
                does = "has done"  # it finished before this looked
            return bool(does)

        if not self._scripts.until(TAKEOVER_S, is_taken_over):
            give_up(f"no other bar took over within {TAKEOVER_S} s; see scripts/logs.sh.")
        at = now_ms()
        after = f" after {(at - self._struck_at) / 1_000:.1f} s" if does == "does" else ""
        self._event(
            f"it was given up{after} without a sign of life: the other bar {does} the work, from its beginning", at=at
        )

    def _end_fault(self) -> None:
        case, were = self._case, self._struck
        self._over_at = now_ms()
        if not self._each(self._fault.undo, were):
            give_up(f"{case.service} could not be {case.fault.over}; see above.")
        self._event(self._struck_are(case.fault.over), GREEN, self._over_at)
        self._struck = []
        if case.fault == "kill":
            self._detail(AFTER_KILL.get(self._role, "it has no memory of its work; the server hands it over again"))
        if case.fault == "kill" and case.strikes_work:
            self._detail("the dead bar held a lease; the server takes it back and gives the work to the next bar")
        if case.fault == "freeze" and case.strikes_work:
            self._detail("it does not know that it lost its lease, so it still sends its result")
            said = f"promise={case.id}.*  lease lost"
            self._scripts.until(
                case.duration + LEASE_LOST_S, lambda: self._has_printed(were[0], said)
            )  # the report shows whether it did

    # ── the end ──

    def _say_how_to_go_on(self) -> None:
        by_hand = "docker compose start bar" if self._case.kind == "containers" else "scripts/up.sh --processes"
        self._print(f"""
bar stays dead. To continue by hand:
  bring it back:     {by_hand}
  see the answer:    scripts/trigger.sh --id {self._case.id}    (joins the request, does not start another)
  without waiting:   curl http://127.0.0.1:{os.environ["FOO_PORT"]}/foo/{self._case.id}""")
        self._struck = []  # leave it dead

    def _report(self) -> None:
        case, caller = self._case, self._caller
        options = {
            "expect": RIGHT_ANSWER, "answer": caller.answer.text, "takes": f"{case.duration * 1_000:.0f}ms",
            "sent": caller.sent, "answered": caller.answered,
            "patience": f"{REPORT_S}s",
            "fault": case.fault, "struck": case.service, "struck-at": self._struck_at, "over-at": self._over_at,
        }  # fmt: skip
        if not self._scripts.do("report", case.id, *(f"--{name}={value}" for name, value in options.items())):
            raise Ended(1)

    def leave(self) -> None:
        """Whatever happens, leave nothing dead, frozen or cut off, and no second instance."""
        service, end = self._case.service, time.monotonic() + MENDING_S
        if self._struck:  # perhaps only some were struck, or brought back
            undone = self._case.fault.over
            while (reason := self._failure_to_mend()) and GONE not in reason and time.monotonic() < end:
                time.sleep(LOOK_S)
            problem = f"could not be {undone}: {reason}\nscripts/up.sh tries again."
            complain(f"{service} {problem if reason else f'has been {undone}.'}")
        if not self._each("remove", self._second):
            complain(f"the second {service} could not be removed; scripts/down.sh removes it.")

    def _failure_to_mend(self) -> str:
        return self._scripts.failure("at_once", self._case.kind, "mend", *self._struck).partition("\n")[0]


def main() -> int:
    case = msgspec.convert(dict(word.split("=", 1) for word in sys.argv[1:]), Case, strict=False)
    crash = Crash(case, Scripts())
    try:
        crash.play()
    except Ended as ended:
        if str(ended):
            complain(f"{case.script}: {ended}")
        return ended.status
    finally:
        crash.leave()
    return 0


if __name__ == "__main__":
    sys.exit(main())
