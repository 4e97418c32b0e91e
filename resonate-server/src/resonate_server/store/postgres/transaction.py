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
    """Begins with its first round. ``ending``: what :data:`.sql.GET_ENDING` tells, and of what, if it was committed;
    ``backend`` is at it."""

    def __init__(self, connection: ServingConnection) -> None:
        self._connection = connection
        self._has_begun = False
        self.ending = connection.key, next(_numbers)
        self.backend = connection.backend

    async def commit(self, writing: Writing, asked: Round | None = None) -> Found:
        """Write that, ask what else there is, and end it: one journey. On return, what was written is durable."""
        if not self._has_begun:
            await self.ask({})
        statement, rows = writing.statement()
        connection, number = self.ending
        write = Ask(statement, {**rows, "connection": connection, "number": number})
        return await self.ask({"write": write, **(asked or {}), "commit": Ask(sql.COMMIT)})

    async def leave(self) -> None:
        """Nothing of it has happened, unless it was committed."""
        status = self._connection.info.transaction_status
        if status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
            with suppress(psycopg.Error):
                await ask(self._connection, _LEAVING)

    async def ask(self, asked: Round) -> Found:
        """One journey. Raises :class:`psycopg.Error`."""
        if not self._has_begun:
            self._has_begun = True
            asked = {**_ENTERING, **asked}
        return await ask(self._connection, asked)
