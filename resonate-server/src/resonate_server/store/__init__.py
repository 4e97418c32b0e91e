"""The contract of a store, which keeps all rows and applies rules to them: ``await store.decide(footprint, rule)``.

The implementations are in :mod:`.sqlite` and :mod:`.postgres`. A store knows no rules, and its callers know neither
transactions nor locks.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from resonate_server.kernel.model import (
    Decision,
    Footprint,
    PutCallback,
    PutListener,
    Rows,
    Rule,
    Spreading,
    Task,
)
from resonate_server.protocol.answers import Answer
from resonate_server.protocol.messages import OwedUnblock, Unblock, UnblockKey
from resonate_server.protocol.records import Promise, PromiseState, Schedule, TaskState
from resonate_server.protocol.requests import Request, Search
from resonate_server.store.outgoing import Outgoing
from resonate_server.store.sharing import Sharing


class Snapshot(Struct, frozen=True):
    """All rows; each list is in ascending order of ids."""

    promises: list[Promise]
    tasks: list[Task]
    callbacks: list[PutCallback]
    listeners: list[PutListener]
    unblocks: list[Unblock]
    spreading: list[Spreading]


class Place(Struct, frozen=True):
    """The position of a root in the order of creation."""

    created_at: int
    id: str


class Branch(Struct, frozen=True):
    """One promise of a tree. ``awaits``: ids of the unsettled promises that its task waits for, ascending."""

    promise: Promise
    task: Task | None
    awaits: list[str]


class Occupation(Struct, frozen=True):
    """Numbers of tasks. ``queued``: waiting for a worker, by group; ``held``: held under a lease, by process."""

    queued: dict[str, int]
    held: dict[str, int]


class Backlog(Struct, frozen=True):
    """What waits for a group: unclaimed tasks, and ``unblock`` messages that may still be unread. Each is counted up to
    :data:`MAX_COUNTED`.
    """

    tasks: int
    answers: int


class OpenTask(Struct, frozen=True):
    """A task that is claimed or waits to be; ``group`` is empty for an HTTP address.

    ``offered_at``: when a task that has never been claimed was first offered (ms); 0 for others.
    """

    id: str
    version: int
    group: str
    offered_at: int = 0


type Holding = tuple[str, str]
"""Process and task; claims are listed in this order."""


type SettledRoot = tuple[int, str]
"""Time of settlement (ms) and id; the roots of settled trees are deleted in this order, in portions."""

FIRST: SettledRoot = (-1, "")
"""Comes before all roots."""


class Dropped(Struct, frozen=True):
    """``tasks``: how many were deleted with their trees; ``last``: the last root visited, ``None`` if none follow."""

    tasks: int
    last: SettledRoot | None


class DiskUse(Struct, frozen=True):
    """Bytes of the database file, of its write-ahead log, and free on their disk."""

    file: int
    log: int
    free: int


class CommitAge(Struct, frozen=True):
    """How long ago the last commit attempt began, and whether it is still under way. ``trouble``: why the latest
    attempt to store something has failed, for people; empty if it has not."""

    seconds: float
    is_under_way: bool
    trouble: str = ""


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


MAX_COUNTED = 10_000
"""Counting for an :class:`Occupation` stops at this many tasks; viewers need no more."""

MAX_TOLD_BYTES = 8 * 1_024 * 1_024
"""Limit on the promises sent to listeners in one transaction; a single promise may exceed it. The rest follow later."""


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

    def read[T](self, query: Callable[["View"], T]) -> asyncio.Future[T]:
        """Run ``query`` on the committed rows, in turn with decisions. Raises :class:`ReadFailed`."""

    def browse[T](self, query: Callable[["View"], T]) -> asyncio.Future[T]:
        """Like :meth:`read`, for callers that can wait: a query should take a few milliseconds, and others go first."""

    async def until_due(self) -> None:
        """Return when a footprint with ``due`` would load something; may also return when it would not."""

    @property
    def due_at(self) -> int:
        """The time (ms) of the earliest work that was due, or will be, and was not done before the latest decision."""

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

    def disk_use(self) -> DiskUse | None:
        """``None`` for a store in memory. Raises :class:`OSError` if the file cannot be found."""

    async def backup(self) -> Path | None:
        """Copy everything to a new file, which the caller removes; return ``None`` for a store in memory.

        Other work continues meanwhile; the copy shows the state at its end. Raises whatever goes wrong.
        """


class View(Protocol):
    """Read-only access to the rows while a query runs.

    ``now`` (ms): a promise whose deadline has passed by then is shown as settled, even if that is not stored yet.
    """

    def load(self, footprint: Footprint) -> Rows:
        """Return the rows that ``footprint`` names, as they are now; no links, and only the payloads it asks for."""

    def unblocks(self, group: str, member: str, after: int) -> Iterator[OwedUnblock]:
        """Yield what ``member`` of ``group`` may get, from after the place ``after`` on; the caller may stop early.

        With empty names, yield what is for HTTP addresses. Nothing may be written before the iteration ends.
        """

    def queued_tasks(self, group: str, limit: int) -> list[Task]:
        """Return tasks queued for a worker of ``group``, ordered by the time of their next retry."""

    def set_aside_tasks(self, group: str, limit: int) -> list[str]:
        """Return ids of tasks for ``group`` that are paused because nobody claimed them, ordered by end of pause."""

    def held_tasks(self, pid: str) -> list[str]:
        """Return ids of the tasks that process ``pid`` holds a lease on."""

    def id_ahead(self, search: Search, rows: int) -> str | None:
        """Return the id ``rows`` rows after the cursor among those that a search scans; ``None`` if there are fewer."""

    def search(self, search: Search, now: int, last: str | None = None) -> Iterator[Promise | Task | Schedule]:
        """Yield up to ``limit + 1`` matches, ascending by id, from after the cursor up to ``last``."""

    def recent_roots(self, state: PromiseState | None, before: Place | None, now: int) -> Iterator[Promise]:
        """Yield roots of trees from before ``before`` on, newest first; the caller may stop early. Among those of one
        state there may be internal ones of another.

        They have their params; their values need not be read.
        """

    def tree(self, root: str, after: str, now: int) -> Iterator[Branch]:
        """Yield the promises of a tree, ascending by id, from after ``after`` on."""

    def occupation(self) -> Occupation:
        """Count queued and held tasks, up to :data:`MAX_COUNTED` of each."""

    def groups_with_waiting_tasks(self, limit: int) -> list[str]:
        """Return names, ascending."""

    def backlog(self, group: str) -> Backlog:
        """Count what waits for ``group``."""

    def waiting_tasks(self, group: str, limit: int) -> list[OpenTask]:
        """Return unclaimed tasks of ``group``: up to ``limit`` that are queued, and as many that are set aside."""

    def claims(self, after: Holding, limit: int) -> list[tuple[Holding, OpenTask]]:
        """Return claimed tasks, from after ``after`` on."""

    def count_tasks(self) -> Counter[TaskState]:
        """Count the tasks in each state; reads them all."""

    def snapshot_bytes(self) -> int:
        """Estimate the size of a :meth:`snapshot`."""

    def snapshot(self) -> Snapshot:
        """Return everything, for debugging and tests."""
