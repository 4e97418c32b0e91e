"""The contract of a store, which keeps all rows and applies rules to them: ``await store.decide(footprint, rule)``.

The implementations are in :mod:`.sqlite` and :mod:`.postgres`; :mod:`.view` has the queries. A store knows no rules,
and its callers know neither transactions nor locks.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from resonate_server.kernel.model import Decision, Footprint, Rows, Rule
from resonate_server.protocol.answers import Answer
from resonate_server.protocol.messages import UnblockKey
from resonate_server.protocol.records import TaskState
from resonate_server.protocol.requests import Request
from resonate_server.store.alarm import Alarm
from resonate_server.store.health import CommitAge, StoreHealth
from resonate_server.store.outgoing import Outgoing
from resonate_server.store.sharing import Sharing
from resonate_server.store.view import View


class DiskUse(Struct, frozen=True):
    """Bytes of the database file, of its write-ahead log, and free on their disk."""

    file: int
    log: int
    free: int


class Decided(Struct, frozen=True, gc=False):
    """A decision made at ``now`` (ms) on ``rows``, which are as they were before it.

    ``request``: what caused it; ``None`` if the server acted by itself.
    """

    now: int
    rows: Rows
    decision: Decision
    request: Request | None = None


class DecisionListener(Protocol):
    """Hears of every decision. Called on the event loop, after the commit, in commit order."""

    def decided(self, decided: Decided) -> None:
        """A decision is durable."""

    def committed(self, decisions: int, seconds: float) -> None:
        """``decisions`` shared a commit; deciding and writing them took ``seconds``."""


class Store(Protocol):
    """Used on the event loop, between :meth:`start` and :meth:`close`.

    A decision is atomic: its answer is given, and its messages leave, only once it is durable; one that fails changes
    nothing and sends nothing. No other decision comes between reading the rows that a rule sees and changing them.
    """

    outgoing: Outgoing
    """The budget that large answers wait for."""
    lost: asyncio.Future[str]
    """Done once the store was taken away and the server cannot continue; the result says why, for people."""
    sharing: Sharing | None
    """The link to other servers that decide on the same rows; ``None`` for a store that cannot be shared."""
    due_at: int
    """The time (ms) of the earliest work that was due, or will be, and was not done before the latest decision."""
    _alarm: Alarm
    _health: StoreHealth

    def start(self, listener: DecisionListener) -> None:
        """Start work; ``listener`` hears of every decision."""

    def beginning(self) -> AbstractAsyncContextManager[bool]:
        """Enter once the store is at work, and yield whether no other server is. A later server waits until exit.

        Raises :class:`ReadFailed`.
        """

    async def close(self) -> None:
        """Finish pending work, then release files and locks."""

    def decide(self, footprint: Footprint, rule: Rule) -> asyncio.Future[Answer]:
        """Load what ``footprint`` names and whatever else ``rule`` asks for; write its decision and its messages.

        The answer comes after the commit. Its status is 503 if the store failed and 500 if the rule did; then nothing
        has changed, unless the store is :attr:`lost`. ``rule`` must be pure, because it is asked again when rows change
        meanwhile. Decisions are made in the order of the calls, except that few ids go before many, and due work has a
        queue of its own.
        """

    def read[T](self, query: Callable[[View], T]) -> asyncio.Future[T]:
        """Run ``query`` on the committed rows, in turn with decisions. Raises :class:`ReadFailed`."""

    def browse[T](self, query: Callable[[View], T]) -> asyncio.Future[T]:
        """Like :meth:`read`, for callers that can wait: a query should take a few milliseconds, and others go first."""

    async def until_due(self) -> None:
        """Return when a footprint with ``due`` would load something; may also return when it would not."""
        await self._alarm.rings()

    def delivered(self, key: UnblockKey) -> None:
        """Forget an ``unblock`` eventually; sending it twice does no harm."""

    async def drop_unblocks_before(self, time: int) -> None:
        """Forget ``unblock`` messages kept since before ``time`` (ms): their recipients are gone.

        Raises :class:`ReadFailed`.
        """

    def drop_settled_trees(self, before: int) -> AsyncIterator[int]:
        """Delete, in portions, trees that settled completely ``before`` (ms) and owe no message. Yield how many tasks,
        all fulfilled, went with each portion. Raises :class:`ReadFailed`.

        A tree is a promise that has no origin or is its own, and all promises that name it as theirs. Only whole trees
        are deleted, because ids are idempotent only as long as their rows exist.
        """

    async def reset(self) -> Counter[TaskState]:
        """Delete everything; return how many tasks there were in each state. Raises :class:`ReadFailed`."""

    def now(self) -> int:
        """Return the time of all servers that share the store, in ms since the epoch; it never goes back."""

    async def identity(self) -> str:
        """Return a text unique to this store; servers that share it get the same one. Raises :class:`ReadFailed`."""

    async def trouble(self) -> str:
        """Return why nothing can be stored right now, for people; empty if all is well."""

    @property
    def last_commit(self) -> CommitAge | None:
        """``None`` before the first one."""
        return self._health.commit

    def disk_use(self) -> DiskUse | None:
        """``None`` for a store in memory. Raises :class:`OSError` if the file cannot be found."""

    async def backup(self) -> Path | None:
        """Copy everything to a new file, which the caller removes; return ``None`` for a store in memory.

        Other work continues meanwhile; the copy shows the state at its end. Raises whatever goes wrong.
        """
