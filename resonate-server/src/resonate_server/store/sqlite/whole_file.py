"""A database file as the source or target of a copy; see :mod:`resonate_server.store.whole`."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from resonate_server.store.errors import StoreUnusable
from resonate_server.store.rows import Row
from resonate_server.store.shared_sql import COLUMNS, any_of
from resonate_server.store.sqlite import statements
from resonate_server.store.sqlite.clock import MARK_MS
from resonate_server.store.sqlite.file import close_file, open_file
from resonate_server.store.sqlite.lock import PathLock, PathTaken
from resonate_server.store.whole import CannotCopy, Whole


@contextmanager
def whole_file(path: Path, is_source: bool = False) -> Iterator[Whole]:
    """Lock and open the file at ``path``. Creates it if missing (but not its folder), and migrates a former format; a
    source stays as it is.

    Raises :class:`CannotCopy`.
    """
    if not path.parent.is_dir():
        raise CannotCopy(f"the folder {path.parent} does not exist")
    try:
        with PathLock(path.resolve()):
            db = open_file(path.resolve(), is_source)
            try:
                if not db.in_transaction:
                    db.execute("BEGIN")
                yield _WholeFile(db)
                if not is_source:
                    db.execute("COMMIT")
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                if is_source:
                    db.close()
                else:
                    close_file(db)
    except PathTaken as error:
        raise CannotCopy(str(error)) from error
    except (StoreUnusable, sqlite3.Error, OSError) as error:
        raise CannotCopy(f"{path}: {error}") from error


class _WholeFile(Whole):
    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def rows(self, table: str) -> Iterator[Row]:
        return self._db.execute(statements.read_all(table, COLUMNS[table]))

    def put(self, table: str, rows: Iterable[Row]) -> int:
        payloads = statements.APART.get(table, {})
        insert = statements.insert(table, [column for column in COLUMNS[table] if column not in payloads])
        width = len(COLUMNS[table]) - len(payloads)  # Payloads come last.
        count = 0
        for count, row in enumerate(rows, start=1):  # noqa: B007  the last one counts
            number = self._db.execute(insert, row[:width]).lastrowid
            for (place, owner), payload in zip(payloads.values(), row[width:], strict=True):
                if payload is not None:
                    self._db.execute(statements.insert(place, [owner, "data"]), (number, payload))
        return count

    def is_empty(self) -> bool:
        return not any(self._db.execute(any_of(table)).fetchone() for table in COLUMNS)

    def time(self) -> int:
        mark = self._db.execute(statements.GET_CLOCK_MARK).fetchone()
        return mark[0] + MARK_MS if mark else 0

    def set_time(self, time: int) -> None:
        """Store it as if from another boot of the machine, so that its uptime is ignored."""
        self._db.execute(statements.PUT_CLOCK_MARK, (time, 0, ""))
