"""The store on SQLite: one file, one connection, one writer.

This store is the part that assumes a single server process; the file is locked for as long as it is open.
With ``synchronous=FULL`` a transaction that has been left is on disk and survives a power cut.
"""

import heapq
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec
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
from resonate_server.kernel.preload import MAX_PRELOAD
from resonate_server.protocol.address import PollAddress, parse_address
from resonate_server.protocol.messages import Unblock
from resonate_server.protocol.records import Promise, PromiseState, Schedule, Tags, TaskState, Value
from resonate_server.protocol.requests import MAX_INTEGER, PromiseSearch, ScheduleSearch, TaskSearch
from resonate_server.store import MAX_COUNTED, Branch, Dropped, Occupation, Place, Snapshot, statements

type Synchronous = Literal["FULL", "NORMAL"]


class StoreUnusable(Exception):
    """The file cannot be used: locked by another server, made by another version, not a database, not writable."""


class SQLiteStore:
    """See :class:`resonate_server.store.Store`. Raises :class:`StoreUnusable` if the file cannot be opened."""

    def __init__(self, path: Path, synchronous: Synchronous = "FULL") -> None:
        try:
            self._db = _open(path, synchronous)
        except (sqlite3.Error, OSError) as error:
            raise StoreUnusable(f"cannot use {path}: {error}") from error

    # --- transactions -----------------------------------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            # Some failures (a full disk) make SQLite take back the whole transaction by itself; this then fails too.
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        if not self._db.in_transaction:
            raise sqlite3.OperationalError("the transaction was taken back by SQLite")  # Full disk: see transaction.
        self._db.execute("SAVEPOINT request")
        try:
            yield
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK TO request")
                self._db.execute("RELEASE request")
            raise
        self._db.execute("RELEASE request")

    def close(self) -> None:
        self._db.close()

    # --- rows -------------------------------------------------------------------------------------------------------

    def load(self, footprint: Footprint) -> Rows:
        rows = Rows()
        for id in footprint.ids:
            self._load_pair(id, rows)
            callbacks = self._db.execute(statements.GET_CALLBACKS, (id,))
            rows.callbacks[id] = {awaiter: bool(fired) for awaiter, fired in callbacks}
            rows.listeners[id] = [address for (address,) in self._db.execute(statements.GET_LISTENERS, (id,))]
            for awaiter in rows.callbacks[id]:
                self._load_pair(awaiter, rows)
        if footprint.preload_for is not None:
            own = rows.promises.get(footprint.preload_for)
            branch = own.branch if own is not None else footprint.branch
            rows.preload = self._preload(footprint.preload_for, branch)
        if footprint.schedule is not None:
            for row in self._db.execute(statements.GET_SCHEDULE, (footprint.schedule,)):
                rows.schedules[footprint.schedule] = _schedule(row)
        return rows

    def _load_pair(self, id: str, rows: Rows) -> None:
        if id in rows.promises:
            return
        promise = self._db.execute(statements.GET_PROMISE, (id,)).fetchone()
        if promise is None:
            return
        rows.promises[id] = _promise(promise)
        task = self._db.execute(statements.GET_TASK, (id,)).fetchone()
        if task is not None:
            rows.tasks[id] = _task(task)

    def _preload(self, task_id: str, branch: str | None) -> list[Promise]:
        # One more than is handed out, because the task's own promise is among them.
        query = {"branch": branch or None, "parent": task_id, "limit": MAX_PRELOAD + 1}
        return [_promise(row) for row in self._db.execute(statements.GET_PRELOAD, query)]

    def write(self, changes: Changes) -> None:
        for promise in changes.promises.values():
            self._db.execute(statements.PUT_PROMISE, _promise_row(promise))
        for task in changes.tasks.values():
            self._db.execute(statements.PUT_TASK, _task_row(task))
        for link in changes.links:
            self._apply_link(link)
        for id, schedule in changes.schedules.items():
            if schedule is None:
                self._db.execute(statements.DROP_SCHEDULE, (id,))
            else:
                self._db.execute(statements.PUT_SCHEDULE, _schedule_row(schedule))

    def _apply_link(self, link: LinkChange) -> None:
        match link:
            case PutCallback(awaited=awaited, awaiter=awaiter, fired=fired):
                self._db.execute(statements.PUT_CALLBACK, (awaited, awaiter, fired))
            case DropCallbacks(awaiter=awaiter, fired_only=fired_only):
                self._db.execute(statements.DROP_CALLBACKS, (awaiter, fired_only))
            case PutListener(awaited=awaited, address=address):
                self._db.execute(statements.PUT_LISTENER, (awaited, address))
            case DropListeners(awaited=awaited):
                self._db.execute(statements.DROP_LISTENERS, (awaited,))

    # --- what is owed -----------------------------------------------------------------------------------------------

    def put_unblock(self, unblock: Unblock, now: int) -> None:
        self._db.execute(statements.PUT_UNBLOCK, (unblock.promise.id, unblock.address, now))

    def drop_unblock(self, promise_id: str, address: str) -> None:
        self._db.execute(statements.DROP_UNBLOCK, (promise_id, address))

    def drop_unblocks_before(self, time: int) -> None:
        self._db.execute(statements.DROP_UNBLOCKS_BEFORE, (time,))

    def unblocks(self) -> list[Unblock]:
        rows = self._db.execute(statements.GET_UNBLOCKS)
        return [Unblock(promise=_promise(promise), address=address) for address, *promise in rows]

    def queued_tasks(self, group: str, limit: int) -> list[Task]:
        return [_task(row) for row in self._db.execute(statements.GET_QUEUED, (group, limit))]

    def acquired_tasks(self) -> list[str]:
        return [id for (id,) in self._db.execute(statements.GET_ACQUIRED)]

    def held_tasks(self, pid: str) -> list[str]:
        return [id for (id,) in self._db.execute(statements.GET_HELD, (pid,))]

    # --- time -------------------------------------------------------------------------------------------------------

    def due(self, now: int, limit: int) -> Due:
        return Due(
            promises=tuple(id for (id,) in self._db.execute(statements.DUE_PROMISES, (now, limit))),
            tasks=tuple(id for (id,) in self._db.execute(statements.DUE_TASKS, (now, limit))),
            schedules=tuple(_schedule(row) for row in self._db.execute(statements.DUE_SCHEDULES, (now, limit))),
        )

    def next_due(self) -> int | None:
        queries = (statements.NEXT_DEADLINE, statements.NEXT_TIMER, statements.NEXT_RUN)
        times = [self._db.execute(query).fetchone()[0] for query in queries]
        return min((time for time in times if time is not None), default=None)

    def drop_settled_trees(self, before: int, limit: int) -> Dropped:
        roots = self._db.execute(statements.SETTLED_ROOTS, {"before": before, "limit": limit}).fetchall()
        tasks = 0
        for (root,) in roots:
            for statement in statements.DROP_LINKS_OF_TREE:
                self._db.execute(statement, {"root": root})
            tasks += self._db.execute(statements.DROP_TASKS_OF_TREE, {"root": root}).rowcount
            self._db.execute(statements.DROP_PROMISES_OF_TREE, {"root": root})
        return Dropped(trees=len(roots), tasks=tasks)

    # --- search -----------------------------------------------------------------------------------------------------

    def search_promises(self, search: PromiseSearch) -> list[Promise]:
        origin = search.tags.get("resonate:origin")
        statement = statements.SEARCH_PROMISES if origin is None else statements.SEARCH_PROMISES_OF_ORIGIN
        query = {
            "state": search.state and search.state.value,
            "tags": msgspec.json.encode(search.tags).decode(),
            "origin": origin,
            "after": search.cursor or "",
            "limit": search.limit + 1,
        }
        return [_promise(row) for row in self._db.execute(statement, query)]

    def search_tasks(self, search: TaskSearch) -> list[Task]:
        query = {
            "state": search.state and search.state.value,
            "after": search.cursor or "",
            "limit": search.limit + 1,
        }
        return [_task(row) for row in self._db.execute(statements.SEARCH_TASKS, query)]

    def search_schedules(self, search: ScheduleSearch) -> list[Schedule]:
        tags = msgspec.json.encode(search.tags).decode()
        query = {"tags": tags, "after": search.cursor or "", "limit": search.limit + 1}
        return [_schedule(row) for row in self._db.execute(statements.SEARCH_SCHEDULES, query)]

    # --- for those who watch ----------------------------------------------------------------------------------------

    def recent_roots(self, state: PromiseState | None, before: Place | None) -> Iterator[Promise]:
        states = list(PromiseState) if state is None else [state]
        return heapq.merge(*(self._recent_roots(each, before) for each in states), key=_newness, reverse=True)

    def _recent_roots(self, state: PromiseState, before: Place | None) -> Iterator[Promise]:
        query = {
            "state": state.value,
            "created_at": MAX_INTEGER if before is None else before.created_at,
            "id": "" if before is None else before.id,
        }
        return map(_promise, self._db.execute(statements.RECENT_ROOTS, query))

    def count_pending_roots(self, limit: int) -> int:
        (count,) = self._db.execute(statements.COUNT_PENDING_ROOTS, (limit,)).fetchone()
        return int(count)

    def tree(self, root: str, after: str) -> Iterator[Branch]:
        for row in self._db.execute(statements.TREE, {"root": root, "after": after}):
            task = self._db.execute(statements.GET_TASK, (row[0],)).fetchone()
            awaits = [id for (id,) in self._db.execute(statements.AWAITED, (row[0],))]
            yield Branch(_promise(row), None if task is None else _task(task), awaits)

    def occupation(self) -> Occupation:
        return Occupation(
            queued=dict(self._db.execute(statements.COUNT_QUEUED, (MAX_COUNTED,))),
            held=dict(self._db.execute(statements.COUNT_HELD, (MAX_COUNTED,))),
        )

    def count_tasks(self) -> Counter[TaskState]:
        return Counter({TaskState(state): count for state, count in self._db.execute(statements.COUNT_TASKS)})

    def snapshot(self) -> Snapshot:
        return Snapshot(
            promises=[_promise(row) for row in self._db.execute(statements.ALL_PROMISES)],
            tasks=[_task(row) for row in self._db.execute(statements.ALL_TASKS)],
            callbacks=[
                PutCallback(awaited=awaited, awaiter=awaiter, fired=bool(fired))
                for awaited, awaiter, fired in self._db.execute(statements.ALL_CALLBACKS)
            ],
            listeners=[
                PutListener(awaited=awaited, address=address)
                for awaited, address in self._db.execute(statements.ALL_LISTENERS)
            ],
            unblocks=self.unblocks(),
        )

    def reset(self) -> None:
        for table in statements.TABLES:
            self._db.execute(f"DELETE FROM {table}")  # noqa: S608  a constant


def _open(path: Path, synchronous: Synchronous) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=2, cached_statements=64)
    try:
        # Held until close: a second server on the same file fails at its start instead of spoiling the first one's
        # view.
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        is_new = _is_new(db, path)
        db.executescript(statements.PRAGMAS)
        db.execute(f"PRAGMA synchronous = {synchronous}")
        if is_new:
            db.executescript(f"BEGIN EXCLUSIVE; {statements.SCHEMA} COMMIT;")
        db.execute("BEGIN EXCLUSIVE")
        db.execute(statements.INDEX_FOR_WATCHING)
        db.execute("COMMIT")
        db.create_function("has_tags", 2, _has_tags, deterministic=True)
    except BaseException:
        db.close()
        raise
    return db


def _is_new(db: sqlite3.Connection, path: Path) -> bool:
    """Whether the file is empty. Raises before anything is changed if it holds something that is not ours."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    columns = _columns(db)
    if version == 0 and not columns:
        return True
    if version != statements.SCHEMA_VERSION or columns != _own_columns():
        raise StoreUnusable(f"{path} was made by another version or another program; move it away to begin anew")
    return False


def _own_columns() -> set[tuple[str, str]]:
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(statements.SCHEMA)
        return _columns(db)


def _columns(db: sqlite3.Connection) -> set[tuple[str, str]]:
    """Every column of every table."""
    return set(db.execute(statements.COLUMNS))


def _has_tags(present: str, wanted: str) -> bool:
    """SQL function: every pair of the JSON object ``wanted`` is in ``present``.

    SQLite's own JSON functions stop at NUL.
    """
    tags = _tags.decode(present)
    return all(tags.get(name) == value for name, value in _tags.decode(wanted).items())


def _promise_row(promise: Promise) -> tuple[Any, ...]:
    return (
        promise.id,
        promise.state.value,
        msgspec.json.encode(promise.param),
        msgspec.json.encode(promise.value),
        msgspec.json.encode(promise.tags).decode(),
        promise.timeout_at,
        promise.created_at,
        None if promise.settled_at is UNSET else promise.settled_at,
        promise.branch,
        promise.parent,
        promise.origin,
    )


_values = msgspec.json.Decoder(Value)
_tags = msgspec.json.Decoder(Tags)


def _promise(row: Any) -> Promise:
    id, state, param, value, tags, timeout_at, created_at, settled_at = row
    return Promise(
        id=id,
        state=PromiseState(state),
        param=_values.decode(param),
        value=_values.decode(value),
        tags=_tags.decode(tags),
        timeout_at=timeout_at,
        created_at=created_at,
        settled_at=UNSET if settled_at is None else settled_at,
    )


def _newness(promise: Promise) -> tuple[int, str]:
    return promise.created_at, promise.id


def _schedule_row(schedule: Schedule) -> tuple[Any, ...]:
    return (
        schedule.id,
        schedule.cron,
        schedule.promise_id,
        schedule.promise_timeout,
        msgspec.json.encode(schedule.promise_param),
        msgspec.json.encode(schedule.promise_tags).decode(),
        schedule.created_at,
        schedule.next_run_at,
        None if schedule.last_run_at is UNSET else schedule.last_run_at,
    )


def _schedule(row: Any) -> Schedule:
    id, cron, promise_id, promise_timeout, param, tags, created_at, next_run_at, last_run_at = row
    return Schedule(
        id=id,
        cron=cron,
        promise_id=promise_id,
        promise_timeout=promise_timeout,
        promise_param=_values.decode(param),
        promise_tags=_tags.decode(tags),
        created_at=created_at,
        next_run_at=next_run_at,
        last_run_at=UNSET if last_run_at is None else last_run_at,
    )


def _task_row(task: Task) -> tuple[Any, ...]:
    address = parse_address(task.target)
    return (
        task.id,
        task.target,
        task.state.value,
        task.version,
        task.resumes,
        task.ttl,
        task.pid,
        task.claim,
        task.timer_at,
        task.queued,
        task.releases,
        task.lost_at,
        address.group if isinstance(address, PollAddress) else None,
    )


def _task(row: Any) -> Task:
    id, target, state, version, resumes, ttl, pid, claim, timer_at, queued, releases, lost_at = row
    return Task(
        id=id,
        target=target,
        state=TaskState(state),
        version=version,
        resumes=resumes,
        ttl=ttl,
        pid=pid,
        claim=claim,
        timer_at=timer_at,
        queued=bool(queued),
        releases=releases,
        lost_at=lost_at,
    )
