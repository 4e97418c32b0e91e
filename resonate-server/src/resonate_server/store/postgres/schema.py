"""Creating and migrating the schema. The first server does it, while others wait."""

import logging

from resonate_server.store.postgres import sql
from resonate_server.store.postgres.driver import ANSWER_S, ServingConnection
from resonate_server.store.postgres.sql import MIGRATIONS

logger = logging.getLogger(__name__)

OLDEST = 150_000
"""PostgreSQL 15."""

MIGRATION_S = 3_600.0
"""A migration may rewrite whole tables."""


class DatabaseUnusable(Exception):
    """The database was migrated by a newer server, or this one cannot work with it. The text is for people."""


async def migrate(connection: ServingConnection) -> None:
    """Create or migrate the schema in one transaction. Raises :class:`DatabaseUnusable`."""
    [(encoding, engine)] = await (await connection.execute(sql.GET_ENGINE.encode())).fetchall()
    if encoding != "UTF8":
        raise DatabaseUnusable(f"the database's encoding is {encoding}; UTF8 is needed")
    if engine < OLDEST:
        raise DatabaseUnusable(f"PostgreSQL {OLDEST // 10_000} or newer is required; this is {engine // 10_000}")
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (sql.SCHEMA_LOCK,))
        await connection.execute(sql.CREATE_SCHEMA.encode(), prepare=False)
        [(found,)] = await (await connection.execute(sql.GET_VERSION.encode())).fetchall()
        version = found or 0
        check_version(version)
        for number, migration in enumerate(MIGRATIONS[version:], start=version + 1):
            connection.patience_s = MIGRATION_S
            await connection.execute(migration.encode(), prepare=False)
            connection.patience_s = ANSWER_S
            await connection.execute(sql.PUT_VERSION.encode(), (number,))
            logger.info("the database's schema is now at version %s", number)


def check_version(version: int) -> None:
    """Raise :class:`DatabaseUnusable` if a newer server has changed what this one would write."""
    if version > len(MIGRATIONS):
        raise DatabaseUnusable(
            f"the database has schema version {version}, this server knows {len(MIGRATIONS)}: it is of a newer one"
        )
