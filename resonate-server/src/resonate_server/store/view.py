"""The queries of a store. Both databases run the same ones, in a common dialect: see :mod:`.shared_sql`."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from types import ModuleType
from typing import Any

from resonate_server.kernel.model import Footprint, PutCallback, PutListener, Rows, Spreading, Task
from resonate_server.kernel.settlement import projected
from resonate_server.protocol.messages import OwedUnblock, Unblock
from resonate_server.protocol.records import Promise, PromiseState, Schedule, Tags, TaskState
from resonate_server.protocol.requests import PromiseSearch, ScheduleSearch, Search, TaskSearch
from resonate_server.store import rows, shared_sql
from resonate_server.store.found import (
    MAX_COUNTED,
    Backlog,
    Branch,
    Holding,
    Occupation,
    OpenTask,
    Place,
    Snapshot,
)
from resonate_server.store.rows import Row

PORTION = 100
"""Rows that are fetched at once when it is not known how many are wanted."""

PORTION_BYTES = 256 * 1_024
"""Bytes of payloads in the rows that are fetched at once, unless it is a single row."""

type Measured = tuple[str, int]
"""An id, and the bytes of its payloads."""


class View(ABC):
    """Read-only access to the rows while a query runs. Nothing may be written before the iteration over a result ends.

    ``now`` (ms): a promise whose deadline has passed by then is shown as settled, even if that is not stored yet.
    ``_sql``: the module with the database's own statements.
    """

    _sql: ModuleType

    @abstractmethod
    def _query(self, statement: str, parameters: Any = ()) -> Iterable[Row]:
        """Return all rows."""

    @abstractmethod
    def _stream(self, statement: str, parameters: Any) -> Iterable[Row]:
        """Yield rows one by one; the caller may stop early."""

    @abstractmethod
    def _whole_promises(self, ids: list[str]) -> Iterable[Row]:
        """Return promises with their payloads, in the order of the ids."""

    @abstractmethod
    def _branches(self, ids: list[str]) -> Iterable[tuple[Row, Row | None, list[str]]]:
        """Return promises with their payloads, their tasks, and what those await, in the order of the ids."""

    def _ask(self, query: str, **parameters: Any) -> Iterable[Row]:
        """Return all rows that a query in the common dialect finds."""
        return self._query(self._sql.own(query), parameters)

    def _scan(self, query: str, **parameters: Any) -> Iterable[Row]:
        """Yield the rows that a query in the common dialect finds."""
        return self._stream(self._sql.own(query), parameters)

    def _ids(self, query: str, **parameters: Any) -> list[str]:
        return [id for (id,) in self._ask(query, **parameters)]

    @abstractmethod
    def load(self, footprint: Footprint) -> Rows:
        """Return the rows that ``footprint`` names, as they are now; no links, and only the payloads it asks for."""

    def promises(self, ids: tuple[str, ...]) -> dict[str, Promise]:
        """Return those that exist, with their payloads."""
        return self.load(Footprint(ids=ids, shown=ids)).promises

    # --- delivery ---------------------------------------------------------------------------------------------------

    def unblocks(self, group: str, member: str, after: int) -> Iterator[OwedUnblock]:
        """Yield what ``member`` of ``group`` may get, from after the place ``after`` on; the caller may stop early.

        With empty names, yield what is for HTTP addresses.
        """
        promise: Promise | None = None
        owed = self._scan(shared_sql.UNBLOCKS, group=group, member=member, after=after)
        for place, promise_id, address in owed:
            if promise is None or promise.id != promise_id:
                promise = next(map(rows.promise, self._whole_promises([promise_id])), None)
            if promise is not None:
                yield OwedUnblock(place=place, unblock=Unblock(promise=promise, address=address))

    def queued_tasks(self, group: str, limit: int) -> list[Task]:
        """Return tasks queued for a worker of ``group``, ordered by the time of their next retry."""
        return [rows.task(row) for row in self._ask(shared_sql.GET_QUEUED, group=group, limit=limit)]

    def set_aside_tasks(self, group: str, limit: int) -> list[str]:
        """Return ids of tasks for ``group`` that are paused because nobody claimed them, ordered by end of pause."""
        return self._ids(shared_sql.GET_SET_ASIDE, group=group, limit=limit)

    def held_tasks(self, pid: str) -> list[str]:
        """Return ids of the tasks that process ``pid`` holds a lease on."""
        return self._ids(shared_sql.GET_HELD, pid=pid)

    # --- search -----------------------------------------------------------------------------------------------------

    def id_ahead(self, search: Search, rows: int) -> str | None:
        """Return the id ``rows`` rows after the cursor among those that a search scans; ``None`` if there are fewer."""
        ahead = shared_sql.scan(search, "id", is_ahead=True)
        return next(iter(self._ids(ahead, **self._sought(search), rows=rows)), None)

    def search(self, search: Search, now: int, last: str | None = None) -> Iterator[Promise | Task | Schedule]:
        """Yield up to ``limit + 1`` matches, ascending by id, from after the cursor up to ``last``.

        Tags are compared here, because neither database's JSON can have NUL.
        """
        limit, query = search.limit + 1, {**self._sought(search), "now": now, "last": last}
        match search:
            case TaskSearch():
                scan = self._scan(shared_sql.scan(search, shared_sql.TASK, last), **query)
                return islice(map(rows.task, scan), limit)
            case ScheduleSearch(tags=tags):
                scan = self._scan(shared_sql.scan(search, shared_sql.WHOLE_SCHEDULE, last), **query)
                schedules = map(rows.schedule, scan)
                return islice((each for each in schedules if _has(each.promise_tags, tags)), limit)
            case PromiseSearch(tags=tags):
                scan = self._scan(shared_sql.scan(search, f"id, tags, {shared_sql.SIZES}", last), **query)
                matching = ((id, _bytes(*sizes)) for id, text, *sizes in scan if _has(rows.read_tags(text), tags))
                found = (row for ids in _portions(islice(matching, limit)) for row in self._whole_promises(ids))
                return (projected(rows.promise(row), now) for row in found)

    def _sought(self, search: Search) -> dict[str, Any]:
        """Return the parameters of a search."""
        state = None if isinstance(search, ScheduleSearch) else search.state
        origin = search.tags.get("resonate:origin") if isinstance(search, PromiseSearch) else None
        return {"after": search.cursor or "", "state": state and state.value, "origin": origin}

    # --- for viewers ------------------------------------------------------------------------------------------------

    @abstractmethod
    def recent_roots(self, state: PromiseState | None, before: Place | None, now: int) -> Iterator[Promise]:
        """Yield roots of trees from before ``before`` on, newest first; the caller may stop early. Among those of one
        state there may be internal ones of another.

        They have their params; their values need not be read.
        """

    def tree(self, root: str, after: str, now: int) -> Iterator[Branch]:
        """Yield the promises of a tree, ascending by id, from after ``after`` on."""
        scan = self._scan(shared_sql.TREE, root=root, after=after)
        for ids in _portions((id, _bytes(*sizes)) for id, *sizes in scan):
            for promise, task, awaits in self._branches(ids):
                yield Branch(projected(rows.promise(promise), now), None if task is None else rows.task(task), awaits)

    def occupation(self) -> Occupation:
        """Count queued and held tasks, up to :data:`MAX_COUNTED` of each."""
        return Occupation(
            queued=dict(self._ask(shared_sql.COUNT_QUEUED, limit=MAX_COUNTED)),
            held=dict(self._ask(shared_sql.COUNT_HELD, limit=MAX_COUNTED)),
        )

    @abstractmethod
    def groups_with_waiting_tasks(self, limit: int) -> list[str]:
        """Return names, ascending."""

    def backlog(self, group: str) -> Backlog:
        """Count what waits for ``group``."""
        [counts] = self._ask(shared_sql.COUNT_WAITING, group=group, limit=MAX_COUNTED)
        return Backlog(*counts)

    def waiting_tasks(self, group: str, limit: int) -> list[OpenTask]:
        """Return unclaimed tasks of ``group``: up to ``limit`` that are queued, and as many that are set aside."""
        both = (shared_sql.WAITING_QUEUED, shared_sql.WAITING_SET_ASIDE)
        return [_open_task(row) for query in both for row in self._ask(query, group=group, limit=limit)]

    def claims(self, after: Holding, limit: int) -> list[tuple[Holding, OpenTask]]:
        """Return claimed tasks, from after ``after`` on."""
        found = self._ask(shared_sql.CLAIMS, pid=after[0], id=after[1], limit=limit)
        return [((pid, id), OpenTask(id, *row)) for pid, id, *row in found]

    def count_tasks(self) -> Counter[TaskState]:
        """Count the tasks in each state; reads them all."""
        return Counter({TaskState(state): count for state, count in self._query(shared_sql.COUNT_TASKS)})

    def snapshot_bytes(self) -> int:
        """Estimate the size of a :meth:`snapshot`."""
        [(size,)] = self._ask(shared_sql.SNAPSHOT_BYTES)
        return int(size)

    def snapshot(self) -> Snapshot:
        """Return everything, for debugging and tests."""
        return Snapshot(
            promises=[rows.promise(row) for row in self._ask(shared_sql.ALL_PROMISES)],
            tasks=[rows.task(row) for row in self._ask(shared_sql.ALL_TASKS)],
            callbacks=[PutCallback(awaited=one, awaiter=other) for one, other in self._ask(shared_sql.ALL_CALLBACKS)],
            listeners=[PutListener(awaited=id, address=each) for id, each in self._ask(shared_sql.ALL_LISTENERS)],
            unblocks=[
                Unblock(promise=rows.promise(tuple(promise)), address=address)
                for address, *promise in self._ask(shared_sql.ALL_UNBLOCKS)
            ],
            spreading=[Spreading(promise_id=id, after=each) for id, each in self._ask(shared_sql.ALL_SPREADING)],
        )


type Read = Callable[[Callable[[View], list[tuple[Holding, OpenTask]]]], Awaitable[list[tuple[Holding, OpenTask]]]]


async def portions_of_claims(read: Read, size: int) -> AsyncIterator[list[OpenTask]]:
    """Yield all claimed tasks, ``size`` at a time; ``read`` runs a query."""
    last: Holding = ("", "")
    while True:
        claims = await read(partial(View.claims, after=last, limit=size))
        yield [task for _, task in claims]
        if len(claims) < size:
            return
        last = claims[-1][0]


def _open_task(row: Row) -> OpenTask:
    """A task that was claimed before has an unknown time of offer. A delayed task is offered after its delay."""
    id, version, group, created_at, tags = row
    delay = int(rows.read_tags(tags).get("resonate:delay", "0"))
    return OpenTask(id, version, group or "", 0 if version else max(created_at, delay))


def _has(present: Tags, wanted: Tags) -> bool:
    return all(present.get(name) == text for name, text in wanted.items())


def _bytes(param: int | None, value: int | None) -> int:
    return (param or 0) + (value or 0)


def _portions(found: Iterable[Measured]) -> Iterator[list[str]]:
    """Group the ids whose rows are read together."""
    ids: list[str] = []
    size = 0
    for id, weight in found:
        if ids and (len(ids) == PORTION or size + weight > PORTION_BYTES):
            yield ids
            ids, size = [], 0
        ids.append(id)
        size += weight
    if ids:
        yield ids
