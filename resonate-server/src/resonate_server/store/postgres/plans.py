"""What is asked of the database, and what follows from its answers, without the asking.

A plan is a generator: it yields a *round*, statements that need no answer of one another and travel together, and is
sent the rows that each of them found. So the same plan runs on a connection of the event loop and on one of a thread,
and the number of rounds is the number of journeys.
"""

from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from typing import Any

from msgspec import Struct

from resonate_server.kernel.model import (
    Changes,
    Decision,
    DropCallback,
    DropCallbacks,
    DropListener,
    DropSpreading,
    Due,
    Footprint,
    LinkChange,
    LinkFootprint,
    PutCallback,
    PutListener,
    PutSpreading,
    Rows,
    Rule,
    Spreading,
    Task,
)
from resonate_server.kernel.preload import MAX_PRELOAD, fitting, is_read
from resonate_server.kernel.weight import weight
from resonate_server.protocol.messages import Message, Unblock
from resonate_server.protocol.records import Promise, Schedule
from resonate_server.store import MAX_TOLD_BYTES, Decided, rows
from resonate_server.store.portions import FIRST, Dropped, SettledRoot
from resonate_server.store.postgres import sql
from resonate_server.store.postgres.sql import MAX_AWAITERS_AHEAD
from resonate_server.store.rows import Row


class Ask(Struct, frozen=True):
    """A statement and its parameters."""

    statement: str
    parameters: Sequence[Any] | dict[str, Any] = ()


type Round = dict[Any, Ask]
"""By names of the plan's own; asked in this order."""

type Found = dict[Any, list[Row]]
"""What each of a round has found; nothing under the name of what was not asked."""

type Plan[T] = Generator[Round, Found, T]

MAX_BYTES = 2**30
"""No payload has as many."""


SKEW_MS = 1_000
"""By so much the clocks of two servers may differ, which ask the same one for the time."""


class OutOfOrder(Exception):
    """Locks are taken in the order of ids: begin anew, with all of ``ids`` locked at once."""

    def __init__(self, ids: frozenset[str]) -> None:
        super().__init__(f"{len(ids)} ids are to be locked together")
        self.ids = ids


class Large(Exception):
    """There are payloads to be shown that are not read unless there is room for them."""


class Pair(Struct, frozen=True):
    """A promise and its task."""

    promise: Promise
    task: Task | None


class LockedRows:
    """The rows that one transaction has read so far; each of them once.

    ``together``: what is locked with the first ids; ``None`` for a transaction that only looks, and locks nothing.
    ``most``: bytes of a payload to be shown; for a larger one, :class:`Large` is raised.
    """

    def __init__(self, together: frozenset[str] | None = None, most: int = MAX_BYTES) -> None:
        self._most = most
        self._is_locking = together is not None
        self._together = together or frozenset()
        self._pairs: dict[str, Pair | None] = {}
        self._links: Found = {}
        """Who waits for the promise that is to be settled: read ahead."""
        self.locked: set[str] = set()
        self._latest = 0
        """When the youngest of the promises was created or settled (ms)."""

    def exists(self, id: str) -> bool:
        """As far as it was read."""
        return self._pairs.get(id) is not None

    @property
    def absent(self) -> set[str]:
        """Ids that were looked for, and did not exist."""
        return {id for id, pair in self._pairs.items() if pair is None}

    def decide(self, footprint: Footprint, rule: Rule, clock: Callable[[], int]) -> Plan[Decided]:
        """See :meth:`resonate_server.store.Store.decide`; ``clock`` tells the time in ms, which counts as of when the
        rows are locked. Raises :class:`OutOfOrder` and :class:`Large`."""
        loaded = Rows()
        now = self._time(rule, clock)
        asked: Footprint | LinkFootprint | Decision = footprint
        while not isinstance(asked, Decision):
            if isinstance(asked, Footprint):
                yield from self.load(loaded, asked, now)
            else:
                yield from self.load_links(loaded, asked)
            loaded.asked.append(asked)
            now = self._time(rule, clock)
            asked = rule.decide(loaded, now)
        return Decided(now, loaded, asked, rule.request)

    def _time(self, rule: Rule, clock: Callable[[], int]) -> int:
        """Another server's clock may be ahead of ours by a little: no row is of the future."""
        if rule.at is not None:
            return rule.at
        now = clock()
        return self._latest if now < self._latest <= now + SKEW_MS else now

    def load(self, loaded: Rows, footprint: Footprint, now: int) -> Plan[None]:
        """Add what ``footprint`` names to ``loaded``."""
        if footprint.due:
            loaded.due = yield from self.due(now, footprint.due)
        if footprint.leased:
            found = yield {"leased": Ask(sql.GET_ACQUIRED)}
            loaded.leased = tuple(id for (id,) in found["leased"])
        ids = tuple(dict.fromkeys((*footprint.ids, *loaded.leased)))
        found = yield from self._read(ids, footprint.shown, footprint)
        self._add(loaded, ids, footprint.shown)
        if footprint.preload_for is not None:
            loaded.preload = yield from self._preload(found["preload"])
        for row in found.get("schedule", ()):
            loaded.schedules[row[0]] = rows.schedule(row)

    def load_links(self, loaded: Rows, footprint: LinkFootprint) -> Plan[None]:
        """Add what ``footprint`` names to ``loaded``.

        Which of the promises were loaded with all of theirs, ``loaded.complete`` tells. Those with listeners come with
        their payloads, as far as :data:`MAX_TOLD_BYTES` go.
        """
        awaiters, listeners = yield from self._links_of(footprint)
        limit, room, told = footprint.limit, MAX_TOLD_BYTES, []
        for id in (spreading.promise_id for spreading in footprint.spreading):
            if limit <= 0 or room <= 0:
                break
            if len(awaiters[id]) + len(listeners[id]) <= limit:
                loaded.complete.add(id)
            loaded.awaiters[id] = awaiters[id][:limit]
            limit -= len(loaded.awaiters[id])
            loaded.listeners[id] = listeners[id][:limit]
            limit -= len(loaded.listeners[id])
            pair = self._pairs.get(id)
            if pair is not None and loaded.listeners[id]:
                told.append(id)
                room -= weight(pair.promise)
        woken = [awaiter for id in loaded.awaiters for awaiter in loaded.awaiters[id]]
        yield from self._read([*woken, *told], told)
        self._add(loaded, woken, ())
        self._add(loaded, told, told)

    def due(self, now: int, limit: int) -> Plan[Due]:
        """At most ``limit`` promises and as many tasks and schedules whose time has come, oldest first; and as many
        settlements that are still spreading.

        Only what no other transaction has: several servers divide it among themselves. Of what is locked together,
        everything was there before.
        """
        takes = self._is_locking and not self._together
        schedules = sql.TAKE_DUE_SCHEDULES if self._is_locking else sql.DUE_SCHEDULES
        found = yield {
            "schedules": Ask(schedules, (now, limit)),
            "promises": Ask(sql.TAKE_DUE_PROMISES if takes else sql.DUE_PROMISES, (now, limit)),
            "tasks": Ask(sql.TAKE_DUE_TASKS if takes else sql.DUE_TASKS, (now, limit)),
            "spreading": Ask(sql.TAKE_SPREADING if takes else sql.GET_SPREADING, (limit,)),
        }
        promises, tasks, spreading = (
            [row for row in found[kind] if not self._together or row[0] in self._together]
            for kind in ("promises", "tasks", "spreading")
        )
        if takes:
            self.locked.update(id for id, *_ in (*promises, *tasks, *spreading))
        return Due(
            promises=tuple(id for (id,) in promises),
            tasks=tuple(id for (id,) in tasks),
            schedules=tuple(sorted(map(rows.schedule, found["schedules"]), key=_next_run)),
            spreading=tuple(Spreading(promise_id=id, after=after) for id, after in spreading),
        )

    # --- pairs ------------------------------------------------------------------------------------------------------

    def _add(self, loaded: Rows, ids: Iterable[str], shown: Collection[str]) -> None:
        for id in ids:
            pair = self._pairs.get(id)
            if pair is None:
                continue
            if id in shown:
                if not is_read(pair.promise):
                    raise Large
                loaded.promises[id] = pair.promise
            loaded.promises.setdefault(id, pair.promise)
            if pair.task is not None:
                loaded.tasks[id] = pair.task

    def _read(self, ids: Collection[str], shown: Collection[str], footprint: Footprint | None = None) -> Plan[Found]:
        """Lock and read pairs that are not there yet, and what else ``footprint`` names."""
        settles = footprint.settles if footprint is not None and self._is_locking else None
        wanted = [id for id in ids if self._is_wanted(id, id in shown)]
        asked: Round = {} if footprint is None else _schedule_of(footprint, self._is_locking)
        if self._is_locking and wanted:
            asked["locked"] = self._lock(wanted, settles)
        if wanted:
            query = {"ids": wanted, "shown": list(shown), "settles": settles, "most": self._most}
            asked["pairs"] = Ask(sql.GET_PAIRS, query)
        if footprint is not None and footprint.preload_for is not None:
            asked["preload"] = _preload_of(footprint.preload_for, footprint.branch)
        if settles is not None:
            asked |= _links((Spreading(settles),), MAX_AWAITERS_AHEAD + 1)
        if not asked:
            return {}
        found = yield asked
        self.locked.update(id for (id,) in found.get("locked", ()))
        self._pairs |= dict.fromkeys(wanted)
        for pair in map(_pair, found.get("pairs", ())):
            if self._is_ours(pair):
                self._pairs[pair.promise.id] = pair
                self._latest = max(self._latest, pair.promise.settled_at or pair.promise.created_at)
        if settles is not None:
            self._links = {settles: [], **found}
        return found

    def _is_wanted(self, id: str, whole: bool) -> bool:
        pair = self._pairs.get(id)
        return id not in self._pairs or (pair is not None and whole and not is_read(pair.promise))

    def _is_ours(self, pair: Pair) -> bool:
        """One that came to be between the locks and the look is not."""
        return not self._is_locking or pair.promise.id in self.locked

    def _lock(self, ids: Iterable[str], settles: str | None) -> Ask:
        """What does not exist is named, too: whoever makes it meanwhile is noticed when this is written."""
        new = {*ids, *self._together} - self.locked
        if self.locked and new and min(new) < max(self.locked):
            raise OutOfOrder(frozenset(self.locked | new))
        self.locked |= new
        return Ask(sql.LOCK, {"ids": sorted(new), "settles": settles})

    def _preload(self, found: list[Row]) -> Plan[list[Promise]]:
        promises = [_pair(row).promise for row in found]
        if all(map(is_read, promises)):
            return promises
        chosen = list(fitting(promises))
        missing = [promise.id for promise in chosen if not is_read(promise)]
        answer = yield {"whole": Ask(sql.GET_WHOLE_PROMISES, (missing,))}
        whole = {row[0]: rows.promise(row) for row in answer["whole"]}
        return [whole.get(promise.id, promise) for promise in chosen]

    # --- links ------------------------------------------------------------------------------------------------------

    def _links_of(self, footprint: LinkFootprint) -> Plan[tuple[dict[str, list[str]], dict[str, list[str]]]]:
        """Awaiters and listeners of each: one more than the limit, at least, if there are more."""
        is_ahead = len(footprint.spreading) == 1 and footprint.spreading[0].promise_id in self._links
        found = self._links
        if not is_ahead or footprint.limit > MAX_AWAITERS_AHEAD:
            found = yield _links(footprint.spreading, footprint.limit + 1)
        awaiters: dict[str, list[str]] = {each.promise_id: [] for each in footprint.spreading}
        listeners: dict[str, list[str]] = {each.promise_id: [] for each in footprint.spreading}
        for id, awaiter in found["awaiters"]:
            awaiters[id].append(awaiter)
        for id, address in found["listeners"]:
            listeners[id].append(address)
        return awaiters, listeners


def _schedule_of(footprint: Footprint, is_locking: bool) -> Round:
    if footprint.schedule is None:
        return {}
    id = (footprint.schedule,)
    if not is_locking:
        return {"schedule": Ask(sql.GET_SCHEDULE, id)}
    return {"name": Ask(sql.LOCK_SCHEDULE_NAME, id), "schedule": Ask(sql.LOCK_SCHEDULE, id)}


def _preload_of(task_id: str, branch: str | None) -> Ask:
    """One more than is handed out, because the task's own promise is among them."""
    query: dict[str, Any] = {"task": task_id, "branch": branch, "limit": MAX_PRELOAD + 1, "shown": [], "most": 0}
    return Ask(sql.GET_PRELOAD, query)


def _links(spreading: Sequence[Spreading], limit: int) -> Round:
    ids, after = [each.promise_id for each in spreading], [each.after for each in spreading]
    query = {"ids": ids, "after": after, "limit": limit}
    return {"awaiters": Ask(sql.GET_AWAITERS, query), "listeners": Ask(sql.GET_LISTENERS, query)}


def _pair(row: Row) -> Pair:
    *promise, param, param_size, value, value_size = row[:10]
    task = row[10:]
    payloads = (param_size if param is None else param, value_size if value is None else value)
    return Pair(rows.promise((*promise, *payloads)), None if task[0] is None else rows.task(task))


def _next_run(schedule: Schedule) -> tuple[int, str]:
    return schedule.next_run_at, schedule.id


# --- writing --------------------------------------------------------------------------------------------------------


def writing(changes: Changes, exists: Callable[[str], bool]) -> Iterator[Ask]:
    """Rows, as far as :class:`Changes` says that they count, and the link changes in their order.

    ``exists``: whether there was such a promise when the rule was asked.
    """
    for id, promise in sorted(changes.promises.items()):
        yield _change(promise) if exists(id) else _insert(promise)
    for _, task in sorted(changes.tasks.items()):
        yield Ask(sql.PUT_TASK, rows.task_row(task))
    yield from map(_link, changes.links)
    for id, schedule in changes.schedules.items():
        if schedule is None:
            yield Ask(sql.DROP_SCHEDULE, (id,))
        else:
            row = (*rows.schedule_row(schedule), rows.payload_data(schedule.promise_param))
            yield Ask(sql.PUT_SCHEDULE, row)


def owing(messages: Iterable[Message | Any], now: int) -> Iterator[Ask]:
    """Keep each ``unblock`` until it is delivered; one per promise and address. ``now`` in ms."""
    for message in messages:
        if isinstance(message, Unblock):
            yield Ask(sql.PUT_UNBLOCK, rows.unblock_row(message, now))


def _insert(promise: Promise) -> Ask:
    payloads = rows.payload_data(promise.param), rows.payload_data(promise.value)
    return Ask(sql.NEW_PROMISE, (*rows.promise_row(promise), *payloads))


def _change(promise: Promise) -> Ask:
    id, state, _, _, _, settled_at, *_, armed = rows.promise_row(promise)
    return Ask(sql.CHANGE_PROMISE, (state, settled_at, armed, rows.payload_data(promise.value), id))


def _link(link: LinkChange) -> Ask:
    match link:
        case PutCallback(awaited=awaited, awaiter=awaiter):
            return Ask(sql.PUT_CALLBACK, (awaited, awaiter))
        case DropCallback(awaited=awaited, awaiter=awaiter):
            return Ask(sql.DROP_CALLBACK, (awaited, awaiter))
        case DropCallbacks(awaiter=awaiter):
            return Ask(sql.DROP_CALLBACKS, (awaiter,))
        case PutListener(awaited=awaited, address=address):
            return Ask(sql.PUT_LISTENER, (awaited, address))
        case DropListener(awaited=awaited, address=address):
            return Ask(sql.DROP_LISTENER, {"awaited": awaited, "address": address})
        case PutSpreading(spreading=spreading, turn_at=turn_at):
            return Ask(sql.PUT_SPREADING, (spreading.promise_id, spreading.after, turn_at))
        case DropSpreading(promise_id=promise_id):
            return Ask(sql.DROP_SPREADING, (promise_id,))


# --- deleting -------------------------------------------------------------------------------------------------------


def drop_settled_trees(before: int, limit: int, after: SettledRoot = FIRST) -> Plan[Dropped]:
    """Look at up to ``limit`` trees whose root settled before ``before`` (ms), the oldest first, from after one
    on; delete those of which everything settled before then and nothing is owed."""
    settled_at, id = after
    query = {"before": before, "limit": limit, "settled_at": settled_at, "id": id}
    found = (yield {"roots": Ask(sql.SETTLED_ROOTS, query)})["roots"]
    query["roots"] = [id for _, id, may_go in found if may_go]
    gone = yield {"locked": Ask(sql.LOCK_TREES, query), "promises": Ask(sql.DROP_PROMISES_OF_TREES, query)}
    ids = {"ids": [id for (id,) in gone["promises"]]}
    links = {number: Ask(statement, ids) for number, statement in enumerate(sql.DROP_LINKS)}
    dropped = yield {**links, "tasks": Ask(sql.DROP_TASKS, ids)}
    return Dropped(tasks=len(dropped["tasks"]), last=found[-1][:2] if len(found) == limit else None)


def reset() -> Plan[None]:
    """Delete everything there is."""
    yield {table: Ask(f"DELETE FROM {table}") for table in sql.TABLES}  # noqa: S608  a constant
