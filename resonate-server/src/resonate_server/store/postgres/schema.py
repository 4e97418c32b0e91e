"""Creating and migrating the schema. The first server does it, while others wait."""

import logging

from psycopg import AsyncConnection

from resonate_server.store.postgres import sql
from resonate_server.store.postgres.driver import ServingConnection
from resonate_server.store.postgres.sql import MIGRATIONS
from resonate_server.store.rows import Row

logger = logging.getLogger(__name__)

OLDEST = 150_000
"""PostgreSQL 15."""

MIGRATION_S = 3_600.0
"""A migration may rewrite whole tables."""


class DatabaseUnusable(Exception):
    """The database was migrated by a newer server, or this one cannot work with it. The text is for people."""


async def migrate(connection: ServingConnection) -> None:
    """Create or migrate the schema in one transaction. Raises :class:`DatabaseUnusable`."""
    await _check_engine(connection)
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (sql.SCHEMA_LOCK,))
        version = await _version(connection)
        check_version(version)
        for number, migration in enumerate(MIGRATIONS[version:], start=version + 1):
            with connection.patient(MIGRATION_S):
                await connection.execute(migration.encode(), prepare=False)
            await connection.execute(sql.PUT_VERSION.encode(), (number,))
            logger.info("the database's schema is now at version %s", number)


def check_version(version: int) -> None:
    """Raise :class:`DatabaseUnusable` if a newer server has changed what this one would write."""
    if version > len(MIGRATIONS):
        raise DatabaseUnusable(
            f"the database has schema version {version}, this server knows {len(MIGRATIONS)}: it is of a newer one"
        )


async def _version(connection: AsyncConnection[Row]) -> int:
    """Return the version of the schema; 0 if there is none."""
    await connection.execute(sql.CREATE_SCHEMA.encode(), prepare=False)
    [(version,)] = await (await connection.execute(sql.GET_VERSION.encode())).fetchall()
    return version or 0


async def _check_engine(connection: AsyncConnection[Row]) -> None:
    [(encoding, version)] = await (await connection.execute(sql.GET_ENGINE.encode())).fetchall()
    if encoding != "UTF8":
        raise DatabaseUnusable(f"the database's encoding is {encoding}; UTF8 is needed")
    if version < OLDEST:
        raise DatabaseUnusable(f"PostgreSQL {OLDEST // 10_000} or newer is required; this is {version // 10_000}")
