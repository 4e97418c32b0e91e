"""The PostgreSQL store's unit of work on one connection of this thread, behind the interface of SQLite's, for tests of
both stores. No assertions in here."""

import asyncio
from collections.abc import Iterable

from psycopg.pq import TransactionStatus
from unwaiting import finish

from resonate_server.kernel.model import Changes, Due, Footprint, LinkFootprint, Rows, Rule
from resonate_server.kernel.sizes import weight
from resonate_server.protocol.messages import Unblock, UnblockKey
from resonate_server.store import Decided
from resonate_server.store.found import FIRST, Dropped, SettledRoot
from resonate_server.store.postgres import sql
from resonate_server.store.postgres.driver import Source
from resonate_server.store.postgres.plans import Asked, Found, Unit, drop_trees, reset, settled_roots, written
from resonate_server.store.postgres.postgres_view import PostgresView
from resonate_server.store.postgres.schema import migrate
from resonate_server.store.postgres.writing import Writing


def make_schema(url: str) -> None:
    async def make() -> None:
        async with await Source(url).connect_async() as connection:
            await migrate(connection)

    asyncio.run(make())


class PostgresDatabase(PostgresView):
    """A transaction begins with the first statement after the previous one ended."""

    def __init__(self, url: str) -> None:
        super().__init__(Source(url).connect())
        self._connection.execute("SET idle_in_transaction_session_timeout = 0")  # Tests may be slow.
        self._connection.autocommit = False
        self._delivered: list[UnblockKey] = []

    # --- transactions -----------------------------------------------------------------------------------------------

    def decide(self, footprint: Footprint, rule: Rule, now: int) -> Decided:
        unit = Unit(self._asking)
        decided = finish(unit.decide(footprint, rule, lambda: now))
        unit.keep(decided)
        self._write(unit.writing)
        return decided

    def flush(self) -> bool:
        return self._connection.info.transaction_status != TransactionStatus.IDLE and self._has_written()

    def _has_written(self) -> bool:
        [(number,)] = self._query("SELECT pg_current_xact_id_if_assigned()::text")
        return number is not None

    def commit(self) -> None:
        self._connection.commit()

    def rollback(self) -> None:
        self._connection.rollback()

    def check(self) -> None:
        self._query("SELECT 1")

    def close(self) -> None:
        self._connection.close()

    async def _asking(self, *asked: Asked) -> Found:
        with self._connection.pipeline():
            cursors = [
                self._connection.execute(statement.encode(), parameters, binary=True) for statement, parameters in asked
            ]
        return [cursor.fetchall() if cursor.description else [] for cursor in cursors]

    # --- rows -------------------------------------------------------------------------------------------------------

    def load(self, footprint: Footprint) -> Rows:
        """Load the rows as a rule gets them."""
        loaded = Rows()
        finish(Unit(self._asking).load(loaded, footprint, now=0))
        return loaded

    def load_links(self, loaded: Rows, footprint: LinkFootprint) -> None:
        """Load links; the promises of the footprint are loaded already, as for a rule that asks for their links."""
        reading = Unit(self._asking)
        ids = tuple(each.promise_id for each in footprint.spreading)
        finish(reading.load(Rows(), Footprint(ids=ids), now=0))
        finish(reading.load_links(loaded, footprint))

    def write(self, changes: Changes) -> None:
        existing = {
            id for (id,) in self._query("SELECT id FROM promises WHERE id = ANY(%s::text[])", (list(changes.promises),))
        }
        writing = Writing()
        writing.add(changes, (), 0, existing.__contains__)
        self._write(writing)

    def _write(self, writing: Writing) -> None:
        if writing:
            finish(self._asking(*written(writing, server=0, number=0)))

    def weigh(self, ids: Iterable[str]) -> int:
        return sum(map(weight, self.load(Footprint(ids=tuple(ids))).promises.values()))

    def due(self, now: int, limit: int) -> Due:
        return finish(Unit(self._asking).due(now, limit))

    def next_due(self) -> int | None:
        [(time,)] = self._query(sql.NEXT_DUE, {"put_off": []})
        return None if time is None else int(time)

    # --- what is owed, and what goes --------------------------------------------------------------------------------

    def put_unblock(self, unblock: Unblock, now: int) -> None:
        writing = Writing()
        writing.add(Changes(), (unblock,), now, lambda _: True)
        self._write(writing)

    def delivered(self, key: UnblockKey) -> None:
        finish(self._asking((sql.DROP_UNBLOCKS, ([key[0]], [key[1]]))))

    def drop_unblocks_before(self, time: int) -> None:
        finish(self._asking((sql.DROP_UNBLOCKS_BEFORE, (time,))))

    def drop_settled_trees(self, before: int, limit: int, after: SettledRoot = FIRST) -> Dropped:
        roots, last = finish(settled_roots(self._asking, before, limit, after))
        return Dropped(finish(drop_trees(self._asking, before, roots)), last)

    def reset(self) -> None:
        finish(reset(self._asking))
