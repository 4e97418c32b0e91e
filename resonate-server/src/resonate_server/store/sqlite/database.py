"""The unit of work: what was written is kept in memory until the transaction ends or a query needs it in the
database, and is then written at once.

Synchronous, and used by one thread at a time. It assumes a single server process; the file is locked for as long as it
is open. With ``synchronous="FULL"`` a transaction that was committed is on disk and survives a power cut.
"""

import heapq
import shutil
import sqlite3
import threading
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, override

import msgspec
from msgspec.structs import replace

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
    Unread,
)
from resonate_server.kernel.preload import MAX_PRELOAD, fitting, is_read
from resonate_server.kernel.settlement import projected
from resonate_server.kernel.weight import weight
from resonate_server.protocol.messages import OwedUnblock, Unblock, UnblockKey
from resonate_server.protocol.records import Promise, PromiseState, Schedule
from resonate_server.protocol.requests import MAX_INTEGER, ScheduleSearch, Search, TaskSearch
from resonate_server.store import MAX_TOLD_BYTES, Branch, Decided, DiskUse, Place, rows
from resonate_server.store.errors import StoreFailed, StoreLost
from resonate_server.store.portions import FIRST, Dropped, SettledRoot
from resonate_server.store.sql_view import SqlView
from resonate_server.store.sqlite import statements
from resonate_server.store.sqlite.backup import copy_database
from resonate_server.store.sqlite.cache import CACHE_BYTES, Cache, Entry, Family, new_entry, without_large_payloads
from resonate_server.store.sqlite.clock import ClockMark
from resonate_server.store.sqlite.file import (
    IN_MEMORY,
    StoreUnusable,
    Synchronous,
    close_file,
    close_unfolded,
    open_file,
)
from resonate_server.store.sqlite.identity import FileIdentity
from resonate_server.store.sqlite.lock import PathLock, PathTaken
from resonate_server.store.sqlite.log import Log
from resonate_server.store.sqlite.sessions import advice, fold, log_of
from resonate_server.store.sqlite.unwritten import Operation, Unwritten

MAX_FORGOTTEN = 500
"""Delivered messages that one commit forgets."""

MAX_QUICK_BYTES = 1_024 * 1_024
"""Of payloads: to write them to the log takes a millisecond."""

MIN_FREE_PAGES = 512
"""1 MiB: what new rows will soon need is not given back."""

_ARMED, _UNARMED = (PromiseState.PENDING, 1), (PromiseState.PENDING, 0)
"""Lists of roots: those whose deadline is an alarm, and those that are internal."""

_UNKNOWN = 0
_NEVER = 2**63


class Database(SqlView):
    """Raises :class:`StoreUnusable` if the file cannot be opened. ``cache_bytes``: about what one generation of the
    cache may take.

    A transaction begins with the first write after the last one's end. All reads see what was written before. A
    :meth:`write` that raises has changed nothing.
    """

    _sql = statements

    def __init__(self, path: Path, synchronous: Synchronous = "FULL", cache_bytes: int = CACHE_BYTES) -> None:
        # SQLite has its log beside the file that a symbolic link leads to.
        self._path = path = path if path == IN_MEMORY else path.resolve()
        self._lock = None if path == IN_MEMORY else _lock(path)
        try:
            self._db = open_file(path)
        except (sqlite3.Error, OSError) as error:
            self._unlock()
            raise StoreUnusable(f"cannot use {path}: {error}{advice(path, error)}") from error
        except BaseException:
            self._unlock()
            raise
        self._identity = None if path == IN_MEMORY else FileIdentity(path)
        self._log = None if path == IN_MEMORY else self._open_log()
        self._is_synchronous = synchronous == "FULL"
        self._copying = threading.Lock()
        self._closing = threading.Event()
        self._cache = Cache(cache_bytes)
        self._unwritten = Unwritten()
        self._delivered: deque[UnblockKey] = deque()
        """``unblock`` messages to be forgotten."""
        self._absent: set[str] = set()
        """Ids that this transaction has found not to exist."""
        self._not_kept = ""
        """What the disk said, if it failed to sync the log."""
        self._payload_bytes = 0
        """Of what this transaction has written."""
        self._lost = False
        """A statement has failed: the transaction can only be rolled back."""
        self._alarm = _UNKNOWN
        """Nothing is due before this time (ms)."""

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
        """Hand everything written to the database; tells whether there is something to :meth:`commit`.

        Not durable yet. An exception, :class:`StoreFailed` or another, means that only :meth:`rollback` is left.
        """
        self._write_out()
        if self._db.in_transaction and self._delivered:
            self._forget_delivered(MAX_FORGOTTEN)
            self._write_out()
        return self._db.in_transaction

    def commit(self) -> None:
        """After :meth:`flush`: on return, what was written is durable; an exception leaves only :meth:`rollback`, and
        :class:`StoreLost` not even that.

        It waits for the disk. Whoever has the :attr:`log` synced without that calls its parts one by one.
        """
        self.append()
        if self._log is not None and self._is_synchronous:
            with self.syncing():
                self._log.sync()
        self.synced()
        if self.is_log_full():
            self.fold_log()

    @property
    def is_large(self) -> bool:
        """Whether what the transaction has written takes a while to :meth:`append`."""
        return self._payload_bytes > MAX_QUICK_BYTES

    @property
    def log_to_sync(self) -> int | None:
        """Descriptor of what must be on disk before a commit is durable; ``None`` if it need not be, or is nowhere."""
        return self._log.descriptor if self._log is not None and self._is_synchronous else None

    def append(self) -> None:
        """The first part of :meth:`commit`: what was written goes to the log, which is not on disk yet."""
        if self._db.in_transaction:
            with _as_store_failures():
                self._db.execute("COMMIT")

    @contextmanager
    def syncing(self) -> Iterator[None]:
        """Around whatever has the log synced. Raises :class:`StoreLost` instead of ``OSError``: the system may forget
        what it could not write, and say the next time that all is well.
        """
        try:
            yield
        except OSError as error:
            self._not_kept = f"the disk does not keep what is written: {error.strerror or error}"
            raise StoreLost(self._not_kept) from error

    def synced(self) -> None:
        """The second part, once the log is on disk."""
        self._check_identity()
        self._absent.clear()
        self._payload_bytes = 0
        self._cache.age()

    def is_log_full(self) -> bool:
        """Whether it is time for the last part, :meth:`fold_log`."""
        return self._log is not None and self._log.is_full()

    def fold_log(self) -> None:
        """Waits for the disk. What is committed stays so if this fails; the next commit tries again."""
        with suppress(sqlite3.Error, OSError):
            self._fold()

    def rollback(self) -> None:
        """What was written since the last commit never happened."""
        self._unwritten.clear()
        self._forget_rows()
        self._lost = False
        self._payload_bytes = 0
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def check(self) -> None:
        """Raise if the database does not answer, :class:`StoreLost` if it is not there any more."""
        self._check_identity()
        with _as_store_failures():
            self._db.execute(statements.CHECK).fetchone()

    def try_to_write(self) -> None:
        """Write what no reader looks at, and as much as a request needs: the commit tells whether there is room."""
        self._unwritten.operations.append((statements.TRY_TO_WRITE, ()))

    def clock_mark(self) -> ClockMark | None:
        """The last one that was kept."""
        row = self._query(statements.GET_CLOCK_MARK).fetchone()
        return None if row is None else ClockMark(*row)

    def put_clock_mark(self, mark: ClockMark) -> None:
        """Keep it with what is written otherwise."""
        self._unwritten.operations.append((statements.PUT_CLOCK_MARK, (mark.time, mark.uptime, mark.boot)))

    def _check_identity(self) -> None:
        if self._not_kept:
            raise StoreLost(self._not_kept)
        if self._identity is not None:
            self._identity.check()

    def backup(self) -> Path | None:
        """The one method for another thread: reads and writes may go on meanwhile."""
        if self._path == IN_MEMORY:
            return None
        target = self._path.with_name(self._path.name + ".backup")
        with self._copying:
            target.unlink(missing_ok=True)
            try:
                copy_database(self._db, target, self._closing.is_set)
            except BaseException:
                target.unlink(missing_ok=True)
                raise
        return target

    def close(self) -> None:
        """Release files and locks; the database cannot be used afterwards."""
        self._closing.set()
        with self._copying:
            self._close_file()
        self._unlock()

    def _close_file(self) -> None:
        """One that is not ours any more gets nothing, and is found as after a crash."""
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
        fold(self._db)
        if self._identity is not None:
            self._identity.has_shrunk()

    def _open_log(self) -> Log:
        (page_size,) = self._db.execute(statements.PAGE_SIZE).fetchone()
        return Log(log_of(self._path), page_size)

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.release()

    def _write_out(self) -> None:
        """Some failures (a full disk) make SQLite take back everything by itself, so none of them is gone over."""
        if self._lost:
            raise StoreFailed("an earlier statement of this transaction has failed")
        if not self._unwritten:
            return
        self._lost = True
        with _as_store_failures():
            if not self._db.in_transaction:
                self._db.execute("BEGIN IMMEDIATE")
            self._unwritten.execute(self._db)
        self._lost = False

    def _query(self, statement: str, parameters: Any = ()) -> sqlite3.Cursor:
        """Ask the database, once it knows everything."""
        self._write_out()
        try:
            return self._db.execute(statement, parameters)
        except sqlite3.Error as error:
            raise StoreFailed(str(error)) from error

    _stream = _query

    def _forget_rows(self) -> None:
        self._cache.clear()
        self._absent.clear()
        self._alarm = _UNKNOWN

    # --- reading rows -----------------------------------------------------------------------------------------------

    def load(self, footprint: Footprint) -> Rows:
        loaded = Rows()
        self._load(loaded, footprint, now=0)
        return loaded

    def _load(self, loaded: Rows, footprint: Footprint, now: int) -> None:
        if footprint.due:
            loaded.due = self.due(now, footprint.due)
        if footprint.leased:
            loaded.leased = tuple(self.acquired_tasks())
        for id in (*footprint.ids, *loaded.leased):
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
        """Add what ``footprint`` names to ``loaded``.

        Which of the promises were loaded with all of theirs, ``loaded.complete`` tells. Those with listeners come with
        their payloads, as far as :data:`MAX_TOLD_BYTES` go.
        """
        limit, room = footprint.limit, MAX_TOLD_BYTES
        for spreading in footprint.spreading:
            if limit <= 0 or room <= 0:
                break
            limit -= self._load_links(loaded, spreading, limit)
            entry = self._entry(spreading.promise_id)
            if entry is not None and loaded.listeners[spreading.promise_id]:
                loaded.promises[spreading.promise_id] = self._whole_promise(entry)
                room -= weight(entry.promise)

    def _load_links(self, loaded: Rows, spreading: Spreading, limit: int) -> int:
        """How many were loaded."""
        id = spreading.promise_id
        awaiters, listeners = self._links(spreading, limit)
        if len(awaiters) + len(listeners) <= limit:
            loaded.complete.add(id)
        loaded.awaiters[id] = awaiters[:limit]
        loaded.listeners[id] = listeners[: max(0, limit - len(awaiters))]
        for awaiter in loaded.awaiters[id]:
            self._load_pair(awaiter, loaded)
        return len(loaded.awaiters[id]) + len(loaded.listeners[id])

    def _links(self, spreading: Spreading, limit: int) -> tuple[list[str], list[str]]:
        """Awaiters and listeners: one more than ``limit``, at least, if there are more."""
        id, after = spreading.promise_id, spreading.after
        entry = self._cache.get(id)
        if entry is not None and entry.callbacks is not None and entry.listeners is not None:
            return sorted(each for each in entry.callbacks if each > after), sorted(entry.listeners)
        awaiters = [awaiter for (awaiter,) in self._query(statements.GET_AWAITERS, (id, after, limit + 1))]
        room = limit + 1 - len(awaiters)
        return awaiters, [address for (address,) in self._query(statements.GET_LISTENERS, (id, room))]

    def weigh(self, ids: Iterable[str]) -> int:
        """About how many bytes the promises of ``ids`` take in an answer; reads no payload."""
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
        # A new id is what is asked for most, so nothing is written out for it.
        query = self._query if self._unwritten.knows(id) else self._db.execute
        row = query(statements.GET_PAIR, (id,)).fetchone()
        if row is None:
            self._absent.add(id)
            return None
        promise, task = rows.pair(row)
        entry = Entry(promise=promise, task=task)
        self._cache.put(entry)
        return entry

    def _whole_promise(self, entry: Entry) -> Promise:
        """With its payloads."""
        promise = entry.promise
        if is_read(promise):
            return promise
        whole = rows.promise(self._query(statements.GET_WHOLE_PROMISE, (promise.id,)).fetchone())
        self._cache.replace(entry, whole)
        return whole

    def _preload(self, task_id: str, branch: str | None) -> list[Promise]:
        own = self._cache.get(task_id)
        branch = own.promise.branch if own is not None else branch
        ids = set(self._members(self._cache.children(task_id), statements.GET_CHILDREN, task_id))
        if branch:
            ids.update(self._members(self._cache.branch(branch), statements.GET_BRANCH, branch))
        ids.discard(task_id)
        entries = [entry for id in sorted(ids) if (entry := self._entry(id)) is not None]
        return self._read_what_fits(entries)

    def _read_what_fits(self, entries: list[Entry]) -> list[Promise]:
        promises = [entry.promise for entry in entries]
        if all(map(is_read, promises)):
            return promises
        chosen = {promise.id for promise in fitting(promises)}
        return [self._whole_promise(entry) for entry in entries if entry.promise.id in chosen]

    def _members(self, family: Family, statement: str, id: str) -> Collection[str]:
        """The ids of the family, or the first of them if there are many."""
        limit = MAX_PRELOAD + 1  # One more than is handed out, because the task's own promise is among them.
        if not family.complete and not family.large:
            # What is not written yet was added to the family by whoever wrote it.
            stored = [member for (member,) in self._db.execute(statement, (id, limit))]
            family.ids.update(stored)
            family.complete = True
        if len(family.ids) >= limit:
            family.give_up()
        if family.large:
            return [member for (member,) in self._query(statement, (id, limit))]
        return family.ids

    # --- writing rows -----------------------------------------------------------------------------------------------

    def write(self, changes: Changes) -> None:
        """Write rows, as far as :class:`Changes` says that they count, and apply the link changes in their order.

        Rows are made first: what cannot be a row is found before anything has changed.
        """
        promise_rows = {id: rows.promise_row(promise) for id, promise in changes.promises.items()}
        params, results = self._payloads(changes.promises)
        task_rows = {id: rows.task_row(task) for id, task in changes.tasks.items()}
        operations = [*map(_link_operation, changes.links), *_schedule_operations(changes)]
        for promise in changes.promises.values():
            self._keep_promise(promise)
        for task in changes.tasks.values():
            self._keep_task(task)
        for link in changes.links:
            self._keep_link(link, changes)
        for schedule in changes.schedules.values():
            self._wake_at(schedule.next_run_at if schedule is not None else None)
        self._unwritten.promises.update(promise_rows)
        self._unwritten.params.update(params)
        self._unwritten.results.update(results)
        self._unwritten.tasks.update(task_rows)
        self._unwritten.operations += operations
        self._payload_bytes += sum(map(len, params.values())) + sum(map(len, results.values()))

    def _payloads(self, promises: dict[str, Promise]) -> tuple[dict[str, bytes], dict[str, bytes]]:
        """Params and values that are to be stored."""
        params, results = {}, {}
        for id, promise in promises.items():
            if self._cache.get(id) is None and (param := rows.payload_data(promise.param)) is not None:
                params[id] = param
            if (value := rows.payload_data(promise.value)) is not None:
                results[id] = value
        return params, results

    def _keep_promise(self, promise: Promise) -> None:
        entry = self._cache.get(promise.id)
        if entry is not None:
            self._cache.replace(entry, promise)
        else:
            self._cache.add_to_families(promise)
            if promise.id in self._absent:
                self._cache.put(new_entry(without_large_payloads(promise)))
        if promise.state is PromiseState.PENDING and promise.is_external:
            self._wake_at(promise.timeout_at)

    def _keep_task(self, task: Task) -> None:
        entry = self._cache.get(task.id)
        if entry is not None:
            entry.task = task
        self._wake_at(task.timer_at)

    def _keep_link(self, link: LinkChange, changes: Changes) -> None:
        match link:
            case DropCallbacks(awaiter=awaiter):
                self._cache.drop_callbacks(awaiter, self._awaited_by(awaiter, changes))
            case PutSpreading():
                self._alarm = _UNKNOWN
            case _:
                self._cache.apply(link)

    def _awaited_by(self, awaiter: str, changes: Changes) -> list[str]:
        """What ``awaiter`` waits for, including what is only now being written."""
        entry = self._cache.get(awaiter)
        if entry is not None and entry.awaits is not None:
            return list(entry.awaits)
        written = [awaited for (awaited,) in self._query(statements.GET_AWAITED, (awaiter,))]
        return written + [link.awaited for link in changes.links if isinstance(link, PutCallback)]

    def _wake_at(self, time: int | None) -> None:
        if time is not None and time < self._alarm:
            self._alarm = time

    # --- what is owed -----------------------------------------------------------------------------------------------

    def put_unblock(self, unblock: Unblock, now: int) -> None:
        """Keep it until it is :meth:`delivered`; one per promise and address. ``now`` in ms."""
        self._unwritten.operations.append((statements.PUT_UNBLOCK, rows.unblock_row(unblock, now)))

    def delivered(self, key: UnblockKey) -> None:
        """Forget an ``unblock`` with the next commit, or before it would be given again. Any thread may call this."""
        self._delivered.append(key)

    def _forget_delivered(self, limit: int) -> None:
        for _ in range(min(limit, len(self._delivered))):
            self._unwritten.operations.append((statements.DROP_UNBLOCK, self._delivered.popleft()))

    def drop_unblocks_before(self, time: int) -> None:
        self._unwritten.operations.append((statements.DROP_UNBLOCKS_BEFORE, (time,)))

    @override
    def unblocks(self, group: str, member: str, after: int) -> Iterator[OwedUnblock]:
        """Past the cache: they are large, many, and read once."""
        self._forget_delivered(len(self._delivered))
        yield from super().unblocks(group, member, after)

    # --- time -------------------------------------------------------------------------------------------------------

    def due(self, now: int, limit: int) -> Due:
        """At most ``limit`` promises and as many tasks and schedules whose time has come, oldest first; and as many
        settlements that are still spreading."""
        if now < self._alarm:
            return Due()
        self._alarm = _UNKNOWN
        return Due(
            promises=tuple(id for (id,) in self._query(statements.DUE_PROMISES, (now, limit))),
            tasks=tuple(id for (id,) in self._query(statements.DUE_TASKS, (now, limit))),
            schedules=tuple(rows.schedule(row) for row in self._query(statements.DUE_SCHEDULES, (now, limit))),
            spreading=self._spreading(statements.GET_SPREADING, limit),
        )

    def _spreading(self, statement: str, *parameters: int) -> tuple[Spreading, ...]:
        return tuple(Spreading(promise_id=id, after=after) for id, after in self._query(statement, parameters))

    def next_due(self) -> int | None:
        """A time (ms) before which :meth:`due` has nothing, or ``None`` if it never will.

        The earliest such time, unless something that was due earlier has been done or changed since it was last asked
        for at that time.
        """
        if self._alarm == _UNKNOWN:
            queries = (
                statements.IS_SPREADING,
                statements.NEXT_DEADLINE,
                statements.NEXT_TIMER,
                statements.NEXT_RUN,
            )
            times = [self._query(query).fetchone()[0] for query in queries]
            self._alarm = min((time for time in times if time is not None), default=_NEVER)
        return None if self._alarm == _NEVER else self._alarm

    def drop_settled_trees(self, before: int, limit: int, after: SettledRoot = FIRST) -> Dropped:
        """Look at up to ``limit`` trees whose root settled before ``before`` (ms), the oldest first, from after one
        on; delete those of which everything settled before then and nothing is owed."""
        settled_at, id = after
        query = {"before": before, "limit": limit, "settled_at": settled_at, "id": id}
        found = self._query(statements.SETTLED_ROOTS, query).fetchall()
        roots = [id for _, id, may_go in found if may_go]
        if roots:
            self._begin_deleting()
        return Dropped(
            tasks=sum(map(self._drop_tree, roots)),
            last=found[-1][:2] if len(found) == limit else None,
        )

    def _drop_tree(self, root: str) -> int:
        """How many tasks were in it."""
        for statement in statements.DROP_LINKS_OF_TREE:
            self._db.execute(statement, {"root": root})
        tasks = self._db.execute(statements.DROP_TASKS_OF_TREE, {"root": root}).rowcount
        for statement in statements.DROP_PROMISES_OF_TREE:
            self._db.execute(statement, {"root": root})
        return tasks

    def give_back(self) -> bool:
        """Give the space of deleted rows back to the disk, some of it, if it is much; tells whether there may be more.

        Outside of a transaction.
        """
        pages, free = self._query(statements.COUNT_PAGES).fetchone()
        if self._identity is None or free < max(MIN_FREE_PAGES, pages // 4):
            return False
        with _as_store_failures():
            self._db.execute(statements.GIVE_BACK).fetchall()
            self._fold()
        _, still_free = self._query(statements.COUNT_PAGES).fetchone()
        return bool(still_free < free)

    def reset(self) -> None:
        """Delete everything there is."""
        self._begin_deleting()
        self._delivered.clear()  # What comes after it may have the same names.
        for table in statements.TABLES:
            self._db.execute(f"DELETE FROM {table}")  # noqa: S608  a constant

    def _begin_deleting(self) -> None:
        """What is deleted in the database itself must not live on here."""
        self._write_out()
        self._forget_rows()
        if not self._db.in_transaction:
            self._db.execute("BEGIN IMMEDIATE")

    # --- search -----------------------------------------------------------------------------------------------------

    def search(self, search: Search, now: int, last: str | None = None) -> Iterator[Promise | Task | Schedule]:
        query: dict[str, object] = {"after": search.cursor or "", "limit": search.limit + 1, "now": now}
        query["last"] = b"" if last is None else last  # To the database a BLOB comes after every text.
        if not isinstance(search, ScheduleSearch):
            query["state"] = search.state and search.state.value
        if isinstance(search, TaskSearch):
            return map(rows.task, self._query(statements.SEARCH_TASKS, query))
        query["tags"] = msgspec.json.encode(search.tags).decode()
        if isinstance(search, ScheduleSearch):
            return map(rows.schedule, self._query(statements.SEARCH_SCHEDULES, query))
        query["origin"] = search.tags.get("resonate:origin")
        of_one = "resonate:origin" in search.tags
        statement = statements.SEARCH_PROMISES_OF_ORIGIN if of_one else statements.SEARCH_PROMISES
        return (projected(rows.promise(row), now) for row in self._query(statement, query))

    # --- for those who watch ----------------------------------------------------------------------------------------

    def recent_roots(self, state: PromiseState | None, before: Place | None, now: int) -> Iterator[Promise]:
        """From the lists in which such roots may stand: an internal one whose deadline has passed is still among those
        that were pending."""
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

    def tree(self, root: str, after: str, now: int) -> Iterator[Branch]:
        for (id,) in self._query(statements.TREE, {"root": root, "after": after}):
            promise = self._query(statements.GET_WHOLE_PROMISE, (id,)).fetchone()
            task = self._query(statements.GET_TASK, (id,)).fetchone()
            awaits = [awaited for (awaited,) in self._query(statements.GET_AWAITED, (id,))]
            yield Branch(projected(rows.promise(promise), now), None if task is None else rows.task(task), awaits)

    def groups_with_waiting_tasks(self, limit: int) -> list[str]:
        both = (statements.GROUPS_WITH_QUEUED, statements.GROUPS_WITH_SET_ASIDE)
        return sorted({name for statement in both for (name,) in self._query(statement, {"limit": limit})})[:limit]

    def disk_use(self) -> DiskUse | None:
        if self._path == IN_MEMORY:
            return None
        log = log_of(self._path)
        free = shutil.disk_usage(self._path.parent).free
        return DiskUse(self._path.stat().st_size, log.stat().st_size if log.exists() else 0, free)


@contextmanager
def _as_store_failures() -> Iterator[None]:
    """What SQLite says of its trouble, as the contract has it."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreFailed(str(error)) from error


def _lock(path: Path) -> PathLock:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return PathLock(path)
    except (PathTaken, OSError) as error:
        raise StoreUnusable(f"cannot use {path}: {error}") from error


def _newness(promise: Promise) -> tuple[int, str]:
    return promise.created_at, promise.id


def _link_operation(link: LinkChange) -> Operation:
    match link:
        case PutCallback(awaited=awaited, awaiter=awaiter):
            return statements.PUT_CALLBACK, (awaited, awaiter)
        case DropCallback(awaited=awaited, awaiter=awaiter):
            return statements.DROP_CALLBACK, (awaited, awaiter)
        case DropCallbacks(awaiter=awaiter):
            return statements.DROP_CALLBACKS, (awaiter,)
        case PutListener(awaited=awaited, address=address):
            return statements.PUT_LISTENER, (awaited, address)
        case DropListener(awaited=awaited, address=address):
            return statements.DROP_LISTENER, (awaited, address)
        case PutSpreading(spreading=spreading, turn_at=turn_at):
            return statements.PUT_SPREADING, (spreading.promise_id, spreading.after, turn_at)
        case DropSpreading(promise_id=promise_id):
            return statements.DROP_SPREADING, (promise_id,)


def _schedule_operations(changes: Changes) -> Iterator[Operation]:
    for id, schedule in changes.schedules.items():
        if schedule is None:
            for statement in statements.DROP_SCHEDULE:
                yield statement, (id,)
            continue
        yield statements.PUT_SCHEDULE, rows.schedule_row(schedule)
        param = rows.payload_data(schedule.promise_param)
        if param is not None:
            yield statements.PUT_SCHEDULE_PARAM, (param, id)
