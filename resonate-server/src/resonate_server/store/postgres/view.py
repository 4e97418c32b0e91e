"""Read-only queries, each in a transaction of its own that sees the rows as of its beginning."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import count, islice
from typing import Any, override

import psycopg
from psycopg import Connection

from resonate_server.kernel.model import Footprint, Rows, Task
from resonate_server.kernel.settlement import projected
from resonate_server.protocol.records import Promise, PromiseState, Schedule, Tags
from resonate_server.protocol.requests import MAX_INTEGER, PromiseSearch, ScheduleSearch, Search, TaskSearch
from resonate_server.store import Branch, Place, View, rows
from resonate_server.store.postgres import sql
from resonate_server.store.postgres.driver import BlockingConnection, connect
from resonate_server.store.postgres.plans import MAX_BYTES, pair_of
from resonate_server.store.rows import Row
from resonate_server.store.sql_view import SqlView

PORTION = 100
"""Rows that are fetched at once when it is not known how many are wanted."""

PORTION_BYTES = 256 * 1_024
"""Bytes of payloads in the rows that are fetched at once, unless it is a single row."""

CHECK_S = 2.0
"""An idle connection that takes longer to answer is replaced."""

type Measured = tuple[str, int]
"""An id, and the bytes of its payloads."""


class PostgresView(SqlView):
    """Within a transaction of ``connection``, which begins and ends elsewhere."""

    _sql = sql

    def __init__(self, connection: Connection[Row]) -> None:
        self._connection = connection
        self._numbers = count()

    def load(self, footprint: Footprint) -> Rows:
        """Load promises and tasks; read-only callers name nothing else."""
        query = {"ids": list(footprint.ids), "settles": [], "shown": list(footprint.shown), "most": MAX_BYTES}
        pairs = [pair_of(row[:-2]) for row in self._query(sql.GET_PAIRS, query)]
        return Rows(
            promises={pair.promise.id: pair.promise for pair in pairs},
            tasks={pair.task.id: pair.task for pair in pairs if pair.task is not None},
        )

    # --- search -----------------------------------------------------------------------------------------------------

    @override
    def _after(self, search: Search) -> str:
        """Cut the cursor at a NUL, which PostgreSQL's texts cannot have. No id has one, so the same ids follow."""
        return super()._after(search).partition("\x00")[0]

    def search(self, search: Search, now: int, last: str | None = None) -> Iterator[Promise | Task | Schedule]:
        query: dict[str, Any] = {"after": self._after(search), "limit": search.limit + 1, "now": now, "last": last}
        match search:
            case TaskSearch(state=state):
                query["state"] = state and state.value
                return map(rows.task, self._query(sql.SEARCH_TASKS, query))
            case ScheduleSearch(tags=tags):
                found = map(rows.schedule, self._stream(sql.SCAN_SCHEDULES, query))
                return islice((each for each in found if _has(each.promise_tags, tags)), search.limit + 1)
            case PromiseSearch(state=state):
                query["state"] = state and state.value
                return self._search_promises(search, query, now)
        raise AssertionError(f"{type(search).__name__} is no search")

    def _search_promises(self, search: PromiseSearch, query: dict[str, Any], now: int) -> Iterator[Promise]:
        query["origin"] = search.tags.get("resonate:origin")
        of_one = "resonate:origin" in search.tags
        scan = self._stream(sql.SCAN_PROMISES_OF_ORIGIN if of_one else sql.SCAN_PROMISES, query)
        matching = ((id, _bytes(*sizes)) for id, tags, *sizes in scan if _has(rows.read_tags(tags), search.tags))
        for ids in _portions(islice(matching, search.limit + 1)):
            for row in self._query(sql.GET_WHOLE_PROMISES, (ids,)):
                yield projected(rows.promise(row), now)

    # --- for viewers ------------------------------------------------------------------------------------------------

    def recent_roots(self, state: PromiseState | None, before: Place | None, now: int) -> Iterator[Promise]:
        query = {
            "state": state and state.value,
            "created_at": MAX_INTEGER if before is None else before.created_at,
            "id": "" if before is None else before.id,
        }
        return (projected(rows.promise(row), now) for row in self._stream(sql.RECENT_ROOTS, query))

    def tree(self, root: str, after: str, now: int) -> Iterator[Branch]:
        scan = self._stream(sql.SCAN_TREE, {"root": root, "after": after})
        for ids in _portions((id, _bytes(*sizes)) for id, *sizes in scan):
            for row in self._query(sql.GET_BRANCHES, (ids,)):
                promise, awaits, task = row[: rows.PROMISE_COLUMNS], row[8], row[9:]
                yield Branch(
                    projected(rows.promise(promise), now), None if task[0] is None else rows.task(task), awaits
                )

    def groups_with_waiting_tasks(self, limit: int) -> list[str]:
        return self._ids(sql.GROUPS_WITH_WAITING, (limit,))

    # --- queries ----------------------------------------------------------------------------------------------------

    def _query(self, statement: str, parameters: Any = ()) -> list[Row]:
        return self._connection.execute(statement.encode(), parameters, binary=True).fetchall()

    def _stream(self, statement: str, parameters: Any) -> Iterator[Row]:
        """Yield rows one by one, fetched in portions; the caller may stop early."""
        cursor = f"portions_{next(self._numbers)}"
        self._connection.execute(
            f"DECLARE {cursor} NO SCROLL CURSOR FOR {statement}".encode(), parameters, prepare=False
        )
        fetch = f"FETCH {PORTION} FROM {cursor}".encode()
        while portion := self._connection.execute(fetch, prepare=False, binary=True).fetchall():
            yield from portion


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


class Views:
    """Connections for queries, as many as threads look at the same time."""

    def __init__(self, url: str, name: str) -> None:
        self._url = url
        self._name = name
        self._idle: deque[BlockingConnection] = deque()
        self._busy: set[BlockingConnection] = set()

    def look[T](self, query: Callable[[View], T], until: float) -> T:
        """Run ``query`` on this thread, until ``until`` (monotonic seconds) at most. Raises :class:`psycopg.Error`."""
        connection = self._idle_connection() or connect(self._url, self._name)
        try:
            self._busy.add(connection)
            connection.until = until
            connection.execute(sql.LOOK)
            try:
                return query(PostgresView(connection))
            finally:
                with suppress(psycopg.Error):
                    connection.execute(sql.COMMIT)
        finally:
            self._busy.discard(connection)
            if not connection.closed:
                self._idle.append(connection)

    def _idle_connection(self) -> BlockingConnection | None:
        """Return a connection that works, if there is one."""
        with suppress(IndexError):
            while True:
                connection = self._idle.pop()
                connection.until = time.monotonic() + CHECK_S
                try:
                    connection.execute(sql.CHECK)
                except psycopg.Error:
                    connection.close()
                else:
                    return connection
        return None

    def cancel(self) -> None:
        """End the queries that are under way, if the database answers."""
        for connection in list(self._busy):
            with suppress(psycopg.Error):
                connection.cancel_safe(timeout=CHECK_S)

    def close(self) -> None:
        """Call this when no thread looks any more."""
        for connection in self._idle:
            connection.close()
