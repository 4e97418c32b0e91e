"""What can be seen of a stack from outside, and when: foo's answers, what the server says of a chain, lines of logs.

Moments are wall-clock seconds (`time.time()`): the server's log lines carry the same clock, so that a moment of its own
can be compared with one that was observed here.
"""

import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from datetime import datetime
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from threading import Thread

import msgspec
from harness.server import Client
from msgspec import Struct

from bench.load import WrongAnswers

POLL_SECONDS = 0.002
"""How exactly a moment is known that has to be watched for."""
ASK_AGAIN_SECONDS = 0.01
RIGHT_ANSWER = 3
LOG_CLOCK_SECONDS = 0.001
"""The resolution of the times in the server's log."""


class TooLate(Exception):
    """The chain had gone on before the fault could hit it: the trial says nothing and is made again."""


class Spend(Struct, frozen=True, omit_defaults=True):
    """How many seconds bar is to pause or to work: the body of a request to foo."""

    pause: float = 0
    running: float = 0


def moment_when(condition: Callable[[], object], what: str, seconds: float = 30) -> float:
    """The moment at which ``condition()`` came true. Raises ``TimeoutError`` if it did not within ``seconds``."""
    deadline = time.time() + seconds
    while not condition():
        if time.time() > deadline:
            raise TimeoutError(f"not within {seconds:.0f} s: {what}")
        time.sleep(POLL_SECONDS)
    return time.time()


# ── a request to foo ──


class _Answer(Struct):
    message: int | None = None


class Call:
    """A POST /foo that waits for its answer, in a thread of its own; ``persistent``: asks again until foo is there."""

    def __init__(self, port: int, id: str, spend: Spend, *, persistent: bool = False) -> None:
        self.id = id
        self._port = port
        self._spend = spend
        self._persistent = persistent
        self._answered: Future[float] = Future()
        Thread(target=self._run, name=f"call {id}", daemon=True).start()

    @property
    def is_over(self) -> bool:
        """Whether it was answered, or its connection broke."""
        return self._answered.done()

    def answered(self, seconds: float) -> float:
        """The moment of the right answer.

        Raises :class:`WrongAnswers` for any other, ``OSError`` or ``HTTPException`` if the connection broke, and
        ``TimeoutError`` if there is none within ``seconds``.
        """
        return self._answered.result(timeout=seconds)

    def _run(self) -> None:
        try:
            self._answered.set_result(self._ask())
        except BaseException as error:
            self._answered.set_exception(error)

    def _ask(self) -> float:
        while True:
            try:
                return self._ask_once()
            except (OSError, HTTPException):
                if not self._persistent:
                    raise
            time.sleep(ASK_AGAIN_SECONDS)

    def _ask_once(self) -> float:
        connection = HTTPConnection("127.0.0.1", self._port)
        headers = {"Idempotency-Key": self.id, "Content-Type": "application/json"}
        try:
            connection.request("POST", "/foo", msgspec.json.encode(self._spend), headers)
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        at = time.time()
        if response.status != 200 or msgspec.json.decode(body, type=_Answer).message != RIGHT_ANSWER:
            raise WrongAnswers(f"{self.id}: {response.status} {body[:200].decode(errors='replace')}")
        return at


# ── what the server says ──


class _Promise(Struct, rename="camel"):
    id: str
    timeout_at: int


class _Found(Struct):
    promises: list[_Promise]


class _Task(Struct):
    state: str


def is_suspended(server: Client, task_id: str) -> bool:
    """Whether the task exists and waits: nobody holds a lease for it."""
    reply = server.call("task.get", id=task_id)
    return reply.status == 200 and msgspec.convert(reply.data["task"], _Task).state == "suspended"


def pause_end(server: Client, chain_id: str) -> float | None:
    """The moment at which the pause of a chain's bar ends; ``None`` if it has not begun."""
    tags = {"resonate:origin": chain_id, "resonate:timer": "true"}
    found = msgspec.convert(server.call("promise.search", tags=tags).data, _Found)
    return found.promises[0].timeout_at / 1_000 if found.promises else None


# ── what stands in logs ──


class _Line(Struct):
    time: datetime
    message: str


class ServerLog:
    """The log of a server that writes JSON lines."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def moment_of(self, text: str, since: float) -> float:
        """When the first line since that moment was written that contains the text. Raises ``LookupError``."""
        for raw in self._file.read_bytes().splitlines():
            with suppress(msgspec.MsgspecError):
                line = msgspec.json.decode(raw, type=_Line)
                moment = line.time.timestamp()
                if text in line.message and moment >= since - LOG_CLOCK_SECONDS:
                    return moment
        raise LookupError(f"{self._file} has no line {text!r} since {since}")
