"""One transaction, on a connection of the event loop."""

import itertools
from contextlib import suppress

import psycopg
from psycopg.pq import TransactionStatus

from resonate_server.store.postgres import sql
from resonate_server.store.postgres.driver import ServingConnection, ask
from resonate_server.store.postgres.plans import Ask, Found, Round
from resonate_server.store.postgres.writing import Writing

_numbers = itertools.count(1)

_ENTERING: Round = {"begin": Ask(sql.BEGIN)}
_LEAVING: Round = {"rollback": Ask(sql.ROLLBACK)}


class Transaction:
    """Begins with its first round. ``ending``: key of the connection and number of this transaction, for
    :data:`.sql.GET_ENDING` to tell whether it was committed; ``backend``: pid of the process that carries it out."""

    def __init__(self, connection: ServingConnection) -> None:
        self._connection = connection
        self._has_begun = False
        self.ending = connection.key, next(_numbers)
        self.backend = connection.backend

    async def commit(self, writing: Writing, asked: Round | None = None) -> Found:
        """Write, ask what else is asked, and commit, in one round trip. On return, the writes are durable."""
        if not self._has_begun:
            await self.ask({})
        statement, rows = writing.statement()
        connection, number = self.ending
        write = Ask(statement, {**rows, "connection": connection, "number": number})
        return await self.ask({"write": write, **(asked or {}), "commit": Ask(sql.COMMIT)})

    async def leave(self) -> None:
        """Roll back, unless it was committed."""
        status = self._connection.info.transaction_status
        if status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
            with suppress(psycopg.Error):
                await ask(self._connection, _LEAVING)

    async def ask(self, asked: Round) -> Found:
        """Do one round trip. Raises :class:`psycopg.Error`."""
        if not self._has_begun:
            self._has_begun = True
            asked = {**_ENTERING, **asked}
        return await ask(self._connection, asked)
