"""The store in memory, for development and for tests: nothing survives the process.

Ordinary dictionaries with an undo log, so that a transaction can be taken back.
"""

import heapq
from bisect import bisect_left, insort
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, MutableMapping
from itertools import islice

from msgspec import UNSET

from resonate_server.kernel.model import (
    Changes,
    DropCallbacks,
    DropListeners,
    Due,
    Footprint,
    LinkChange,
    PutCallback,
    PutListener,
    Rows,
    Task,
)
from resonate_server.protocol.address import PollAddress, parse_address
from resonate_server.protocol.messages import Unblock
from resonate_server.protocol.records import Promise, PromiseState, Schedule, TaskState
from resonate_server.protocol.requests import PromiseSearch, ScheduleSearch, TaskSearch
from resonate_server.store import MAX_COUNTED, Branch, Dropped, Occupation, Place, Snapshot, Store


class MemoryStore(Store):
    """See :class:`resonate_server.store.Store`."""

    def __init__(self) -> None:
        self._promises: dict[str, Promise] = {}
        self._tasks: dict[str, Task] = {}
        self._callbacks: dict[str, dict[str, bool]] = defaultdict(dict)
        self._awaited_by: dict[str, dict[str, None]] = defaultdict(dict)
        self._listeners: dict[str, dict[str, None]] = defaultdict(dict)
        self._unblocks: dict[tuple[str, str], int] = {}
        self._branches: dict[str, dict[str, None]] = defaultdict(dict)
        self._children: dict[str, dict[str, None]] = defaultdict(dict)
        self._trees: dict[str, dict[str, None]] = defaultdict(dict)
        self._roots: dict[PromiseState, list[tuple[int, str]]] = {state: [] for state in PromiseState}
        self._schedules: dict[str, Schedule] = {}
        self._queued: dict[str, None] = {}
        # (time, id) of every timer that was ever set; entries that no longer hold are skipped when they come up.
        self._deadlines: list[tuple[int, str]] = []
        self._timers: list[tuple[int, str]] = []
        self._undo: list[Callable[[], None]] = []

    # --- transactions -----------------------------------------------------------------------------------------------

    def flush(self) -> bool:
        return bool(self._undo)

    def commit(self) -> None:
        self._undo.clear()

    def rollback(self) -> None:
        while self._undo:
            self._undo.pop()()

    def check(self) -> None:
        pass

    def close(self) -> None:
        pass

    # --- rows -------------------------------------------------------------------------------------------------------

    def load(self, footprint: Footprint) -> Rows:
        rows = Rows()
        for id in footprint.ids:
            self._load_pair(id, rows)
            rows.callbacks[id] = dict(self._callbacks.get(id, {}))
            rows.listeners[id] = list(self._listeners.get(id, {}))
            for awaiter in rows.callbacks[id]:
                self._load_pair(awaiter, rows)
        if footprint.preload_for is not None:
            rows.preload = self._preload(footprint.preload_for, footprint.branch)
        if footprint.schedule in self._schedules:
            rows.schedules[footprint.schedule] = self._schedules[footprint.schedule]
        return rows

    def _load_pair(self, id: str, rows: Rows) -> None:
        if id in self._promises:
            rows.promises[id] = self._promises[id]
        if id in self._tasks:
            rows.tasks[id] = self._tasks[id]

    def _preload(self, task_id: str, branch: str | None) -> list[Promise]:
        own = self._promises.get(task_id)
        branch = own.branch if own is not None else branch
        ids = set(self._children.get(task_id, {}))
        if branch:
            ids.update(self._branches.get(branch, {}))
        return [self._promises[id] for id in sorted(ids)]

    def write(self, changes: Changes) -> None:
        for promise in changes.promises.values():
            self._write_promise(promise)
        for task in changes.tasks.values():
            self._write_task(task)
        for link in changes.links:
            self._apply_link(link)
        for id, schedule in changes.schedules.items():
            if schedule is None:
                self._delete(self._schedules, id)
            else:
                self._set(self._schedules, id, schedule)

    def _write_promise(self, promise: Promise) -> None:
        if promise.id not in self._promises:
            if promise.branch:
                self._set(self._branches[promise.branch], promise.id, None)
            if promise.parent:
                self._set(self._children[promise.parent], promise.id, None)
            if promise.origin:
                self._set(self._trees[promise.origin], promise.id, None)
        self._move_root(self._promises.get(promise.id), promise)
        self._undo.append(lambda: self._push_deadline(promise.id))
        self._set(self._promises, promise.id, promise)
        self._push_deadline(promise.id)

    def _move_root(self, before: Promise | None, after: Promise | None) -> None:
        """Keep the order of creation of the roots in each state."""
        if before is not None and before.origin in (None, before.id):
            self._drop_root(before)
            self._undo.append(lambda: self._add_root(before))
        if after is not None and after.origin in (None, after.id):
            self._add_root(after)
            self._undo.append(lambda: self._drop_root(after))

    def _add_root(self, root: Promise) -> None:
        insort(self._roots[root.state], (root.created_at, root.id))

    def _drop_root(self, root: Promise) -> None:
        roots = self._roots[root.state]
        del roots[bisect_left(roots, (root.created_at, root.id))]

    def _write_task(self, task: Task) -> None:
        self._undo.append(lambda: self._push_timer(task.id))
        self._set(self._tasks, task.id, task)
        self._push_timer(task.id)
        if task.queued:
            self._set(self._queued, task.id, None)
        else:
            self._delete(self._queued, task.id)

    def _push_deadline(self, id: str) -> None:
        """Also when a write is taken back: meanwhile the entry may have come up and been skipped."""
        promise = self._promises.get(id)
        if promise is not None and promise.state is PromiseState.PENDING:
            heapq.heappush(self._deadlines, (promise.timeout_at, id))

    def _push_timer(self, id: str) -> None:
        task = self._tasks.get(id)
        if task is not None and task.timer_at is not None:
            heapq.heappush(self._timers, (task.timer_at, id))

    def _apply_link(self, link: LinkChange) -> None:
        match link:
            case PutCallback(awaited=awaited, awaiter=awaiter, fired=fired):
                self._set(self._callbacks[awaited], awaiter, fired)
                self._set(self._awaited_by[awaiter], awaited, None)
            case DropCallbacks(awaiter=awaiter, fired_only=fired_only):
                for awaited in list(self._awaited_by.get(awaiter, {})):
                    if self._callbacks[awaited][awaiter] or not fired_only:
                        self._delete(self._callbacks[awaited], awaiter)
                        self._delete(self._awaited_by[awaiter], awaited)
            case PutListener(awaited=awaited, address=address):
                self._set(self._listeners[awaited], address, None)
            case DropListeners(awaited=awaited):
                for address in list(self._listeners.get(awaited, {})):
                    self._delete(self._listeners[awaited], address)

    # --- what is owed -----------------------------------------------------------------------------------------------

    def put_unblock(self, unblock: Unblock, now: int) -> None:
        self._set(self._unblocks, (unblock.promise.id, unblock.address), now)

    def drop_unblock(self, promise_id: str, address: str) -> None:
        self._delete(self._unblocks, (promise_id, address))

    def drop_unblocks_before(self, time: int) -> None:
        for key, kept_since in list(self._unblocks.items()):
            if kept_since < time:
                self._delete(self._unblocks, key)

    def unblocks(self) -> list[Unblock]:
        return [Unblock(promise=self._promises[id], address=address) for id, address in self._unblocks]

    def queued_tasks(self, group: str, limit: int) -> list[Task]:
        tasks = [task for task in map(self._tasks.__getitem__, self._queued) if _group(task) == group]
        return sorted(tasks, key=lambda task: (task.timer_at or 0, task.id))[:limit]

    def acquired_tasks(self) -> list[str]:
        return [task.id for task in self._tasks.values() if task.state is TaskState.ACQUIRED]

    def held_tasks(self, pid: str) -> list[str]:
        return [task.id for task in self._tasks.values() if task.pid == pid]

    # --- time -------------------------------------------------------------------------------------------------------

    def due(self, now: int, limit: int) -> Due:
        return Due(
            promises=_take_due(self._deadlines, self._deadline_holds, now, limit),
            tasks=_take_due(self._timers, self._timer_holds, now, limit),
            schedules=tuple(schedule for schedule in self._by_next_run() if schedule.next_run_at <= now)[:limit],
        )

    def _by_next_run(self) -> list[Schedule]:
        return sorted(self._schedules.values(), key=lambda schedule: (schedule.next_run_at, schedule.id))

    def next_due(self) -> int | None:
        _drop_stale(self._deadlines, self._deadline_holds)
        _drop_stale(self._timers, self._timer_holds)
        timers = [heap[0][0] for heap in (self._deadlines, self._timers) if heap]
        runs = [schedule.next_run_at for schedule in self._by_next_run()[:1]]
        return min(timers + runs, default=None)

    def _deadline_holds(self, time: int, id: str) -> bool:
        promise = self._promises.get(id)
        return promise is not None and promise.state is PromiseState.PENDING and promise.timeout_at == time

    def _timer_holds(self, time: int, id: str) -> bool:
        task = self._tasks.get(id)
        return task is not None and task.timer_at == time

    def drop_settled_trees(self, before: int, limit: int) -> Dropped:
        trees: dict[str, list[Promise]] = defaultdict(list)
        for promise in self._promises.values():
            trees[promise.origin or promise.id].append(promise)
        owed = {promise_id for promise_id, _ in self._unblocks}
        old = [
            (root.settled_at, root.id)
            for root in map(self._promises.get, trees)
            if root is not None and root.origin in (None, root.id)
            if all(_settled_before(promise, before) and promise.id not in owed for promise in trees[root.id])
        ]
        tasks_before = len(self._tasks)
        for _, root_id in sorted(old)[:limit]:
            for promise in trees[root_id]:
                self._drop_promise(promise)
        return Dropped(trees=min(len(old), limit), tasks=tasks_before - len(self._tasks))

    def _drop_promise(self, promise: Promise) -> None:
        self._apply_link(DropCallbacks(awaiter=promise.id, fired_only=False))
        for awaiter in list(self._callbacks.get(promise.id, {})):
            self._delete(self._callbacks[promise.id], awaiter)
            self._delete(self._awaited_by[awaiter], promise.id)
        self._apply_link(DropListeners(awaited=promise.id))
        self._delete(self._branches[promise.branch or ""], promise.id)
        self._delete(self._children[promise.parent or ""], promise.id)
        self._delete(self._trees[promise.origin or ""], promise.id)
        self._move_root(promise, None)
        self._delete(self._tasks, promise.id)
        self._delete(self._promises, promise.id)

    # --- search -----------------------------------------------------------------------------------------------------

    def search_promises(self, search: PromiseSearch) -> list[Promise]:
        matches = (
            promise
            for _, promise in sorted(self._promises.items())
            if _after(promise.id, search.cursor)
            and (search.state is None or promise.state is search.state)
            and search.tags.items() <= promise.tags.items()
        )
        return list(islice(matches, search.limit + 1))

    def search_tasks(self, search: TaskSearch) -> list[Task]:
        matches = (
            task
            for _, task in sorted(self._tasks.items())
            if _after(task.id, search.cursor) and (search.state is None or task.state is search.state)
        )
        return list(islice(matches, search.limit + 1))

    def search_schedules(self, search: ScheduleSearch) -> list[Schedule]:
        matches = (
            schedule
            for _, schedule in sorted(self._schedules.items())
            if _after(schedule.id, search.cursor) and search.tags.items() <= schedule.promise_tags.items()
        )
        return list(islice(matches, search.limit + 1))

    # --- for those who watch ----------------------------------------------------------------------------------------

    def recent_roots(self, state: PromiseState | None, before: Place | None) -> Iterator[Promise]:
        states = list(PromiseState) if state is None else [state]
        places = heapq.merge(*(self._places(each, before) for each in states), reverse=True)
        return (self._promises[id] for _, id in places)

    def _places(self, state: PromiseState, before: Place | None) -> Iterator[tuple[int, str]]:
        roots = self._roots[state]
        end = len(roots) if before is None else bisect_left(roots, (before.created_at, before.id))
        return (roots[index] for index in range(end - 1, -1, -1))

    def count_pending_roots(self, limit: int) -> int:
        return min(len(self._roots[PromiseState.PENDING]), limit)

    def tree(self, root: str, after: str) -> Iterator[Branch]:
        ids = set(self._trees.get(root, {}))
        if root in self._promises and self._promises[root].origin is None:
            ids.add(root)
        for id in sorted(id for id in ids if id > after):
            awaited = sorted(each for each in self._awaited_by.get(id, {}) if not self._callbacks[each][id])
            yield Branch(self._promises[id], self._tasks.get(id), awaited)

    def occupation(self) -> Occupation:
        queued = (_group(self._tasks[id]) for id in islice(self._queued, MAX_COUNTED))
        held = (task.pid for task in self._tasks.values() if task.pid is not None)
        return Occupation(
            queued=dict(Counter(group for group in queued if group is not None)),
            held=dict(Counter(islice(held, MAX_COUNTED))),
        )

    def count_tasks(self) -> Counter[TaskState]:
        return Counter(task.state for task in self._tasks.values())

    def snapshot(self) -> Snapshot:
        return Snapshot(
            promises=[promise for _, promise in sorted(self._promises.items())],
            tasks=[task for _, task in sorted(self._tasks.items())],
            callbacks=[
                PutCallback(awaited=awaited, awaiter=awaiter, fired=fired)
                for awaited, awaiters in sorted(self._callbacks.items())
                for awaiter, fired in sorted(awaiters.items())
            ],
            listeners=[
                PutListener(awaited=awaited, address=address)
                for awaited, addresses in sorted(self._listeners.items())
                for address in sorted(addresses)
            ],
            unblocks=sorted(self.unblocks(), key=lambda unblock: (unblock.promise.id, unblock.address)),
        )

    def reset(self) -> None:
        before, undo = self.__dict__.copy(), self._undo
        self.__init__()  # type: ignore[misc]
        self._undo = undo
        undo.append(lambda: self.__dict__.update(before))

    # --- undo -------------------------------------------------------------------------------------------------------

    def _set[K, V](self, table: MutableMapping[K, V], key: K, value: V) -> None:
        if key in table:
            self._undo.append(lambda old=table[key]: table.__setitem__(key, old))  # type: ignore[misc]
        else:
            self._undo.append(lambda: table.__delitem__(key))
        table[key] = value

    def _delete[K, V](self, table: MutableMapping[K, V], key: K) -> None:
        if key in table:
            self._undo.append(lambda old=table[key]: table.__setitem__(key, old))  # type: ignore[misc]
            del table[key]


def _settled_before(promise: Promise, time: int) -> bool:
    return promise.settled_at is not UNSET and promise.settled_at < time


def _group(task: Task) -> str | None:
    address = parse_address(task.target)
    return address.group if isinstance(address, PollAddress) else None


def _after(id: str, cursor: str | None) -> bool:
    return cursor is None or id > cursor


def _drop_stale(heap: list[tuple[int, str]], holds: Callable[[int, str], bool]) -> None:
    while heap and not holds(*heap[0]):
        heapq.heappop(heap)


def _take_due(heap: list[tuple[int, str]], holds: Callable[[int, str], bool], now: int, limit: int) -> tuple[str, ...]:
    """Ids whose time has come. They are put back: until what is due was done and committed, it stays due."""
    taken: list[tuple[int, str]] = []
    while heap and heap[0][0] <= now and len(taken) < limit:
        entry = heapq.heappop(heap)
        if holds(*entry) and entry not in taken:
            taken.append(entry)
    for entry in taken:
        heapq.heappush(heap, entry)
    return tuple(id for _, id in taken)
