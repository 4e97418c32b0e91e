"""A whole state on its way from one store to another: all rows of all tables, and the time.

A row goes as it is. Both stores have the same tables with the same columns, but for where they keep payloads.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from resonate_server.store.rows import Row

COLUMNS: Mapping[str, tuple[str, ...]] = {
    table: tuple(columns.split())
    for table, columns in {
        "promises": "id state tags timeout_at created_at settled_at branch parent origin armed param value",
        "tasks": "id target recipient state version resumes ttl pid claim timer_at queued releases lost_at unclaimed"
        " reason",
        "callbacks": "awaited awaiter",
        "listeners": "awaited address",
        "spreading": "promise_id after turn_at",
        "unblocks": "promise_id address recipient member kept_since",
        "schedules": "id cron promise_id promise_timeout promise_tags created_at next_run_at last_run_at param",
    }.items()
}
"""Of each table, in the order of its rows. Places of unblocks are given out anew, in their order."""


class CannotCopy(Exception):
    """Nothing was changed; the text is for people."""


class Whole(Protocol):
    """The state of a store that no server works on meanwhile."""

    def rows(self, table: str) -> Iterator[Row]:
        """All of a table, read one by one."""

    def put(self, table: str, rows: Iterable[Row]) -> int:
        """How many there were."""

    def is_empty(self) -> bool:
        """No table has a row."""

    def time(self) -> int:
        """Where the server's clock stood, or a little later: nothing in here is younger (ms since the epoch)."""

    def set_time(self, time: int) -> None:
        """Go on from there."""


type Opening = AbstractContextManager[Whole]
"""What is put is there as a whole if this ends well, else nothing is."""


def copy_whole(source: Opening, target: Opening) -> dict[str, int]:
    """How many rows of each table there were. Raises :class:`CannotCopy`."""
    with source as old, target as new:
        if not new.is_empty():
            raise CannotCopy("the target is not empty")
        counts = {table: new.put(table, old.rows(table)) for table in COLUMNS}
        new.set_time(old.time())
    return counts
