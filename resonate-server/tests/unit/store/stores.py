"""What several tests do to a store or its file. No assertions in here."""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from unit.rows import snapshot, transaction

from resonate_server.store.sqlite import Database


def seen(store: Database) -> dict[str, Any]:
    """Return all that can be read from the store, in a transaction of its own."""
    with transaction(store):
        return snapshot(store)


def promises_in(path: Path) -> set[str]:
    """Open the file as a server does, and return the ids of its promises."""
    with closing(Database(path)) as store:
        return {found.id for found in store.snapshot().promises}


def execute(path: Path, *statements: str) -> list[Any]:
    """Open the file with SQLite alone; return the rows of the last statement."""
    with closing(sqlite3.connect(path)) as db, db:
        return [db.execute(statement).fetchall() for statement in statements][-1]


def break_descriptor(descriptor: int, target: Path | str, how: int = os.O_WRONLY) -> None:
    """Make an open descriptor one of ``target``: of the same file, but write-only, for a disk that cannot be read."""
    other = os.open(target, how)
    os.dup2(other, descriptor)
    os.close(other)


def descriptor_of(path: Path) -> int:
    """Return the lowest descriptor by which this process has the file open."""
    return min(int(each.name) for each in Path("/proc/self/fd").iterdir() if os.path.realpath(each) == str(path))


def crash(path: Path, left: Path | None = None) -> Path:
    """Copy what a SIGKILL would leave on disk now, and return the copy."""
    left = left or path.with_name("left.db")
    for suffix in ("", "-wal"):
        shutil.copy(path.with_name(path.name + suffix), left.with_name(left.name + suffix))
    return left
