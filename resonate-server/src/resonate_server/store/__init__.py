"""Where rows live. A store loads what a request touches and writes what was decided, in transactions; it knows no
rules.

The contract stands here, apart from how SQLite is made to keep it (:mod:`.sqlite`). Synchronous, and used by one thread
at a time.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from resonate_server.kernel.model import (
    Changes,
    Due,
    Footprint,
    LinkFootprint,
    PutCallback,
    PutListener,
    Rows,
    Spreading,
    Task,
)
from resonate_server.protocol.messages import OwedUnblock, Unblock
from resonate_server.protocol.records import Promise, PromiseState, Schedule, TaskState
from resonate_server.protocol.requests import PromiseSearch, ScheduleSearch, Search, TaskSearch


class Snapshot(Struct, frozen=True):
    """All rows: each list ascending by id."""

    promises: list[Promise]
    tasks: list[Task]
    callbacks: list[PutCallback]
    listeners: list[PutListener]
    unblocks: list[Unblock]
    spreading: list[Spreading]


type SettledRoot = tuple[int, str]
"""Time of settlement (ms) and id: roots are looked at in this order."""

FIRST: SettledRoot = (-1, "")
"""Before all of them."""


class Dropped(Struct, frozen=True):
    """How many trees were deleted, and how many tasks, all fulfilled, with them.

    ``last``: the last root that was looked at; ``None`` if there are no further ones.
    """

    trees: int
    tasks: int
    last: SettledRoot | None = None


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


class ClockMark(Struct, frozen=True):
    """Where the server's clock stood, in ms since the epoch, at an uptime (ms) of its machine; ``boot`` names that."""

    time: int
    uptime: int
    boot: str


class StoreFailed(Exception):
    """The database cannot do what it should, now: a full disk, say. The text is for people."""


class StoreLost(StoreFailed):
    """Somebody took the database away while it was in use; its text is for people.

    What is written from now on is lost, and so may be what was written last. There is nothing to go on with.
    """


MAX_COUNTED = 10_000
"""So many tasks are counted for an :class:`Occupation`; what is more is not needed by those who look."""

MAX_TOLD_BYTES = 8 * 1_024 * 1_024
"""Of promises whose settlement listeners are told of in one transaction, unless it is a single one. The others follow
by and by."""


class Store(Protocol):
    """A transaction begins with the first write after the last one's end. All reads see what was written before.

    Rows are written whole: a :meth:`write` that raises has changed nothing.
    """

    def flush(self) -> bool:
        """Hand everything written to the database; tells whether there is something to :meth:`commit`.

        Not durable yet. An exception, :class:`StoreFailed` or another, means that only :meth:`rollback` is left.
        """

    def commit(self) -> None:
        """After :meth:`flush`: on return, what was written is durable; an exception leaves only :meth:`rollback`, and
        :class:`StoreLost` not even that.

        The one method that waits for the disk.
        """

    def rollback(self) -> None:
        """What was written since the last commit never happened."""

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """On leaving, what was written is durable, or (an exception) never happened."""
        try:
            yield
            if self.flush():
                self.commit()
        except BaseException:
            self.rollback()
            raise

    def check(self) -> None:
        """Raise if the database does not answer, :class:`StoreLost` if it is not there any more."""

    def try_to_write(self) -> None:
        """Write what no reader looks at, and as much as a request needs: the commit tells whether there is room."""

    def clock_mark(self) -> ClockMark | None:
        """The last one that was kept."""

    def put_clock_mark(self, mark: ClockMark) -> None:
        """Keep it with what is written otherwise."""

    def load(self, footprint: Footprint) -> Rows:
        """The rows that ``footprint`` names, as they stand now; without links, and payloads only as far as it says."""

    def load_links(self, rows: Rows, footprint: LinkFootprint, limit: int) -> None:
        """Add what ``footprint`` names to ``rows``: at most ``limit`` callbacks and listeners, in its order.

        Which of the promises were loaded with all of theirs, ``rows.complete`` tells. Those with listeners come with
        their payloads, as far as :data:`MAX_TOLD_BYTES` go.
        """

    def weigh(self, ids: Iterable[str]) -> int:
        """About how many bytes the promises of ``ids`` take in an answer; reads no payload."""

    def write(self, changes: Changes) -> None:
        """Write rows, as far as :class:`Changes` says that they count, and apply the link changes in their order."""

    def put_unblock(self, unblock: Unblock, now: int) -> None:
        """Keep an ``unblock`` until :meth:`drop_unblock`; one per promise and address. ``now`` in ms."""

    def drop_unblock(self, promise_id: str, address: str) -> None:
        """Forget an ``unblock`` that was delivered."""

    def drop_unblocks_before(self, time: int) -> None:
        """Forget those kept since before ``time`` (ms): whoever waited for them is gone."""

    def unblocks(self, group: str, member: str, after: int) -> Iterator[OwedUnblock]:
        """What ``member`` of ``group`` may get, from after a place on; one by one, for whoever asks stops in time.

        With empty names: what is for HTTP addresses. Nothing may be written before the last one is read.
        """

    def queued_tasks(self, group: str, limit: int) -> list[Task]:
        """Tasks that are owed to a worker of ``group``, ascending by the time of their next retry."""

    def set_aside_tasks(self, group: str, limit: int) -> list[str]:
        """Ids of tasks for ``group`` that were not claimed and wait out a pause, ascending by its end."""

    def acquired_tasks(self) -> list[str]:
        """Ids of all tasks that somebody holds a lease of."""

    def held_tasks(self, pid: str) -> list[str]:
        """Ids of the tasks that process ``pid`` holds a lease of."""

    def due(self, now: int, limit: int) -> Due:
        """At most ``limit`` promises and as many tasks and schedules whose time has come, oldest first; and as many
        settlements that are still spreading."""

    def next_due(self) -> int | None:
        """A time (ms) before which :meth:`due` has nothing, or ``None`` if it never will.

        The earliest such time, unless something that was due earlier has been done or changed since it was last asked
        for at that time.
        """

    def drop_settled_trees(self, before: int, limit: int, after: SettledRoot = FIRST) -> Dropped:
        """Look at up to ``limit`` trees whose root settled before ``before`` (ms), the oldest first, from after one
        on; delete those of which everything settled before then and nothing is owed.

        A tree is a promise without an origin, or one that is its own, together with all that name it as theirs. Only
        whole trees, because ids are idempotent only as long as their rows exist.
        """

    def id_ahead(self, search: Search, rows: int) -> str | None:
        """The id so many ``rows`` after the cursor, among those that a search looks at; ``None`` if there are fewer."""

    def give_back(self) -> bool:
        """Give the space of deleted rows back to the disk, some of it, if it is much; tells whether there may be more.

        Outside of a transaction.
        """

    def search_promises(self, search: PromiseSearch, last: str | None = None) -> Iterator[Promise]:
        """Up to ``limit + 1`` matches, ascending by id, from after the cursor on, up to ``last``; one by one."""

    def search_tasks(self, search: TaskSearch, last: str | None = None) -> Iterator[Task]:
        """Up to ``limit + 1`` matches, ascending by id, from after the cursor on, up to ``last``; one by one."""

    def search_schedules(self, search: ScheduleSearch, last: str | None = None) -> Iterator[Schedule]:
        """Up to ``limit + 1`` matches, ascending by id, from after the cursor on, up to ``last``; one by one."""

    def recent_roots(self, state: PromiseState | None, before: Place | None) -> Iterator[Promise]:
        """Roots of trees from before a place on, newest first, one by one: whoever asks stops when it is enough.

        With their params; their values need not be read.
        """

    def count_pending_roots(self, limit: int) -> int:
        """How many roots are pending; counts up to ``limit``."""

    def tree(self, root: str, after: str) -> Iterator[Branch]:
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

    def disk_use(self) -> DiskUse | None:
        """``None`` for a store in memory. Asks the file system alone, so any thread may; raises :class:`OSError`."""

    def count_tasks(self) -> Counter[TaskState]:
        """How many tasks there are in each state; reads them all."""

    def snapshot_bytes(self) -> int:
        """About how much a :meth:`snapshot` takes."""

    def snapshot(self) -> Snapshot:
        """Everything there is, for debugging and tests."""

    def reset(self) -> None:
        """Delete everything there is."""

    def backup(self) -> Path | None:
        """A copy of everything, in a new file beside the database; ``None`` for a store in memory.

        The one method for another thread: reads and writes may go on meanwhile, and the copy is as of its end.
        """

    def close(self) -> None:
        """Release files and locks; the store cannot be used afterwards."""
