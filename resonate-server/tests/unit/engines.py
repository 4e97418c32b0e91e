"""The surroundings of the engine in tests: a clock, a store that fails, an outbound that takes notes."""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from unit.driver import CORR_ID, START
from unit.rows import transaction

from resonate_server.engine import Engine, Outbound
from resonate_server.kernel.model import Changes, Rules, Task
from resonate_server.metrics import Metrics
from resonate_server.protocol.answers import Answer
from resonate_server.protocol.envelope import CheckedRequest
from resonate_server.protocol.messages import Execute, Message, OwedUnblock, Unblock
from resonate_server.protocol.requests import Request
from resonate_server.store import DecisionListener
from resonate_server.store.errors import StoreFailed
from resonate_server.store.sqlite import IN_MEMORY, Database, SQLiteStore
from resonate_server.store.sqlite.clock import ClockMark
from resonate_server.store.sqlite.store import Job

RETRY_MS = 50
"""Short, because timers run in real time; they have no effect while the hand-moved clock stands still."""

PATIENCE_S = 60.0
"""How long a test waits before it fails for something that should happen at once."""

RULES = Rules(retry_timeout_ms=RETRY_MS)
SERVER_URL = "http://localhost:8001"


class StoreDown(StoreFailed):
    """Raised by a broken store."""


class Mistake(Exception):
    """Raised by code with a bug."""


class WatchedDatabase(Database):
    """``down``: every commit and check fails. ``poisoned``: writing this promise or its task fails. ``gate``: no commit
    ends while it is closed. ``refill_fails``: the number of refills that fail. ``is_timeless``: asking for the next
    deadline fails."""

    def __init__(self) -> None:
        super().__init__(IN_MEMORY)
        self.down = False
        self.poisoned: str | None = None
        self.refill_fails = 0
        self.is_timeless = False
        self.commits = 0
        self.attempts = 0
        self.closed = False
        self.gate = threading.Event()
        self.gate.set()

    @property
    def log_to_sync(self) -> int:
        """No file: the kernel cannot sync it, so a thread commits."""
        return -1

    def commit(self) -> None:
        self.gate.wait(PATIENCE_S)
        self.check()
        super().commit()
        self.commits += 1

    def check(self) -> None:
        self.attempts += 1
        if self.down:
            raise StoreDown

    def write(self, changes: Changes) -> None:
        if self.poisoned in changes.promises or self.poisoned in changes.tasks:
            raise Mistake
        super().write(changes)

    def queued_tasks(self, group: str, limit: int) -> list[Task]:
        if self.refill_fails:
            self.refill_fails -= 1
            raise StoreDown
        return super().queued_tasks(group, limit)

    def next_due(self) -> int | None:
        if self.is_timeless:
            raise StoreDown
        return super().next_due()

    def close(self) -> None:
        self.closed = True


class InstantStore(SQLiteStore):
    """A store that does everything at once, each in its own transaction, and nothing by itself."""

    def start(self, listener: DecisionListener) -> None:
        self._listener = listener
        self._loop = asyncio.get_running_loop()

    def _put(self, _: deque[Job], job: Job) -> asyncio.Future[Any]:
        with transaction(self.database):
            outcome = job.work(self.now())
        self._publish([job], [outcome])
        assert job.done is not None
        return job.done

    async def until_due(self) -> None:
        raise asyncio.CancelledError


class HandClock:
    """A clock that reads ``now`` (ms)."""

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now

    def __call__(self) -> int:
        return self._now()

    def mark(self) -> ClockMark:
        return ClockMark(time=self._now(), uptime=0, boot="")


class Notes:
    """An outbound that records its calls in order: (what, id)."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        self.messages: list[Message] = []
        self.silent_workers: set[str] = set()
        self.refills: list[tuple[str, list[Execute], bool]] = []
        self.given: list[tuple[str, str, int, list[OwedUnblock], bool]] = []
        self.at_work: list[str] = []
        self.announced: list[str] = []
        self.refreshes = 0
        self.commits_at_first_message: int | None = None
        self.store: WatchedDatabase | None = None

    @property
    def unblocks(self) -> list[Unblock]:
        return [message for message in self.messages if isinstance(message, Unblock)]

    def send(self, message: Message) -> None:
        if self.store is not None and self.commits_at_first_message is None:
            self.commits_at_first_message = self.store.commits
        self.messages.append(message)
        if isinstance(message, Unblock):
            self.seen.append(("unblock", message.promise.id))
        else:
            self.seen.append(("execute", message.task_id))

    def withdraw(self, task_id: str, version: int = 0) -> None:  # noqa: ARG002
        self.seen.append(("withdraw", task_id))

    def settled(self, ids: list[str]) -> None:
        self.announced += ids

    def refill(self, group: str, messages: list[Execute], complete: bool) -> None:
        self.refills.append((group, messages, complete))

    def give(self, group: str, pid: str, after: int, owed: list[OwedUnblock], complete: bool) -> None:
        self.given.append((group, pid, after, owed, complete))

    def is_at_work(self, _: str, pid: str) -> None:
        self.at_work.append(pid)

    def reset(self) -> None:
        self.messages.clear()
        self.seen.append(("reset", ""))

    def refresh(self) -> None:
        self.refreshes += 1

    def fell_silent(self, _: str, pid: str) -> None:
        self.silent_workers.add(pid)

    def heard_from(self, pid: str, _: str = "") -> None:
        self.silent_workers.discard(pid)


class Bench:
    """A running engine on ``store``; ``now`` (ms) moves by hand."""

    def __init__(self, store: WatchedDatabase | None = None, rules: Rules = RULES, keep_settled_ms: int = 0) -> None:
        self.store = store or WatchedDatabase()
        self._now = START
        self.metrics = Metrics()
        self.seam = SQLiteStore(self.store, HandClock(lambda: self.now))
        self.engine = Engine(self.seam, rules, self.metrics, SERVER_URL, keep_settled_ms)
        self.notes = Notes()

    @property
    def now(self) -> int:
        return self._now

    @now.setter
    def now(self, now: int) -> None:
        self._now = now
        self.seam._alarm._is_earlier.set()  # Otherwise the store would read the clock again within a second.

    @asynccontextmanager
    async def at_work(self, outbound: Outbound | None = None) -> AsyncIterator["Bench"]:
        """Start the engine on entry and stop it on exit; messages go to ``outbound``, or else to the notes."""
        self.engine.start(outbound or self.notes)
        try:
            yield self
        finally:
            self.store.gate.set()
            await self.engine.stop()

    async def call(self, *requests: Request, debug_time: int | None = None) -> Answer:
        """Make the requests one after another, and return the last answer."""
        async with asyncio.timeout(PATIENCE_S):
            for request in requests:
                asked = CheckedRequest(corr_id=CORR_ID, request=request, debug_time=debug_time)
                answer = await self.engine.submit(asked)
        return answer

    def metric(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)

    async def settle_down(self) -> None:
        """Wait until everything handed to the engine so far, and its follow-up work, is done and published."""
        async with asyncio.timeout(PATIENCE_S):
            for _ in range(3):
                await self.seam.trouble()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                await asyncio.sleep(0.005)
