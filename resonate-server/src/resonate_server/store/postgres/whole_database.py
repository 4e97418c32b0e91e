"""A database as the source or target of a copy; see :mod:`resonate_server.store.whole`."""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import psycopg
from psycopg import Connection, errors

from resonate_server.store.postgres import sql
from resonate_server.store.postgres.driver import Source
from resonate_server.store.postgres.schema import DatabaseUnusable, migrate
from resonate_server.store.rows import Row
from resonate_server.store.shared_sql import COLUMNS, any_of
from resonate_server.store.whole import CannotCopy, Whole


@contextmanager
def whole_database(url: str) -> Iterator[Whole]:
    """Open it in one transaction, after migrating its schema. Raises :class:`CannotCopy`."""
    with _told():
        asyncio.run(_migrate(url))
        with Source(url).connect() as connection:
            _take(connection)
            yield _WholeDatabase(connection)
            connection.execute(sql.COMMIT)


def is_same_database(url: str, other: str) -> bool:
    """Compare them, however they are spelled. Raises :class:`CannotCopy`."""
    sources = Source(url), Source(other)
    with _told():
        for each in sources:
            each.connect().close()
    return sources[0].identity == sources[1].identity


@contextmanager
def _told() -> Iterator[None]:
    """Raise errors as :class:`CannotCopy`."""
    try:
        yield
    except DatabaseUnusable as error:
        raise CannotCopy(str(error)) from error
    except errors.ProgramLimitExceeded as error:
        raise CannotCopy("an id is longer than PostgreSQL can index") from error
    except (psycopg.Error, OSError) as error:
        raise CannotCopy(f"PostgreSQL: {' '.join(str(error).split())}") from error


async def _migrate(url: str) -> None:
    async with await Source(url).connect_async() as connection:
        await migrate(connection)


def _take(connection: Connection[Row]) -> None:
    """Keep all servers off the database: one that starts waits, and finds what was copied."""
    [(is_ours,)] = connection.execute(sql.TRY_TO_BEGIN.encode()).fetchall()
    servers = connection.execute(sql.OTHERS.encode(), ([], [], 0)).fetchall()
    if not is_ours or not all(has_ended for *_, has_ended, _ in servers):
        raise CannotCopy("a server is using the database; stop it first")
    connection.execute(sql.NO_LIMITS)
    connection.execute(sql.BEGIN)
    connection.execute(sql.LOCK_ALL.encode())


class _WholeDatabase(Whole):
    def __init__(self, connection: Connection[Row]) -> None:
        self._connection = connection

    def rows(self, table: str) -> Iterator[Row]:
        everything = sql.read_all(table)
        with self._connection.cursor() as cursor:
            described = cursor.execute(f"{everything} LIMIT 0".encode()).description or ()
            with cursor.copy(f"COPY ({everything}) TO STDOUT".encode()) as copy:
                copy.set_types([column.type_code for column in described])
                yield from copy.rows()

    def put(self, table: str, rows: Iterable[Row]) -> int:
        with self._connection.cursor() as cursor:
            with cursor.copy(sql.copy_in(table).encode()) as copy:
                for row in rows:
                    copy.write_row(row)
            return cursor.rowcount

    def is_empty(self) -> bool:
        return not any(self._connection.execute(any_of(table).encode()).fetchone() for table in COLUMNS)

    def time(self) -> int:
        [(time,)] = self._connection.execute(sql.GET_TIME.encode()).fetchall()
        return int(time)

    def set_time(self, time: int) -> None:
        self._connection.execute(sql.KEEP_TIME.encode(), (time,))
        self._connection.execute(sql.LEARN_SIZES.encode())
