"""A stack on which faults happen, and what can be seen of it from outside, and when.

Moments are wall-clock seconds (`time.time()`), as in the programs' logs, so that logged moments can be compared with
those observed here.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from http.client import HTTPException
from itertools import count
from pathlib import Path
from typing import Literal, Self, override
from urllib.parse import urlsplit

from harness.basics import wait_until
from harness.process import Process
from harness.server import Client
from harness.services import CONNECTED
from harness.stack import Stack
from harness.wire import Wire
from msgspec import Struct

from bench.load import RIGHT_ANSWER, WrongAnswers
from bench.stack import SERVER, OtherServer, OwnServer

POLL_SECONDS = 0.002
"""How precisely a moment is known that has to be polled for."""
LOG_CLOCK_SECONDS = 0.001
"""The resolution of the times in the programs' logs."""
LEASE_SECONDS = 10
ONCE = {"baz": 1, "work": 0}
"""Runs in a chain without work, if no fault hits a function at work."""
ANSWER_SECONDS = 60.0
"""Beyond the lease: an answer that takes longer counts as lost."""


class TooLate(Exception):
    """The chain continued before the fault could hit it: the trial says nothing and is repeated."""


class Run(Struct, frozen=True):
    worker: str
    promise: str
    at: float


class FooRequest(Struct, frozen=True):
    """A request to foo. ``answered``: the moment of the right answer, as soon as there is one."""

    id: str
    answered: Future[float]


class Stage(Stack):
    """A stack on a server of its own, or on one that runs already.

    ``bars``: how many processes of ``module``, named bar, bar-2, ...; each runs ``places`` tasks at a time. ``wired``:
    each has a wire of its own to the server, which can be cut.
    """

    def __init__(
        self,
        folder: Path,
        server: OwnServer | OtherServer,
        bars: int = 1,
        module: str = "bar",
        places: int = 64,
        *,
        wired: bool = False,
    ) -> None:
        super().__init__(folder, server, {"LEASE_SECONDS": str(LEASE_SECONDS), "MAX_TASKS": str(places)})
        self._server, self._bars, self._module, self._wired = server, bars, module, wired
        self._wires: dict[str, Wire] = {}
        self._is_closed = False
        self._numbers = count(1)
        self._callers = ThreadPoolExecutor()

    @override
    def start(self) -> Self:
        super().start()
        for _ in range(1, self._bars):
            self.begin("bar")
        for name in self.programs:
            self.wait_until_connected(name)
        return self

    @override
    def launch(self, name: str, *words: str, **env: str) -> Process:
        return super().launch(name, *(self._module if word == "bar" else word for word in words), **env)

    @override
    def env_of(self, name: str) -> Mapping[str, str]:
        env = super().env_of(name)
        if not (self._wired and name.startswith("bar")):
            return env
        self._wires[name] = Wire(self._server.url).open()
        return {**env, "RESONATE_URL": self._wires[name].url}

    @override
    def close(self) -> None:
        self._is_closed = True
        super().close()
        for wire in self._wires.values():
            wire.close()

    def client(self) -> Client:
        address = urlsplit(self._server.url)
        return Client(address.port or 80, host=address.hostname or "", token=self._server.token)

    def is_server_ready(self) -> bool:
        return isinstance(self._server, OwnServer) and self._server.is_ready()

    # ── chains ──

    def call(self, **body: float) -> FooRequest:
        """Send a request with a new id to foo."""
        id = f"{self.folder.name}-{next(self._numbers)}"
        return FooRequest(id, self._callers.submit(self._ask, id, body))

    def _ask(self, id: str, body: Mapping[str, float]) -> float:
        """Return the moment of the right answer. While foo is not there, ask again, like any client.

        Raises :class:`WrongAnswers`, and ``OSError`` or ``HTTPException`` once the stage is closed.
        """
        while True:
            try:
                reply, at = self.post(body, key=id), time.time()
            except (OSError, HTTPException):
                if self._is_closed:
                    raise
                time.sleep(POLL_SECONDS)
            else:
                if reply.status != 200 or reply.json.get("message") != RIGHT_ANSWER:
                    raise WrongAnswers(f"{id}: {reply.status} {reply.text[:200]}")
                return at

    def answered(self, call: FooRequest, runs: Mapping[str, int] = ONCE) -> float:
        """Return the moment of its answer.

        Raises :class:`WrongAnswers` if it is wrong or missing, or if a function ran more often than ``runs`` says, and
        :class:`TooLate` if one ran less often: it was done before the fault could hit it.
        """
        try:
            at = call.answered.result(LEASE_SECONDS + ANSWER_SECONDS)
        except TimeoutError:
            raise WrongAnswers(f"{call.id} was never answered; see {self.folder}") from None
        for function, wanted in runs.items():
            if (seen := len(self.runs(function, f"{call.id}:"))) > wanted:
                raise WrongAnswers(f"{call.id}: {function} ran {seen} times instead of {wanted}; see {self.folder}")
            if seen < wanted:
                raise TooLate
        return at

    def _first[Seen](self, call: FooRequest, look: Callable[[], list[Seen]], what: str) -> Seen:
        """Return the first that is seen. Raises :class:`TooLate` if the call is over before, or what ended it."""
        seen: list[Seen] = []

        def is_over() -> bool:
            seen.extend(look())
            return bool(seen) or call.answered.done()

        wait_until(is_over, what, every=POLL_SECONDS)
        if not seen:
            call.answered.result()
            raise TooLate
        return seen[0]

    def pause_end(self, call: FooRequest) -> float:
        """Return when the pause of its bar ends, once bar has begun it and nobody holds a lease for it."""
        server, tags = self.client(), {"resonate:origin": call.id, "resonate:timer": "true"}

        def timers() -> list[dict[str, float]]:
            task = server.call("task.get", id=f"{call.id}:1")
            is_suspended = task.status == 200 and task.data["task"]["state"] == "suspended"
            return server.call("promise.search", tags=tags).data["promises"] if is_suspended else []

        return self._first(call, timers, "bar is suspended")["timeoutAt"] / 1_000

    def who_works(self, call: FooRequest, besides: Collection[str]) -> str:
        """Return the name of the bar that works for the call, once it is not one of these."""

        def workers() -> list[str]:
            return [run.worker for run in self.runs("work", f"{call.id}:") if run.worker not in besides]

        return self._first(call, workers, f"bar works for {call.id}")

    def runs(self, function: str, promises: str) -> list[Run]:
        """Return the function's runs in all programs, for promises whose ids begin with ``promises``."""
        marker = f"running function {function}  promise={promises}"
        return [
            Run(name, text.split()[3].removeprefix("promise="), at)
            for name in self.programs
            for at, text in self._lines(name, marker)
        ]

    def connected_at(self, name: str, since: float) -> float:
        """Return when the program first said so since that moment."""
        return next(at for at, _ in self._lines(name, CONNECTED) if at >= since - LOG_CLOCK_SECONDS)

    def _lines(self, name: str, beginning: str) -> Iterator[tuple[float, str]]:
        """Yield the lines of a program's log with that beginning, each with its moment."""
        for line in self.programs[name].output().splitlines():
            time, _, text = line.partition(" ")
            if text.startswith(beginning):
                yield datetime.fromisoformat(time).timestamp(), text

    # ── faults ──

    def strike(self, name: str, fault: Literal["kill", "freeze", "cut"] = "kill") -> float:
        """Strike a program and its children, or cut its wire; return the moment."""
        moment = time.time()
        match fault:
            case "kill":
                self._program(name).kill()
            case "freeze":
                self._program(name).freeze()
            case "cut":
                self._wires[name].cut()
        return moment

    def start_again(self, name: str) -> float:
        """Start a program without waiting for it; return the moment."""
        moment = time.time()
        self._program(name).launch()
        return moment

    def restore(self, name: str) -> None:
        """End a program and start it again; return once it is connected."""
        before = self.connections(name)
        self._program(name).kill()
        if name in self._wires:
            self._wires[name].mend()
        self.start_again(name)
        self.wait_until_connected(name, before)

    def _program(self, name: str) -> Process:
        return self._server if name == SERVER and isinstance(self._server, OwnServer) else self.programs[name]


def moment_when(condition: Callable[[], object], what: str) -> float:
    """Return the moment at which ``condition()`` came true."""
    wait_until(condition, what, every=POLL_SECONDS)
    return time.time()
