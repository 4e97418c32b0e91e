"""Copying a whole state from one store to another: all rows of all tables, and the time.

Rows are copied unchanged, with the columns of :data:`.shared_sql.COLUMNS`. Unblocks get new places, in the old order.
"""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from resonate_server.store.rows import Row


class CannotCopy(Exception):
    """The copy failed and changed nothing; the text is for people."""


class Whole(Protocol):
    """The state of a store while no server uses it."""

    def rows(self, table: str) -> Iterator[Row]:
        """Yield all rows of a table."""

    def put(self, table: str, rows: Iterable[Row]) -> int:
        """Insert ``rows``; return how many there were."""

    def is_empty(self) -> bool:
        """Return whether no table has a row."""

    def time(self) -> int:
        """Return the last time of the server's clock, or a little later: no row is younger (ms since the epoch)."""

    def set_time(self, time: int) -> None:
        """Make the server's clock continue from ``time``."""


type Opening = AbstractContextManager[Whole]
"""Commits all that was put if it exits without an error, else nothing."""
