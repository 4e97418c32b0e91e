"""Read-only queries, each in a transaction of its own that sees the rows as of its beginning."""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from threading import get_ident
from typing import Any, override

import psycopg
from psycopg import Connection
from psycopg.pq import TransactionStatus

from resonate_server.kernel.model import Footprint, Rows
from resonate_server.kernel.settlement import projected
from resonate_server.protocol.records import Promise, PromiseState
from resonate_server.protocol.requests import MAX_INTEGER, Search
from resonate_server.store import rows
from resonate_server.store.found import Place
from resonate_server.store.postgres import sql
from resonate_server.store.postgres.driver import BlockingConnection, Source
from resonate_server.store.postgres.plans import MAX_BYTES, pair
from resonate_server.store.rows import Row
from resonate_server.store.view import PORTION, View

CHECK_S = 2.0  # An idle connection that takes longer to answer is replaced.


class PostgresView(View):
    """Within a transaction of ``connection``, which begins and ends elsewhere."""

    _sql = sql

    def __init__(self, connection: Connection[Row]) -> None:
        self._connection = connection
        self._numbers = count()

    def load(self, footprint: Footprint) -> Rows:
        """Load promises and tasks; read-only callers name nothing else."""
        query = {"ids": list(footprint.ids), "settles": [], "shown": list(footprint.shown), "most": MAX_BYTES}
        pairs = [pair(row[:-2]) for row in self._query(sql.GET_PAIRS, query)]
        return Rows(
            promises={promise.id: promise for promise, _ in pairs},
            tasks={task.id: task for _, task in pairs if task is not None},
        )

    @override
    def _sought(self, search: Search) -> dict[str, Any]:
        """Cut the cursor at a NUL, which PostgreSQL's texts cannot have. No id has one, so the same ids follow."""
        query = super()._sought(search)
        return query | {"after": query["after"].partition("\x00")[0]}

    # --- for viewers ------------------------------------------------------------------------------------------------

    def recent_roots(self, state: PromiseState | None, before: Place | None, now: int) -> Iterator[Promise]:
        query = {
            "state": state and state.value,
            "created_at": MAX_INTEGER if before is None else before.created_at,
            "id": "" if before is None else before.id,
        }
        return (projected(rows.promise(row), now) for row in self._stream(sql.RECENT_ROOTS, query))

    def _whole_promises(self, ids: list[str]) -> list[Row]:
        return self._query(sql.GET_WHOLE_PROMISES, (ids,))

    def _branches(self, ids: list[str]) -> Iterator[tuple[Row, Row | None, list[str]]]:
        for row in self._query(sql.GET_BRANCHES, (ids,)):
            promise, awaits, task = row[: rows.PROMISE_COLUMNS], row[8], row[9:]
            yield promise, None if task[0] is None else task, awaits

    def groups_with_waiting_tasks(self, limit: int) -> list[str]:
        return [name for (name,) in self._query(sql.GROUPS_WITH_WAITING, (limit,))]

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


def _begin(connection: BlockingConnection) -> BlockingConnection:
    connection.until = time.monotonic() + CHECK_S
    connection.execute(sql.LOOK)
    return connection


class Views:
    """Threads that run queries, each on a connection of its own."""

    def __init__(self, source: Source, threads: int) -> None:
        self._source = source
        self._threads = ThreadPoolExecutor(threads, "view")
        self._connections: dict[int, BlockingConnection] = {}
        """By thread."""

    async def look[T](self, query: Callable[[View], T], until: float) -> T:
        """Run ``query``, until ``until`` (monotonic seconds) at most. Raises :class:`psycopg.Error`."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._look, query, until)

    def _look[T](self, query: Callable[[View], T], until: float) -> T:
        connection = self._begun()
        connection.until = until
        try:
            try:
                return query(PostgresView(connection))
            finally:
                with suppress(psycopg.Error):
                    connection.execute(sql.COMMIT)
        except psycopg.Error:
            connection.close()  # Its prepared statements may be outdated.
            raise

    def _begun(self) -> BlockingConnection:
        """Return this thread's connection, within a transaction; another one if it does not work any more."""
        thread = get_ident()
        if (connection := self._connections.get(thread)) is not None:
            with suppress(psycopg.Error):
                return _begin(connection)
            connection.close()
        self._connections[thread] = self._source.connect()
        return _begin(self._connections[thread])

    def close(self) -> None:
        """End the queries that are under way, if the database answers."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for connection in list(self._connections.values()):
            if connection.info.transaction_status is TransactionStatus.ACTIVE:
                with suppress(psycopg.Error):
                    connection.cancel_safe(timeout=CHECK_S)
        self._threads.shutdown()
        for connection in self._connections.values():
            connection.close()
