"""The write buffer of a transaction: what it has written but not yet handed to the database.

Only the last state of a row that is written several times goes to the database, and many rows go in one call.
"""

import sqlite3
from itertools import groupby
from operator import itemgetter

from resonate_server.store.rows import Row
from resonate_server.store.sqlite import statements

type Operation = tuple[str, Row]
"""A statement and its parameters."""

_statement = itemgetter(0)
_parameters = itemgetter(1)


class WriteBuffer:
    """Rows of promises and tasks, and payloads, by id; the rest as statements, in the order in which they must run."""

    def __init__(self) -> None:
        self.promises: dict[str, Row] = {}
        self.params: dict[str, bytes] = {}
        self.results: dict[str, bytes] = {}
        self.tasks: dict[str, Row] = {}
        self.operations: list[Operation] = []

    def __bool__(self) -> bool:
        return bool(self.promises or self.tasks or self.operations)

    def knows(self, id: str) -> bool:
        """Return whether the database's rows for ``id`` are outdated."""
        return id in self.promises or id in self.tasks

    def execute(self, db: sqlite3.Connection) -> None:
        """Hand everything to the database, inside a transaction. If this fails, roll the transaction back."""
        if self.promises:
            db.executemany(statements.PUT_PROMISE, self.promises.values())
        if self.params:
            db.executemany(statements.PUT_PARAM, map(_with_id, self.params.items()))
        if self.results:
            db.executemany(statements.PUT_RESULT, map(_with_id, self.results.items()))
        if self.tasks:
            db.executemany(statements.PUT_TASK, self.tasks.values())
        for statement, operations in groupby(self.operations, _statement):
            db.executemany(statement, map(_parameters, operations))
        self.clear()

    def clear(self) -> None:
        self.promises.clear()
        self.params.clear()
        self.results.clear()
        self.tasks.clear()
        self.operations.clear()


def _with_id(payload: tuple[str, bytes]) -> Row:
    id, data = payload
    return data, id
