"""The unit of work: decides on rows in memory or in the file, and writes what was decided.

Synchronous, and used by one thread at a time. Assumes a single server process; the file is locked while it is open.
With ``synchronous="FULL"`` a committed transaction is on disk and survives a power cut.
"""

import heapq
import shutil
import sqlite3
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, override

from msgspec.structs import astuple, replace

from resonate_server.kernel.model import (
    Changes,
    Decision,
    Due,
    Footprint,
    LinkFootprint,
    Rows,
    Rule,
    Spreading,
    Task,
    Unread,
)
from resonate_server.kernel.settlement import projected
from resonate_server.kernel.sizes import MAX_PRELOAD, fitting, is_read, weight
from resonate_server.protocol.messages import OwedUnblock, Unblock, UnblockKey
from resonate_server.protocol.records import Promise, PromiseState, TaskState
from resonate_server.protocol.requests import MAX_INTEGER
from resonate_server.store import Decided, DiskUse, rows
from resonate_server.store.errors import StoreFailed, StoreLost, StoreUnusable
from resonate_server.store.found import FIRST, Dropped, Place, SettledRoot
from resonate_server.store.links import Links, add_links
from resonate_server.store.rows import Row
from resonate_server.store.shared_sql import SETTLED_ROOTS
from resonate_server.store.sqlite import statements
from resonate_server.store.sqlite.backup import make_copy, remove_leftovers
from resonate_server.store.sqlite.cache import CACHE_BYTES, Cache, Entry
from resonate_server.store.sqlite.clock import ClockMark
from resonate_server.store.sqlite.file import (
    IN_MEMORY,
    Synchronous,
    close_file,
    close_unfolded,
    open_file,
)
from resonate_server.store.sqlite.lock import PathLock, PathTaken
from resonate_server.store.sqlite.log import Log
from resonate_server.store.sqlite.sessions import FileIdentity, advice, fold, log_of
from resonate_server.store.view import View

MAX_FORGOTTEN = 500
"""Delivered messages that one commit deletes at most."""

MAX_QUICK_BYTES = 1_024 * 1_024
"""Payloads of this size take a millisecond to write to the log."""

MIN_FREE_PAGES = 512
"""1 MiB. Less is not returned to the disk, because new rows will soon need it."""

_ARMED, _UNARMED = (PromiseState.PENDING, 1), (PromiseState.PENDING, 0)
"""Parts of the index of roots: pending ones with a timer at their deadline, and pending internal ones."""

type Statement = tuple[str, Sequence[Any]]
"""SQL and its parameters."""


class Database(View):
    """Raises :class:`StoreUnusable` if the file cannot be opened. ``cache_bytes``: approximate limit of the cache.

    A transaction begins with the first write after the previous one ended. Reads see all earlier writes, and raise
    ``sqlite3.Error`` if the disk or the file is damaged. After a :meth:`write` that failed halfway, only
    :meth:`rollback` is possible.
    """

    _sql = statements

    def __init__(self, path: Path, synchronous: Synchronous = "FULL", cache_bytes: int = CACHE_BYTES) -> None:
        # SQLite keeps its log beside the target of a symbolic link.
        self._path = path = path if path == IN_MEMORY else path.resolve()
        self._lock = None if path == IN_MEMORY else _lock(path)
        try:
            if path != IN_MEMORY:
                remove_leftovers(path)
            self._db = open_file(path)
        except (sqlite3.Error, OSError) as error:
            self._unlock()
            raise StoreUnusable(f"cannot use {path}: {error}{advice(path, error)}") from error
        except BaseException:
            self._unlock()
            raise
        self._identity = None if path == IN_MEMORY else FileIdentity(path, self._db)
        self._log = None if path == IN_MEMORY else Log(log_of(path), self._db)
        self._is_synchronous = synchronous == "FULL"
        self._copying = threading.Lock()
        self._closing = threading.Event()
        self._cache = Cache(cache_bytes)
        self._delivered: deque[UnblockKey] = deque()
        """``unblock`` messages to delete."""
        self._absent: set[str] = set()
        """Ids that do not exist, as this transaction has found."""
        self._not_kept = ""
        """The error, if the disk failed to sync the log."""
        self._payload_bytes = 0
        """Bytes of payloads that this transaction has written."""
        self._has_begun = False
        """A transaction is under way, unless SQLite has undone it: it does so when it cannot read or write a page."""
        self._has_failed = False
        """A write has failed, so the transaction can only be rolled back."""

    # --- transactions -----------------------------------------------------------------------------------------------

    def decide(self, footprint: Footprint, rule: Rule, now: int) -> Decided:
        """See :meth:`resonate_server.store.Store.decide`; ``now`` in ms. If it raises, nothing has changed."""
        now = now if rule.at is None else rule.at
        rows = Rows()
        asked: Footprint | LinkFootprint | Decision = footprint
        while not isinstance(asked, Decision):
            if isinstance(asked, Footprint):
                self._load(rows, asked, now)
            else:
                self.load_links(rows, asked)
            rows.asked.append(asked)
            asked = rule.decide(rows, now)
        self._keep(asked, now)
        return Decided(now, rows, asked, rule.request)

    def _keep(self, decision: Decision, now: int) -> None:
        if decision.changes:
            self.write(decision.changes)
        for message in decision.messages:
            if isinstance(message, Unblock):
                self.put_unblock(message, now)

    def flush(self) -> bool:
        """End the transaction's writes; return whether there is something to :meth:`commit`.

        Nothing is durable yet. After any exception, such as :class:`StoreFailed`, only :meth:`rollback` is possible.
        """
        self._check_transaction()
        if self._has_begun and self._delivered:
            self._forget_delivered(MAX_FORGOTTEN)
        if not self._has_begun:
            self._end()
        return self._has_begun

    def _end(self) -> None:
        """The transaction is over: what it knows may be forgotten."""
        self._absent.clear()
        self._payload_bytes = 0
        self._cache.end_transaction()

    def commit(self) -> None:
        """Call after :meth:`flush`. On return, all writes are durable. After an exception only :meth:`rollback` is
        possible, and after :class:`StoreLost` not even that.

        Waits for the disk. To sync the log in another way, call the parts one by one.
        """
        self.append()
        if self._log is not None and self._is_synchronous:
            try:
                self._log.sync()
            except OSError as error:
                raise self.not_kept(error) from error
        self.synced()
        if self.is_log_full():
            self.fold_log()

    @property
    def is_large(self) -> bool:
        """Whether the writes of the transaction take a while to :meth:`append`."""
        return self._payload_bytes > MAX_QUICK_BYTES

    @property
    def log_to_sync(self) -> int | None:
        """Descriptor of the log, if it must be synced before a commit is durable; else ``None``."""
        return self._log.descriptor if self._log is not None and self._is_synchronous else None

    def append(self) -> None:
        """The first part of :meth:`commit`: append the writes to the log, which is not on disk yet.

        A log that was cut short would have its old size again, with a gap.
        """
        if self._identity is not None:
            self._identity.check_log()
        if self._has_begun:
            try:
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                raise StoreFailed(str(error)) from error
            self._has_begun = False

    def not_kept(self, error: OSError) -> StoreLost:
        """Return what a failed sync of the log means: the system may drop the data and report success the next time."""
        self._not_kept = f"the disk does not keep what is written: {error.strerror or error}"
        return StoreLost(self._not_kept)

    def synced(self) -> None:
        """The second part; call it once the log is on disk."""
        self._check_identity()
        self._end()

    def is_log_full(self) -> bool:
        """Return whether it is time for the last part, :meth:`fold_log`."""
        with suppress(OSError):  # The commit is valid, even if the disk cannot be read.
            return self._log is not None and self._log.is_full()
        return False

    def fold_log(self) -> None:
        """Fold the log, waiting for the disk. If this fails, commits stay valid, and the next one tries again."""
        with suppress(sqlite3.Error, OSError):
            self._fold()

    def rollback(self) -> None:
        """Undo all writes since the last commit."""
        self._forget_rows()
        self._has_begun = self._has_failed = False
        self._payload_bytes = 0
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def check(self) -> None:
        """Raise if the database does not answer, :class:`StoreLost` if it is gone."""
        self._check_identity()
        self._db.execute(statements.CHECK).fetchone()

    def try_to_write(self) -> None:
        """Write as much as a request needs, where nobody reads it, so that the commit shows whether there is room."""
        self._change([(statements.TRY_TO_WRITE, ())])

    def clock_mark(self) -> ClockMark | None:
        """Return the last mark that was stored."""
        row = self._query(statements.GET_CLOCK_MARK).fetchone()
        return None if row is None else ClockMark(*row)

    def latest_row(self) -> int:
        """Return the latest time (ms) at which the server's clock may have stood when a row was written."""
        (time,) = self._query(statements.LATEST_ROW).fetchone()
        return int(time)

    def put_clock_mark(self, mark: ClockMark) -> None:
        """Store ``mark`` with the other writes."""
        self._change([(statements.PUT_CLOCK_MARK, astuple(mark))])

    def _check_identity(self) -> None:
        if self._not_kept:
            raise StoreLost(self._not_kept)
        if self._identity is not None:
            self._identity.check()

    def backup(self, is_abandoned: Callable[[], bool] = lambda: False) -> Path | None:
        """Copy the database. Call it on another thread: reads and writes may continue meanwhile."""
        if self._path == IN_MEMORY:
            return None
        with self._copying:
            return make_copy(self._db, self._path, lambda: self._closing.is_set() or is_abandoned())

    def close(self) -> None:
        """Release files and locks; the database cannot be used afterwards."""
        self._closing.set()
        with self._copying:
            self._close_file()
        self._unlock()

    def _close_file(self) -> None:
        """Write nothing to a file that is no longer ours: leave it as after a crash."""
        try:
            self.rollback()
            self._check_identity()
        except (sqlite3.Error, StoreLost):
            close_unfolded(self._db)
        else:
            close_file(self._db)
        if self._log is not None:
            self._log.close()

    def _fold(self) -> None:
        try:
            fold(self._db)
        finally:
            if self._identity is not None:
                self._identity.accept_fold()

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.release()

    def _check_transaction(self) -> None:
        if self._has_failed or (self._has_begun and not self._db.in_transaction):
            raise StoreFailed("an earlier statement of this transaction has failed")

    def _change(self, changes: Iterable[Statement]) -> None:
        """A failure leaves the transaction half done, so it can only be rolled back."""
        self._check_transaction()
        self._has_failed = True
        try:
            self._begin()
            execute = self._db.cursor().execute  # One cursor for all: to make one takes an eighth of a statement.
            for statement, parameters in changes:
                execute(statement, parameters)
        except sqlite3.Error as error:
            raise StoreFailed(str(error)) from error
        self._has_failed = False

    def _begin(self) -> None:
        if not self._has_begun:
            self._db.execute("BEGIN IMMEDIATE")
            self._has_begun = True

    def _query(self, statement: str, parameters: Any = ()) -> sqlite3.Cursor:
        self._check_transaction()
        return self._db.execute(statement, parameters)

    _stream = _query

    def _ids_of(self, statement: str, parameters: Any) -> list[str]:
        return [id for (id,) in self._query(statement, parameters)]

    def _forget_rows(self) -> None:
        self._cache.clear()
        self._absent.clear()

    # --- reading rows -----------------------------------------------------------------------------------------------

    def load(self, footprint: Footprint) -> Rows:
        loaded = Rows()
        self._load(loaded, footprint, now=0)
        return loaded

    def _load(self, loaded: Rows, footprint: Footprint, now: int) -> None:
        if footprint.due:
            loaded.due = self.due(now, footprint.due)
        for id in footprint.ids:
            entry = self._load_pair(id, loaded)
            if entry is not None and id in footprint.shown:
                loaded.promises[id] = self._whole_promise(entry)
        if footprint.preload_for is not None:
            loaded.preload = self._preload(footprint.preload_for, footprint.branch)
            for promise in loaded.preload:
                if promise.id in loaded.promises:
                    loaded.promises[promise.id] = promise
        if footprint.schedule is not None:
            for row in self._query(statements.GET_SCHEDULE, (footprint.schedule,)):
                loaded.schedules[footprint.schedule] = rows.schedule(row)

    def load_links(self, loaded: Rows, footprint: LinkFootprint) -> None:
        """Add the links that ``footprint`` names to ``loaded``, with the awaiters and what listeners are to get."""
        told = add_links(loaded, footprint, self._links, lambda id: self.weigh([id]))
        for id in [id for awaiters in loaded.awaiters.values() for id in awaiters]:
            self._load_pair(id, loaded)
        for id in told:
            if (entry := self._entry(id)) is not None:
                loaded.promises[id] = self._whole_promise(entry)

    def _links(self, spreading: Spreading, limit: int) -> Links:
        id = spreading.promise_id
        awaiters = self._ids_of(statements.GET_AWAITERS, (id, spreading.after, limit + 1))
        return awaiters, self._ids_of(statements.GET_LISTENERS, (id, limit + 1 - len(awaiters)))

    def weigh(self, ids: Iterable[str]) -> int:
        """Estimate how many bytes the promises of ``ids`` take in an answer. Reads no payload."""
        return sum(weight(entry.promise) for entry in map(self._entry, ids) if entry is not None)

    def _load_pair(self, id: str, loaded: Rows) -> Entry | None:
        entry = self._entry(id)
        if entry is not None:
            loaded.promises.setdefault(id, entry.promise)
            if entry.task is not None:
                loaded.tasks[id] = entry.task
        return entry

    def _entry(self, id: str) -> Entry | None:
        entry = self._cache.get(id)
        if entry is not None or id in self._absent:
            return entry
        row = self._query(statements.GET_PAIR, (id,)).fetchone()
        if row is None:
            self._absent.add(id)
            return None
        return self._cache.put(*rows.pair(row))

    def _whole_promise(self, entry: Entry) -> Promise:
        """Return the promise with its payloads."""
        promise = entry.promise
        if is_read(promise):
            return promise
        whole = rows.promise(self._query(statements.GET_WHOLE_PROMISE, (promise.id,)).fetchone())
        self._cache.replace(entry, whole)
        return whole

    def _preload(self, task_id: str, branch: str | None) -> list[Promise]:
        """A stored branch takes precedence. One more than is sent: the task's own promise is among them."""
        own = self._entry(task_id)
        branch = own.promise.branch if own is not None else branch
        query = {"task": task_id, "branch": branch or None, "limit": MAX_PRELOAD + 1}
        related = self._ids_of(statements.GET_RELATED, query)
        entries = [entry for id in related if id != task_id and (entry := self._entry(id)) is not None]
        return self._read_what_fits(entries)

    def _read_what_fits(self, entries: list[Entry]) -> list[Promise]:
        promises = [entry.promise for entry in entries]
        if all(map(is_read, promises)):
            return promises
        chosen = {promise.id for promise in fitting(promises)}
        return [self._whole_promise(entry) for entry in entries if entry.promise.id in chosen]

    # --- writing rows -----------------------------------------------------------------------------------------------

    def write(self, changes: Changes) -> None:
        """Write rows, as far as :class:`Changes` says that they count, and apply the link changes in order."""
        # All rows are built first, so that one that cannot be built fails before anything has changed.
        self._change(list(self._statements(changes)))
        for promise in changes.promises.values():
            self._keep_promise(promise)
        for task in changes.tasks.values():
            self._keep_task(task)

    def _statements(self, changes: Changes) -> Iterator[Statement]:
        for id, promise in changes.promises.items():
            is_new = self._cache.get(id) is None
            *row, param, value = rows.whole_promise_row(promise, changes.callers.get(id), with_param=is_new)
            yield statements.PUT_PROMISE if is_new else statements.UPDATE_PROMISE, row
            yield from self._payload(statements.PUT_PARAM, id, param)
            yield from self._payload(statements.PUT_VALUE, id, value)
        for task in changes.tasks.values():
            yield statements.PUT_TASK, rows.task_row(task)
        for link in changes.links:
            yield statements.LINKS[type(link)], rows.link_row(link)
        for id, schedule in changes.schedules.items():
            if schedule is None:
                yield statements.DROP_SCHEDULE_PARAM, (id,)
                yield statements.DROP_SCHEDULE, (id,)
            else:
                *row, param = rows.whole_schedule_row(schedule)
                yield statements.PUT_SCHEDULE, row
                yield from self._payload(statements.PUT_SCHEDULE_PARAM, id, param)

    def _payload(self, statement: str, id: str, data: bytes | None) -> Iterator[Statement]:
        if data is not None:
            self._payload_bytes += len(data)
            yield statement, (data, id)

    def _keep_promise(self, promise: Promise) -> None:
        entry = self._cache.get(promise.id)
        if entry is not None:
            self._cache.replace(entry, promise)
        elif promise.id in self._absent:
            self._cache.put(promise)

    def _keep_task(self, task: Task) -> None:
        entry = self._cache.get(task.id)
        if entry is not None:
            entry.task = task

    # --- unblock messages -------------------------------------------------------------------------------------------

    def put_unblock(self, unblock: Unblock, now: int) -> None:
        """Store ``unblock`` until it is :meth:`delivered`; one per promise and address. ``now`` in ms."""
        self._change([(statements.PUT_UNBLOCK, rows.unblock_row(unblock, now))])

    def delivered(self, key: UnblockKey) -> None:
        """Forget an ``unblock`` with the next commit, or before it would be read again. Any thread may call this."""
        self._delivered.append(key)

    def _forget_delivered(self, limit: int) -> None:
        number = min(limit, len(self._delivered))
        self._change([(statements.DROP_UNBLOCK, self._delivered.popleft()) for _ in range(number)])

    def drop_unblocks_before(self, time: int) -> None:
        self._change([(statements.DROP_UNBLOCKS_BEFORE, (time,))])

    @override
    def unblocks(self, group: str, member: str, after: int) -> Iterator[OwedUnblock]:
        """Bypass the cache: the promises are large, many, and read once."""
        if self._delivered:
            self._forget_delivered(len(self._delivered))
        yield from super().unblocks(group, member, after)

    # --- time -------------------------------------------------------------------------------------------------------

    def due(self, now: int, limit: int) -> Due:
        """Return what is due, oldest first: up to ``limit`` each of promises, tasks, schedules, and settlements that
        are still spreading."""
        return Due(
            promises=tuple(id for (id,) in self._query(statements.DUE_PROMISES, (now, limit))),
            tasks=tuple(id for (id,) in self._query(statements.DUE_TASKS, (now, limit))),
            schedules=tuple(rows.schedule(row) for row in self._query(statements.DUE_SCHEDULES, (now, limit))),
            spreading=tuple(Spreading(*row) for row in self._query(statements.GET_SPREADING, (limit,))),
        )

    def next_due(self) -> int | None:
        """Return the time (ms) before which :meth:`due` finds nothing, or ``None`` if it never will."""
        (time,) = self._query(statements.NEXT_DUE).fetchone()
        return None if time is None else int(time)

    def drop_settled_trees(self, before: int, limit: int, after: SettledRoot = FIRST) -> Dropped:
        """Visit up to ``limit`` trees whose root settled before ``before`` (ms), oldest first, from after ``after`` on;
        delete those that settled completely before then and owe no message."""
        settled_at, id = after
        query = {"before": before, "limit": limit, "settled_at": settled_at, "id": id}
        found = self._query(statements.own(SETTLED_ROOTS), query).fetchall()
        roots = [id for _, id, may_go in found if may_go]
        if roots:
            self._begin_deleting()
        return Dropped(
            tasks=sum(map(self._drop_tree, roots)),
            last=found[-1][:2] if len(found) == limit else None,
        )

    def _drop_tree(self, root: str) -> int:
        """Delete a tree; return how many tasks it had."""
        for statement in statements.DROP_LINKS_OF_TREE:
            self._db.execute(statement, {"root": root})
        tasks = self._db.execute(statements.DROP_TASKS_OF_TREE, {"root": root}).rowcount
        for statement in statements.DROP_PROMISES_OF_TREE:
            self._db.execute(statement, {"root": root})
        return tasks

    def give_back(self) -> bool:
        """Return some of the space of deleted rows to the disk, if there is much; tell whether there may be more.

        Call it outside of a transaction.
        """
        pages, free = self._query(statements.COUNT_PAGES).fetchone()
        if self._identity is None or free < max(MIN_FREE_PAGES, pages // 4):
            return False
        self._db.execute(statements.GIVE_BACK).fetchall()
        self._fold()
        _, still_free = self._query(statements.COUNT_PAGES).fetchone()
        return bool(still_free < free)

    def reset(self) -> Counter[TaskState]:
        """Delete everything; return how many tasks there were in each state."""
        there_were = self.count_tasks()
        self._begin_deleting()
        self._delivered.clear()  # New promises may have the same ids.
        for table in statements.TABLES:
            self._db.execute(f"DELETE FROM {table}")  # noqa: S608  a constant
        return there_were

    def _begin_deleting(self) -> None:
        """Empty the cache: rows are about to be deleted in the database itself."""
        self._check_transaction()
        self._forget_rows()
        self._begin()

    # --- for viewers ------------------------------------------------------------------------------------------------

    def recent_roots(self, state: PromiseState | None, before: Place | None, now: int) -> Iterator[Promise]:
        """Merge the parts of the index that may have such roots: an internal one whose deadline has passed is still
        stored as pending."""
        lists = [(each, 0) for each in PromiseState if state in (None, each)]
        lists += {None: [_ARMED], PromiseState.PENDING: [_ARMED], PromiseState.TIMEDOUT: [_UNARMED]}.get(state, [])
        roots = heapq.merge(*(self._recent_roots(*each, before) for each in lists), key=_newness, reverse=True)
        return (projected(self._with_param(root), now) for root in roots)

    def _with_param(self, promise: Promise) -> Promise:
        if not isinstance(promise.param, Unread):
            return promise
        (data,) = self._query(statements.GET_PARAM, (promise.id,)).fetchone()
        return replace(promise, param=rows.payload(data))

    def _recent_roots(self, state: PromiseState, armed: int, before: Place | None) -> Iterator[Promise]:
        query = {
            "state": state.value,
            "armed": armed,
            "created_at": MAX_INTEGER if before is None else before.created_at,
            "id": "" if before is None else before.id,
        }
        return map(rows.promise, self._query(statements.RECENT_ROOTS, query))

    def _whole_promises(self, ids: list[str]) -> Iterator[Row]:
        return (row for id in ids for row in self._query(statements.GET_WHOLE_PROMISE, (id,)))

    def _branches(self, ids: list[str]) -> Iterator[tuple[Row, Row | None, list[str]]]:
        for promise in self._whole_promises(ids):
            awaits = self._query(statements.GET_AWAITED, promise[:1])
            yield promise, self._query(statements.GET_TASK, promise[:1]).fetchone(), [id for (id,) in awaits]

    def groups_with_waiting_tasks(self, limit: int) -> list[str]:
        both = (statements.GROUPS_WITH_QUEUED, statements.GROUPS_WITH_SET_ASIDE)
        return sorted({name for statement in both for (name,) in self._query(statement, {"limit": limit})})[:limit]

    def disk_use(self) -> DiskUse | None:
        if self._path == IN_MEMORY:
            return None
        log = log_of(self._path)
        free = shutil.disk_usage(self._path.parent).free
        return DiskUse(self._path.stat().st_size, log.stat().st_size if log.exists() else 0, free)


def _lock(path: Path) -> PathLock:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return PathLock(path)
    except (PathTaken, OSError) as error:
        raise StoreUnusable(f"cannot use {path}: {error}") from error


def _newness(promise: Promise) -> tuple[int, str]:
    return promise.created_at, promise.id
