"""Where rows live, and where it is decided what becomes of them: ``await store.decide(footprint, rule)``.

The contract stands here, apart from how SQLite is made to keep it (:mod:`.sqlite`). A store knows no rules, and who
uses it knows neither transactions nor locks.
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
    """All rows: each list ascending by id."""

    promises: list[Promise]
    tasks: list[Task]
    callbacks: list[PutCallback]
    listeners: list[PutListener]
    unblocks: list[Unblock]
    spreading: list[Spreading]


class Place(Struct, frozen=True):
    """Where a root stands in the order of creation."""

    created_at: int
    id: str


class Branch(Struct, frozen=True):
    """One promise of a tree. ``awaits``: ids, ascending, that its task waits for and that have not settled."""

    promise: Promise
    task: Task | None
    awaits: list[str]


class Occupation(Struct, frozen=True):
    """``queued``: tasks that are owed to a worker of each group; ``held``: tasks that each process holds."""

    queued: dict[str, int]
    held: dict[str, int]


class Backlog(Struct, frozen=True):
    """What waits for a group: tasks that nobody has claimed, and ``unblock`` messages that may not have been read. Each
    is counted up to :data:`MAX_COUNTED`.
    """

    tasks: int
    answers: int


class OpenTask(Struct, frozen=True):
    """A claim of a task, or a wait for one; ``group`` is empty for an HTTP address.

    ``offered_at``: when a task that nobody has ever claimed was offered first (ms); 0 for others.
    """

    id: str
    version: int
    group: str
    offered_at: int = 0


type Holding = tuple[str, str]
"""Process and task: claims are looked at in this order."""


class DiskUse(Struct, frozen=True):
    """Bytes of the database's file and of its write-ahead log, and those that are free on their disk."""

    file: int
    log: int
    free: int


class CommitAge(Struct, frozen=True):
    """How long ago the last attempt to commit began, and whether it has not ended yet."""

    seconds: float
    is_under_way: bool


class Decided(Struct, frozen=True):
    """One decision at time ``now`` (ms) on ``rows``, as they were before it.

    ``request``: what asked for it; ``None`` for what happens by itself.
    """

    now: int
    rows: Rows
    decision: Decision
    request: Request | None = None


class DecisionListener(Protocol):
    """Who is told of everything that was decided; called on the event loop, after the commit, in its order."""

    def decided(self, decided: Decided) -> None:
        """It is durable."""

    def committed(self, decisions: int, seconds: float) -> None:
        """So many have shared a commit, and so long it took to decide and to write them."""


MAX_COUNTED = 10_000
"""So many tasks are counted for an :class:`Occupation`; what is more is not needed by those who look."""

MAX_TOLD_BYTES = 8 * 1_024 * 1_024
"""Of promises whose settlement listeners are told of in one transaction, unless it is a single one. The others follow
by and by."""


class Store(Protocol):
    """Used on the event loop, between :meth:`start` and :meth:`close`.

    What is decided is one transaction: an answer is given, and a message leaves, only once it is durable; what fails
    changes nothing and sends nothing. Nothing else that is decided comes between the rows that a rule sees and their
    change.
    """

    outgoing: Outgoing
    """Large answers wait for their room in there."""
    lost: asyncio.Future[str]
    """Its result is for people: the store was taken away, and there is nothing to go on with."""
    sharing: Sharing | None
    """With other servers, which decide on the same rows; ``None`` for a store that cannot be shared."""

    def start(self, listener: DecisionListener) -> None:
        """Begin to work."""

    def beginning(self) -> AbstractAsyncContextManager[bool]:
        """Entered once it is at work: whether nobody else is. Whoever comes next begins when this is left.

        Raises :class:`ReadFailed`.
        """

    async def close(self) -> None:
        """Work off what was asked for so far, then release files and locks."""

    def decide(self, footprint: Footprint, rule: Rule) -> asyncio.Future[Answer]:
        """Load what ``footprint`` names, and what ``rule`` asks for besides; write what it decides, and its messages.

        The answer comes after the commit. Status 503 if the store failed, 500 if the rule did: nothing was changed. To
        be asked twice when rows change meanwhile, ``rule`` must be pure. What was asked first is decided first, except
        that few ids come before many, and that what is due has its own turn.
        """

    def read[T](self, query: Callable[["View"], T]) -> asyncio.Future[T]:
        """What ``query`` finds among the committed rows, in turn with what is decided. Raises :class:`ReadFailed`."""

    def browse[T](self, query: Callable[["View"], T]) -> asyncio.Future[T]:
        """The same for whoever can wait: each query should take a few milliseconds, and others go first."""

    async def until_due(self) -> None:
        """Return when there is something for a footprint with ``due``; at times also when there is not."""

    @property
    def due_at(self) -> int:
        """When something was due (ms), or is to be, that had not been done before what was decided last."""

    def delivered(self, key: UnblockKey) -> None:
        """Forget an ``unblock``, some time: sending it twice does no harm."""

    async def drop_unblocks_before(self, time: int) -> None:
        """Forget those kept since before ``time`` (ms): whoever waited for them is gone. Raises :class:`ReadFailed`."""

    def drop_settled_trees(self, before: int) -> AsyncIterator[int]:
        """Delete trees of which everything settled ``before`` (ms) and nothing is owed, in portions; of each, how many
        tasks, all fulfilled, went with it. Raises :class:`ReadFailed`.

        A tree is a promise without an origin, or one that is its own, together with all that name it as theirs. Only
        whole trees, because ids are idempotent only as long as their rows exist.
        """

    async def reset(self) -> Counter[TaskState]:
        """Delete everything there is; tells how many tasks there were in each state. Raises :class:`ReadFailed`."""

    def now(self) -> int:
        """The time of all who share the store, in ms since the epoch; it never goes back."""

    async def identity(self) -> str:
        """What tells it from all other stores; servers that share it are told the same. Raises :class:`ReadFailed`."""

    async def trouble(self) -> str:
        """Why nothing can be stored, right now, for people; empty if all is well."""

    @property
    def last_commit(self) -> CommitAge | None:
        """``None`` before the first one."""

    def disk_use(self) -> DiskUse | None:
        """``None`` for a store in memory. Raises :class:`OSError` if the file cannot be found."""

    async def backup(self) -> Path | None:
        """A copy of everything, in a new file that is the caller's to remove; ``None`` for a store in memory.

        Everything else goes on meanwhile, and the copy is as of its end. Raises what goes wrong.
        """


class View(Protocol):
    """Rows as they stand while a query runs, for those who decide nothing.

    ``now`` (ms): a promise whose deadline has passed by then is shown settled, also if that is not written down.
    """

    def load(self, footprint: Footprint) -> Rows:
        """The rows that ``footprint`` names, as they stand now; without links, and payloads only as far as it says."""

    def unblocks(self, group: str, member: str, after: int) -> Iterator[OwedUnblock]:
        """What ``member`` of ``group`` may get, from after a place on; one by one, for whoever asks stops in time.

        With empty names: what is for HTTP addresses. Nothing may be written before the last one is read.
        """

    def queued_tasks(self, group: str, limit: int) -> list[Task]:
        """Tasks that are owed to a worker of ``group``, ascending by the time of their next retry."""

    def set_aside_tasks(self, group: str, limit: int) -> list[str]:
        """Ids of tasks for ``group`` that were not claimed and wait out a pause, ascending by its end."""

    def held_tasks(self, pid: str) -> list[str]:
        """Ids of the tasks that process ``pid`` holds a lease of."""

    def id_ahead(self, search: Search, rows: int) -> str | None:
        """The id so many ``rows`` after the cursor, among those that a search looks at; ``None`` if there are fewer."""

    def search(self, search: Search, now: int, last: str | None = None) -> Iterator[Promise | Task | Schedule]:
        """Up to ``limit + 1`` matches, ascending by id, from after the cursor on, up to ``last``; one by one."""

    def recent_roots(self, state: PromiseState | None, before: Place | None, now: int) -> Iterator[Promise]:
        """Roots of trees from before a place on, newest first, one by one: whoever asks stops when it is enough. Among
        those of one state there may be internal ones of another.

        With their params; their values need not be read.
        """

    def tree(self, root: str, after: str, now: int) -> Iterator[Branch]:
        """The promises of a tree, ascending by id from after ``after`` on, one by one."""

    def occupation(self) -> Occupation:
        """Who has what to do; of up to :data:`MAX_COUNTED` tasks each."""

    def groups_with_waiting_tasks(self, limit: int) -> list[str]:
        """Names, ascending."""

    def backlog(self, group: str) -> Backlog:
        """How much waits for it."""

    def waiting_tasks(self, group: str, limit: int) -> list[OpenTask]:
        """Those of a group that nobody has claimed, as many of them as are queued, and as many that are set aside."""

    def claims(self, after: Holding, limit: int) -> list[tuple[Holding, OpenTask]]:
        """Tasks that somebody holds, from after a place on."""

    def count_tasks(self) -> Counter[TaskState]:
        """How many tasks there are in each state; reads them all."""

    def snapshot_bytes(self) -> int:
        """About how much a :meth:`snapshot` takes."""

    def snapshot(self) -> Snapshot:
        """Everything there is, for debugging and tests."""
