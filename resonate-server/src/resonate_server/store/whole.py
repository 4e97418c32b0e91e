"""Copying a whole state from one store to another: all rows of all tables, and the time.

Rows are copied unchanged: both stores have the same tables and columns, except where they keep payloads.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from resonate_server.store.rows import Row

COLUMNS: Mapping[str, tuple[str, ...]] = {
    table: tuple(columns.split())
    for table, columns in {
        "promises": "id state tags timeout_at created_at settled_at branch parent origin armed param value",
        "tasks": "id target state version resumes ttl pid claim timer_at queued releases lost_at unclaimed reason"
        " recipient",
        "callbacks": "awaited awaiter",
        "listeners": "awaited address",
        "spreading": "promise_id after turn_at",
        "unblocks": "promise_id address recipient member kept_since",
        "schedules": "id cron promise_id promise_timeout promise_tags created_at next_run_at last_run_at param",
    }.items()
}
"""Columns of each table, in the order of a row's fields. Unblocks get new places, in the old order."""


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
