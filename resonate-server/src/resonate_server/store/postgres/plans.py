"""What to ask the database, what follows from its answers, and what to write; sending the statements is done elsewhere.

Statements go in *rounds*: those of a round do not need one another's answers and are sent together, so a round is one
round trip.
"""

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import Any

from resonate_server.kernel.model import (
    Decision,
    Due,
    Footprint,
    LinkFootprint,
    Rows,
    Rule,
    Spreading,
    Task,
)
from resonate_server.kernel.sizes import MAX_PRELOAD, fitting, is_read, weight
from resonate_server.protocol.records import Promise, TaskState
from resonate_server.store import Decided, rows
from resonate_server.store.found import SettledRoot
from resonate_server.store.links import Links, add_links
from resonate_server.store.postgres import sql
from resonate_server.store.postgres.sql import MAX_AWAITERS_AHEAD, WRITES
from resonate_server.store.postgres.writing import Writing
from resonate_server.store.rows import Row
from resonate_server.store.shared_sql import COLUMNS, COUNT_TASKS, PAYLOADS, SETTLED_ROOTS

type Asked = tuple[str, Sequence[Any] | dict[str, Any]]
"""A statement and its parameters."""

type Found = list[list[Row]]
"""The rows that each statement of a round has found."""

type Asking = Callable[..., Awaitable[Found]]
"""Sends the given statements (:data:`Asked`) in one round trip. Raises :class:`psycopg.Error`."""

MAX_BYTES = 2**30  # more than any payload has
SKEW_MS = 1_000  # By this much the clocks of two servers may differ, although both follow that of the database.


class Busy(Exception):
    """Another server has some of the rows, or this transaction would have to read what it has changed: try again."""


class Large(Exception):
    """The answer would show payloads that are not read unless there is room for them."""


class Unit:
    """The rows that a transaction has locked and read so far, each of them once, with what was decided on them.

    ``most``: bytes of a payload that may be shown; a larger one raises :class:`Large`. ``put_off``: ids of what is due
    and not to be taken.
    """

    def __init__(self, ask: Asking, most: int = MAX_BYTES, put_off: Sequence[str] = ()) -> None:
        self._ask = ask
        self._most = most
        self._put_off = put_off
        self.single: str | None = None
        """The id of what was due, if only one thing was taken."""
        self._promises: dict[str, Promise | None] = {}
        self._tasks: dict[str, Task] = {}
        self._taken: set[str] = set()
        """Ids of rows that others have locked, or created while this transaction looked."""
        self._whole: set[str] = set()
        """Ids whose payloads were asked for."""
        self._links: dict[str, Links] = {}
        """Links of promises that are to be settled, read ahead."""
        self._preloads: dict[str, list[Promise]] = {}
        self._made: set[str] = set()
        """Ids of new promises."""
        self._latest = 0
        """When any of the promises was last created or settled (ms)."""
        self.writing = Writing()

    # --- deciding ---------------------------------------------------------------------------------------------------

    async def decide(self, footprint: Footprint, rule: Rule, clock: Callable[[], int]) -> Decided:
        """See :meth:`resonate_server.store.Store.decide`; ``clock`` returns the time in ms, and is read once the rows
        are locked. Raises :class:`Busy`, :class:`Large`, or what the rule raises; then nothing has changed."""
        loaded = Rows()
        now = self._time(rule, clock)
        asked: Footprint | LinkFootprint | Decision = footprint
        while not isinstance(asked, Decision):
            if isinstance(asked, Footprint):
                await self.load(loaded, asked, now)
            else:
                await self.load_links(loaded, asked)
            loaded.asked.append(asked)
            now = self._time(rule, clock)
            asked = rule.decide(loaded, now)
        return Decided(now, loaded, asked, rule.request)

    def keep(self, decided: Decided) -> None:
        """Add ``decided`` to the writes, and show its changes to the next decisions."""
        changes = decided.decision.changes
        self._made.update(id for id in changes.promises if self._promises.get(id) is None)
        self.writing.add(changes, decided.decision.messages, decided.now, lambda id: id not in self._made)
        self._promises |= changes.promises
        self._tasks |= changes.tasks

    def _time(self, rule: Rule, clock: Callable[[], int]) -> int:
        """Return the time, but none before the latest row: another server's clock may be slightly ahead of ours."""
        if rule.at is not None:
            return rule.at
        now = clock()
        return self._latest if now < self._latest <= now + SKEW_MS else now

    # --- loading ----------------------------------------------------------------------------------------------------

    async def load(self, loaded: Rows, footprint: Footprint, now: int) -> None:
        """Add what ``footprint`` names to ``loaded``."""
        if footprint.due:
            loaded.due = await self.due(now, footprint.due)
        await self.fetch([footprint])
        self._add(loaded, footprint.ids, footprint.shown)
        if footprint.preload_for is not None:
            loaded.preload = await self._preload(self._preloads[footprint.preload_for])
        if footprint.schedule is not None:
            await self._load_schedule(loaded, footprint.schedule)

    async def load_links(self, loaded: Rows, footprint: LinkFootprint) -> None:
        """Add the links that ``footprint`` names to ``loaded``, with the awaiters and what listeners are to get."""
        links = await self._links_of(footprint)
        told = add_links(loaded, footprint, lambda spreading, _: links[spreading.promise_id], self._weigh)
        woken = [awaiter for id in loaded.awaiters for awaiter in loaded.awaiters[id]]
        await self.fetch([Footprint(ids=(*woken, *told), shown=tuple(told))])
        self._add(loaded, woken, ())
        self._add(loaded, told, told)

    def _weigh(self, id: str) -> int:
        promise = self._promises.get(id)
        return 0 if promise is None else weight(promise)

    async def due(self, now: int, limit: int) -> Due:
        """Return what is due, oldest first: up to ``limit`` each of promises, tasks, schedules, and settlements that
        are still spreading. With a ``limit`` of 1, return only one of all.

        Only those that no other transaction has locked, so that servers share the work.
        """
        query = {"now": now, "limit": limit, "put_off": list(self._put_off)}
        found = await self._ask(*[(each, query) for each in sql.TAKE_DUE])
        if limit == 1 and any(found):  # at random, so that each has its turn
            chosen = random.choice([each for each in found if each])
            found = [each if each is chosen else [] for each in found]
            self.single = chosen[0][0]
        schedules, promises, tasks, spreading = found
        return Due(
            promises=tuple(id for (id,) in promises),
            tasks=tuple(id for (id,) in tasks),
            schedules=tuple(sorted(map(rows.schedule, schedules), key=lambda each: (each.next_run_at, each.id))),
            spreading=tuple(Spreading(promise_id=id, after=after) for id, after in spreading),
        )

    async def _load_schedule(self, loaded: Rows, id: str) -> None:
        [(is_ours,)], found = await self._ask((sql.LOCK_SCHEDULE_NAME, (id,)), (sql.LOCK_SCHEDULE, (id,)))
        if not is_ours:
            raise Busy
        loaded.schedules |= {row[0]: rows.schedule(row) for row in found}

    # --- pairs ------------------------------------------------------------------------------------------------------

    async def fetch(self, footprints: Sequence[Footprint]) -> None:
        """Lock and read, in one round trip, the rows that they name by id and that are not here yet."""
        shown = {id for each in footprints for id in each.shown}
        wanted = {id for each in footprints for id in each.ids if self._is_wanted(id, id in shown)}
        settles = [each.settles for each in footprints if each.settles in wanted]
        tasks = {each.preload_for: each.branch for each in footprints if each.preload_for is not None}
        asked: list[Asked] = []
        if wanted:
            query = {"ids": list(wanted), "settles": list(settles), "shown": list(shown), "most": self._most}
            asked += [(sql.LOCK, query), (sql.GET_PAIRS, query)]
        if not self._preloads.keys() >= tasks.keys():
            asked.append(_preload_of(tasks))
        if not asked:
            return
        found = iter(await self._ask(*asked))
        if wanted:
            locked = {id for (id,) in next(found)}
            self._whole |= shown
            self._promises |= dict.fromkeys(wanted)
            for row in next(found):
                self._take(row, locked)
        for preload in found:
            self._preloads |= {task: [] for task in tasks}
            for task, *promise in preload:
                self._preloads[task].append(_promise(promise))

    def _is_wanted(self, id: str, whole: bool) -> bool:
        if id in self._taken:
            return False
        promise = self._promises.get(id)
        if promise is None:
            return id not in self._promises
        return whole and id not in self._whole and not is_read(promise)

    def _take(self, row: Row, locked: set[str]) -> None:
        (promise, task), awaiters, listeners = pair(row[:-2]), *row[-2:]
        if promise.id not in locked:
            self._taken.add(promise.id)
            return
        if self.writing.knows(promise.id):
            raise Busy  # Its payload is needed after all.
        self._promises[promise.id] = promise
        if task is not None:
            self._tasks[promise.id] = task
        self._latest = max(self._latest, promise.settled_at or promise.created_at)
        if awaiters is not None:
            self._links[promise.id] = awaiters, listeners

    def _add(self, loaded: Rows, ids: Iterable[str], shown: Collection[str]) -> None:
        for id in ids:
            if id in self._taken:
                raise Busy
            promise = self._promises.get(id)
            if promise is None:
                continue
            if id in shown:
                if not is_read(promise):
                    raise Large
                loaded.promises[id] = promise
            loaded.promises.setdefault(id, promise)
            if id in self._tasks:
                loaded.tasks[id] = self._tasks[id]

    async def _preload(self, found: list[Promise]) -> list[Promise]:
        promises = [self._promises.get(promise.id) or promise for promise in found]
        if all(map(is_read, promises)):
            return promises
        chosen = list(fitting(promises))
        missing = [each.id for each in chosen if not is_read(each) and not self.writing.knows(each.id)]
        [read] = await self._ask((sql.GET_WHOLE_PROMISES, (missing,)))
        whole = {row[0]: rows.promise(row) for row in read}
        return [whole.get(promise.id, promise) for promise in chosen]

    # --- links ------------------------------------------------------------------------------------------------------

    async def _links_of(self, footprint: LinkFootprint) -> dict[str, Links]:
        ids = [each.promise_id for each in footprint.spreading]
        links = {id: self._links[id] for id in ids if id in self._links}
        if len(links) < len(ids) or footprint.limit > MAX_AWAITERS_AHEAD:
            after = [each.after for each in footprint.spreading]
            query = {"ids": ids, "after": after, "limit": footprint.limit + 1}
            found = await self._ask((sql.GET_AWAITERS, query), (sql.GET_LISTENERS, query))
            links = {id: ([], []) for id in ids}
            for number, kind in enumerate(found):
                for id, other in kind:
                    links[id][number].append(other)
        is_outdated = not self.writing.linked.isdisjoint(ids)
        if is_outdated or any(self.writing.frees(awaiters) for awaiters, _ in links.values()):
            raise Busy
        return links


def _preload_of(tasks: dict[str, str | None]) -> Asked:
    """Ask for one more than is sent, because the task's own promise is among them."""
    query = {"tasks": list(tasks), "branches": list(tasks.values()), "limit": MAX_PRELOAD + 1}
    return sql.GET_PRELOAD, query | {"most_rows": 4 * MAX_PRELOAD, "shown": [], "most": 0}


_PAIR_COLUMNS = rows.PROMISE_COLUMNS + 2  # those of the promise, with the sizes of its payloads


def pair(row: Row) -> tuple[Promise, Task | None]:
    """Convert a row of :data:`.sql.GET_PAIRS`, without its links, to a promise and its task."""
    task = row[_PAIR_COLUMNS:]
    return _promise(row[:_PAIR_COLUMNS]), None if task[0] is None else rows.task(task)


def _promise(row: Sequence[Any]) -> Promise:
    *promise, param, param_size, value, value_size = row
    payloads = (param_size if param is None else param, value_size if value is None else value)
    return rows.promise((*promise, *payloads))


# --- writing --------------------------------------------------------------------------------------------------------


class Records(list[dict[str, Any]]):
    """Rows of one table, sent as one parameter: JSON."""


def written(writing: Writing, server: int, number: int) -> list[Asked]:
    """Return the statements that write it: first what goes, then what comes, because what was dropped may have been put
    again. They record the ``number`` of the transaction of ``server``."""
    records = {part: _records(writing, part) for part in WRITES if writing.parts[part]}
    drops = {part: records.pop(part) for part in tuple(records) if part.startswith(("free_", "drop_"))}
    asked: list[Asked] = [(sql.write(tuple(drops), "SELECT"), drops)] if drops else []
    return [*asked, (sql.write(tuple(records), sql.PUT_ENDING), {**records, "server": server, "number": number})]


def _records(writing: Writing, part: str) -> Records:
    """Sort by key, so that servers that insert the same rows do so in the same order. A row that is to be dropped has
    only its first columns. Payloads are as PostgreSQL writes bytes.
    """
    names, found = COLUMNS[sql.table_of(part)], writing.parts[part]
    records = Records(dict(zip(names, found[key], strict=False)) for key in sorted(found))
    for payload in PAYLOADS.intersection(names):
        for record in records:
            if (data := record.get(payload)) is not None:
                record[payload] = f"\\x{data.hex()}"
    return records


# --- the whole store ------------------------------------------------------------------------------------------------


async def settled_roots(
    ask: Asking, before: int, limit: int, after: SettledRoot
) -> tuple[list[str], SettledRoot | None]:
    """Visit up to ``limit`` trees whose root settled before ``before`` (ms), oldest first, from after ``after`` on.

    Return the roots of those that settled completely before then and owe no message, which is final; and the last one
    visited, ``None`` if none follow.
    """
    settled_at, id = after
    query = {"before": before, "limit": limit, "settled_at": settled_at, "id": id}
    [found] = await ask((sql.own(SETTLED_ROOTS), query))
    return [id for _, id, may_go in found if may_go], found[-1][:2] if len(found) == limit else None


async def drop_trees(ask: Asking, before: int, roots: list[str]) -> int:
    """Delete what settled before ``before`` (ms) of the trees; return how many tasks there were."""
    query = {"before": before, "ids": roots}
    _, gone = await ask((sql.LOCK_TREES, query), (sql.DROP_PROMISES_OF_TREES, query))
    ids = [id for (id,) in gone]
    *_, tasks = await ask(*[(each, {"ids": ids}) for each in sql.DROP_REST_OF_TREES])
    return len(tasks)


async def reset(ask: Asking) -> Counter[TaskState]:
    """Delete everything; return how many tasks there were in each state."""
    drops = [(f"DELETE FROM {table}", ()) for table in COLUMNS]  # noqa: S608  a constant
    counted, *_ = await ask((COUNT_TASKS, ()), *drops)
    return Counter({TaskState(state): count for state, count in counted})
