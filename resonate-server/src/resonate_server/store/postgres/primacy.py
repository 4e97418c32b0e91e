"""One server at a time works on a database: who holds a lock in it, from a connection that does nothing else.

The lock ends with its holder. Whoever gets it next raises the *epoch* in the database; each transaction looks at that,
so a server that was taken for dead, and is not, changes nothing any more. It tells so, and ends.

Once a second the holder says that it lives, notes the time in the database, and learns what time it is there.
"""

import asyncio
import logging
import time
from collections.abc import Callable

import psycopg
from psycopg import AsyncConnection

from resonate_server.store.errors import STOPS, ReadFailed
from resonate_server.store.postgres import sql
from resonate_server.store.postgres.database_clock import DatabaseClock
from resonate_server.store.postgres.driver import connect_async
from resonate_server.store.postgres.schema import DatabaseUnusable, migrate
from resonate_server.store.rows import Row

logger = logging.getLogger(__name__)

STANDBY = "standby: another server holds this database"
TAKEN = "another server has taken this database over"
NOT_YET = "the database has not answered yet"

POLL_S = 0.25
"""How often a standby looks whether the lock is free; waiting for it in the database would keep old rows from being
cleaned away."""

BEAT_S = 1.0
PATIENCE_S = 3.0
"""A beat that takes longer ends the connection, and the lock with it."""


class Primacy:
    """``trouble``: why this server cannot work now, for people; empty if it is the one, as far as it knows.

    ``lost`` is told why there is nothing to go on with.
    """

    def __init__(self, url: str, clock: DatabaseClock, lost: Callable[[str], None]) -> None:
        self.trouble = NOT_YET
        self.epoch = 0
        self._url = url
        self._clock = clock
        self._lost = lost
        self._changed = asyncio.Event()
        self._doubt = asyncio.Event()
        self._is_stopping = False

    async def held(self) -> None:
        """Return once this server is the one. Raises :class:`ReadFailed` if it stops."""
        while self.trouble and not self._is_stopping:
            await self._changed.wait()
        if self._is_stopping:
            raise ReadFailed(STOPS)

    def doubt(self) -> None:
        """Something went wrong elsewhere: look at once whether it is still so."""
        self._doubt.set()

    def stop(self) -> None:
        """Nobody need wait any more."""
        self._is_stopping = True
        self._changed.set()

    def is_over(self) -> None:
        """Another server works on the database."""
        self._tell(TAKEN)
        self._lost(TAKEN)

    async def run(self) -> None:
        """Get the lock, and get it again, for ever."""
        while True:
            try:
                async with await connect_async(self._url) as connection:
                    await self._wait_for_the_lock(connection)
                    await self._begin(connection)
                    await self._live(connection)
            except DatabaseUnusable as error:
                self._lost(str(error))
                return
            except (psycopg.Error, OSError, TimeoutError) as error:
                self._tell(told(error))
            except Exception as error:
                logger.exception("it cannot be told whether this server holds the database")
                self._tell(told(error))
            await asyncio.sleep(POLL_S)

    def _tell(self, trouble: str) -> None:
        if trouble == self.trouble:
            return
        self.trouble = trouble
        if trouble:
            self._changed.clear()
            logger.warning("not at work: %s", trouble)
        else:
            self._changed.set()
            logger.info("at work: this server holds the database")

    async def _wait_for_the_lock(self, connection: AsyncConnection[Row]) -> None:
        while True:
            [(is_ours, _)] = await _ask(connection, sql.TRY_TO_BE_THE_ONE)
            if is_ours:
                return
            if self.epoch:
                self.is_over()
            self._tell(STANDBY)
            await asyncio.sleep(POLL_S)

    async def _begin(self, connection: AsyncConnection[Row]) -> None:
        await migrate(connection)
        if not self.epoch:
            await self._take_over(connection)
        else:
            [(epoch,)] = await _ask(connection, sql.GET_EPOCH)
            if epoch != self.epoch:
                self.is_over()
                return
        self._tell("")

    async def _take_over(self, connection: AsyncConnection[Row]) -> None:
        """At the time where the former holder's clock stood, unless it is later by now."""
        async with connection.transaction():
            await _ask(connection, sql.WAIT_FOR_OTHERS)
            [(epoch, stood_at, now)] = await _ask(connection, sql.NEXT_EPOCH)
            await connection.execute(sql.FORGET_ENDINGS.encode())
        self._clock.begin(max(stood_at, now))
        self.epoch = epoch

    async def _live(self, connection: AsyncConnection[Row]) -> None:
        """Nobody waits for the disk here."""
        await connection.execute("SET synchronous_commit = off")
        while not self.trouble:
            began = time.monotonic()
            async with asyncio.timeout(PATIENCE_S):
                beat = await _ask(connection, sql.BEAT, (self._clock(), self.epoch))
            if not beat:
                self.is_over()
                return
            self._clock.measured(beat[0][0], int((time.monotonic() - began) * 1_000))
            self._doubt.clear()
            try:
                async with asyncio.timeout(BEAT_S):
                    await self._doubt.wait()
            except TimeoutError:
                continue


def told(error: BaseException) -> str:
    """For people, in one line."""
    text = " ".join(str(error).split())
    return f"the database does not answer: {text or type(error).__name__}"


async def _ask(connection: AsyncConnection[Row], statement: str, parameters: tuple[object, ...] = ()) -> list[Row]:
    return await (await connection.execute(statement.encode(), parameters)).fetchall()
