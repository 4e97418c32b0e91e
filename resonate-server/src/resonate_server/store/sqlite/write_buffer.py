"""The write buffer of a transaction: what it has written but not yet handed to the database.

Only the last state of a row that is written several times goes to the database, and many promises and tasks go in one
call.
"""

import sqlite3
from itertools import groupby
from operator import itemgetter

from resonate_server.store.rows import Row
from resonate_server.store.shared_sql import COLUMNS
from resonate_server.store.sqlite import statements

type Operation = tuple[str, Row]
"""A statement and its parameters."""

_statement, _parameters = itemgetter(0), itemgetter(1)
_BRANCH, _PARENT = map(COLUMNS["promises"].index, ("branch", "parent"))


class WriteBuffer:
    """Rows of promises and tasks by id, callers by promise, payloads by statement and id; the rest as statements, in
    the order of use."""

    def __init__(self) -> None:
        self.promises: dict[str, Row] = {}
        self.callers: dict[str, str] = {}
        self.payloads: dict[tuple[str, str], bytes] = {}
        self.tasks: dict[str, Row] = {}
        self.operations: list[Operation] = []
        self.linked: set[str] = set()
        """Promises whose awaiters or listeners it changes, besides those of :attr:`freed`."""
        self.freed: set[str] = set()
        """Awaiters that wait for nothing any more."""

    def __bool__(self) -> bool:
        return bool(self.promises or self.tasks or self.operations)

    def knows(self, id: str) -> bool:
        """Return whether the database's rows for ``id`` are outdated."""
        return id in self.promises or id in self.tasks

    def changes_links(self, id: str, awaiters: list[str]) -> bool:
        """Return whether the database's links of promise ``id``, among them ``awaiters``, are outdated."""
        return id in self.linked or not self.freed.isdisjoint(awaiters)

    def has_related(self, task_id: str, branch: str | None) -> bool:
        """Return whether it has a promise of this branch, or a child of this task."""
        return any(row[_PARENT] == task_id or (branch and row[_BRANCH] == branch) for row in self.promises.values())

    def execute(self, db: sqlite3.Connection) -> None:
        """Hand everything to the database, inside a transaction. If this fails, roll the transaction back."""
        if self.promises:
            db.executemany(statements.PUT_PROMISE, self.promises.values())
        for (statement, id), data in self.payloads.items():
            db.execute(statement, (data, id))
        if self.tasks:
            db.executemany(statements.PUT_TASK, self.tasks.values())
        for statement, operations in groupby(self.operations, _statement):
            db.executemany(statement, map(_parameters, operations))
        self.clear()

    def clear(self) -> None:
        self.promises.clear()
        self.callers.clear()
        self.payloads.clear()
        self.tasks.clear()
        self.operations.clear()
        self.linked.clear()
        self.freed.clear()
