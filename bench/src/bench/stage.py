"""A stack on which faults happen, and what can be seen of it from outside, and when.

Moments are wall-clock seconds (`time.time()`): the server's log lines carry the same clock, so that a moment of its own
can be compared with one that was observed here.
"""

import os
import signal
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from http.client import HTTPConnection, HTTPException
from itertools import count
from pathlib import Path
from typing import Self, override

import msgspec
import psutil
from harness.basics import wait_until
from harness.process import Process
from harness.services import runs
from harness.stack import Stack
from msgspec import Struct

from bench.load import RIGHT_ANSWER, WrongAnswers
from bench.stack import SERVER, OwnServer

POLL_SECONDS = 0.002
"""How exactly a moment is known that has to be watched for."""
LOG_CLOCK_SECONDS = 0.001
"""The resolution of the times in the server's log."""
ANSWER_SECONDS = 60.0
"""Beyond the lease: an answer that takes longer is counted as lost."""


class TooLate(Exception):
    """The chain had gone on before the fault could hit it: the trial says nothing and is made again."""


class Timing(Struct, frozen=True):
    """How soon the death of a worker is noticed; ``server``: settings of the server, as environment variables."""

    name: str
    lease_seconds: int
    server: Mapping[str, str]
    kill_window_seconds: float
    """A worker is killed so long after it has begun its work, at most."""


class FooRequest(Struct, frozen=True):
    """A request to foo. ``answered``: the moment of the right answer, as soon as there is one."""

    id: str
    body: Mapping[str, float]
    answered: Future[float]


def _ask(port: int, id: str, body: Mapping[str, float], patience_s: float) -> float:
    """The moment of the right answer; asks again for so long if nobody is there.

    Raises :class:`WrongAnswers`, and ``OSError`` or ``HTTPException`` if nobody was there at last.
    """
    deadline = time.time() + patience_s
    connection = HTTPConnection("127.0.0.1", port)
    headers = {"Idempotency-Key": id, "Content-Type": "application/json"}
    while True:
        try:
            connection.request("POST", "/foo", msgspec.json.encode(body), headers)
            response = connection.getresponse()
            answer = response.read()
            break
        except (OSError, HTTPException):
            connection.close()
            if time.time() > deadline:
                raise
        time.sleep(POLL_SECONDS)
    at = time.time()
    connection.close()
    if response.status != 200 or msgspec.json.decode(answer).get("message") != RIGHT_ANSWER:
        raise WrongAnswers(f"{id}: {response.status} {answer[:200].decode(errors='replace')}")
    return at


class Stage(Stack):
    """``standby``: a second ``bar`` or ``baz``, to take over from the first; ``baz``: the program that is baz."""

    def __init__(self, folder: Path, timing: Timing, standby: str = "", baz: str = "baz") -> None:
        self.own_server = OwnServer(folder, {"RESONATE_LOG_FORMAT": "json", **timing.server})
        super().__init__(folder, self.own_server, {"LEASE_SECONDS": str(timing.lease_seconds)})
        self.timing = timing
        self._standby = standby
        self._baz = baz
        self._numbers = count(1)
        self._callers = ThreadPoolExecutor()

    @override
    def start(self) -> Self:
        super().start()
        if self._standby:
            second = f"{self._standby}-2"
            self.launch(second, self._standby)
            self.wait_until_connected(second)
        return self

    @override
    def launch(self, name: str, *words: str) -> Process:
        return super().launch(name, *(self._baz if word == "baz" else word for word in words))

    # ── chains ──

    def call(self, **body: float) -> FooRequest:
        """Send a request to foo; its id is new."""
        return self._send(f"{self.folder.name}-{next(self._numbers)}", body, patience_s=0)

    def ask_again(self, call: FooRequest) -> FooRequest:
        """Send the same request once more, again and again until foo is there."""
        return self._send(call.id, call.body, ANSWER_SECONDS)

    def _send(self, id: str, body: Mapping[str, float], patience_s: float) -> FooRequest:
        return FooRequest(id, body, self._callers.submit(_ask, self.foo_port, id, body, patience_s))

    def answered(self, call: FooRequest, runs_of_baz: int) -> float:
        """The moment of its answer. Raises :class:`WrongAnswers` if it is wrong or missing, or for baz's other runs."""
        try:
            at = call.answered.result(self.timing.lease_seconds + ANSWER_SECONDS)
        except TimeoutError:
            raise WrongAnswers(f"{call.id} was never answered; see {self.folder}") from None
        seen = sum(runs(process, "baz", f"{call.id}:") for process in self.programs.values())
        if seen != runs_of_baz:
            raise WrongAnswers(f"{call.id}: baz ran {seen} times instead of {runs_of_baz}; see {self.folder}")
        return at

    def _wait_for(self, call: FooRequest, condition: Callable[[], object], what: str) -> None:
        """Raises :class:`TooLate` if the call is over before the condition is true, or what broke it."""
        moment_when(lambda: call.answered.done() or condition(), what)
        if call.answered.done():
            call.answered.result()
            raise TooLate

    def pause_end(self, call: FooRequest) -> float:
        """When the pause of its bar ends, as soon as bar has begun it and nobody holds a lease for it."""
        server, tags = self.own_server.client(), {"resonate:origin": call.id, "resonate:timer": "true"}

        seen: list[dict[str, float]] = []

        def sees_timer() -> bool:
            """It may be over before anybody looks again."""
            task = server.call("task.get", id=f"{call.id}:1")
            if task.status == 200 and task.data["task"]["state"] == "suspended":
                seen.extend(server.call("promise.search", tags=tags).data["promises"])
            return bool(seen)

        self._wait_for(call, sees_timer, "bar is suspended")
        return seen[0]["timeoutAt"] / 1_000

    def who_runs(self, function: str, call: FooRequest, promise_id: str) -> str:
        """The name of the program that runs the function for a promise of the call, as soon as one does."""

        def runners() -> list[str]:
            return [name for name, process in self.programs.items() if runs(process, function, promise_id)]

        self._wait_for(call, runners, f"{function} runs for {promise_id}")
        return runners()[0]

    # ── faults ──

    def kill_family(self, name: str) -> float:
        """SIGKILL to a program and its children; the moment of it."""
        moment, program = time.time(), self._program(name)
        for child in psutil.Process(program.pid).children(recursive=True):
            with suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)
        program.kill()
        return moment

    def freeze(self, name: str) -> float:
        """SIGSTOP; the moment of it."""
        moment = time.time()
        self._program(name).freeze()
        return moment

    def start_again(self, name: str) -> float:
        """Waiting for nothing; the moment of it."""
        moment = time.time()
        self._program(name).launch()
        return moment

    def restore(self, name: str) -> None:
        """End a program, and start it again; return when it is connected."""
        before = self.connections(name)
        self._program(name).kill()
        self.start_again(name)
        self.wait_until_connected(name, before)

    def _program(self, name: str) -> Process:
        return self.own_server if name == SERVER else self.programs[name]


def moment_when(condition: Callable[[], object], what: str) -> float:
    """The moment at which ``condition()`` came true."""
    wait_until(condition, what, every=POLL_SECONDS)
    return time.time()


def moment_of(log: Path, text: str, since: float) -> float:
    """When a server wrote the first line (JSON) since that moment that contains the text. Raises ``LookupError``."""
    for line in log.read_bytes().splitlines():
        if text.encode() in line:
            moment = datetime.fromisoformat(msgspec.json.decode(line)["time"]).timestamp()
            if moment >= since - LOG_CLOCK_SECONDS:
                return moment
    raise LookupError(f"{log} has no line {text!r} since {since}")
