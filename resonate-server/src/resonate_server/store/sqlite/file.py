"""Opening the database file: ours alone, of our schema, with our settings, or not at all."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Literal

from resonate_server.store.sqlite import statements
from resonate_server.store.sqlite.rows import has_tags

type Synchronous = Literal["FULL", "NORMAL"]

IN_MEMORY = Path(":memory:")
"""In the place of a file: nothing survives the process."""


class StoreUnusable(Exception):
    """The file cannot be used: locked by another server, made by another version, not a database, not writable."""


def open_file(path: Path, synchronous: Synchronous) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=2, cached_statements=64)
    try:
        # Held until close: a second server on the same file fails at its start instead of spoiling the first one's
        # view.
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        is_new = _is_new(db, path)
        db.executescript(statements.PRAGMAS)
        db.execute(f"PRAGMA synchronous = {synchronous}")
        if is_new:
            db.executescript(f"BEGIN EXCLUSIVE; {statements.SCHEMA} COMMIT;")
        db.execute("BEGIN EXCLUSIVE")
        db.execute(statements.INDEX_FOR_WATCHING)
        db.execute("COMMIT")
        db.create_function("has_tags", 2, has_tags, deterministic=True)
    except BaseException:
        db.close()
        raise
    return db


def _is_new(db: sqlite3.Connection, path: Path) -> bool:
    """Whether the file is empty. Raises before anything is changed if it holds something that is not ours."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    columns = _columns(db)
    if version == 0 and not columns:
        return True
    if version != statements.SCHEMA_VERSION or columns != _own_columns():
        raise StoreUnusable(f"{path} was made by another version or another program; move it away to begin anew")
    return False


def _own_columns() -> set[tuple[str, str]]:
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(statements.SCHEMA)
        return _columns(db)


def _columns(db: sqlite3.Connection) -> set[tuple[str, str]]:
    """Every column of every table."""
    return set(db.execute(statements.COLUMNS))
