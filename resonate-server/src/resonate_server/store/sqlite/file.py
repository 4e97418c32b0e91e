"""Opening the database file (locked, with our schema and settings, or not at all) and closing it."""

import logging
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Literal

from resonate_server.store.errors import StoreUnusable
from resonate_server.store.rows import is_external
from resonate_server.store.sqlite import migrations, statements
from resonate_server.store.sqlite.sessions import check_log, check_session, fold, session_in_file

logger = logging.getLogger(__name__)

type Synchronous = Literal["FULL", "NORMAL"]

IN_MEMORY = Path(":memory:")
"""Instead of a file: nothing survives the process."""


def open_file(path: Path, is_source: bool = False) -> sqlite3.Connection:
    """``is_source``: for a copy of what is there. A former format is then migrated in a transaction that is left open,
    to be undone."""
    session = session_in_file(path)
    check_log(path, session)
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=2, cached_statements=64)
    try:
        db.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE)  # Leave a file that is refused as it is.
        # Held until close: a second server on the same file fails to start instead of changing rows under the first.
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.create_function("is_external", 1, is_external, deterministic=True)
        try:
            version = format_of(db, path)
        except StoreUnusable as error:
            advice = "run the version that made it, or move it away to start over"
            raise StoreUnusable(f"{error}: {advice}") from error
        check_session(db, path, session)
        if version == 0:
            if is_source:
                raise StoreUnusable("there is no database in it")
            db.executescript(statements.OF_A_NEW_FILE)
        db.executescript(statements.PRAGMAS)
        if version == 0:
            db.executescript(f"BEGIN EXCLUSIVE; {statements.SCHEMA} COMMIT;")
        elif version < statements.SCHEMA_VERSION:
            _bring_up_to_date(db, path, version)
        if not is_source:
            if db.in_transaction:
                db.execute("COMMIT")
            fold(db)
        db.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, False)
    except BaseException:
        db.close()
        raise
    return db


def close_file(db: sqlite3.Connection) -> None:
    """Fold the log into the file and close it. If that fails, leave both as after a crash."""
    try:
        fold(db)
    except sqlite3.Error:
        close_unfolded(db)
    db.close()


def close_unfolded(db: sqlite3.Connection) -> None:
    db.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE)
    db.close()


def format_of(db: sqlite3.Connection, path: Path) -> int:
    """Return the file's format, 0 for a new one. Raises :class:`StoreUnusable`, before any change, if this server
    cannot read it.
    """
    (version,) = db.execute("PRAGMA user_version").fetchone()
    columns = _columns(db)
    if version == 0 and not columns:
        return 0
    known = statements.SCHEMA_VERSION
    if version > known:
        raise StoreUnusable(f"{path} was written by a newer server (format {version}; this one knows up to {known})")
    if columns != (_own_columns() if version == known else migrations.columns_of(version)):
        raise StoreUnusable(f"{path} was made by another version or another program")
    return int(version)


def _bring_up_to_date(db: sqlite3.Connection, path: Path, version: int) -> None:
    """Migrate in one transaction, which is left open: a process killed halfway leaves the file as it was."""
    mebibytes = path.stat().st_size >> 20
    logger.info("bringing %s (%d MiB, format %d) to format %d", path, mebibytes, version, statements.SCHEMA_VERSION)
    began = time.monotonic()
    db.executescript(f"BEGIN EXCLUSIVE; {migrations.script(version, statements.SCHEMA_VERSION)}")
    logger.info("%s is up to date after %.1f s", path, time.monotonic() - began)


def _own_columns() -> set[tuple[str, str]]:
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(statements.SCHEMA)
        return _columns(db)


def _columns(db: sqlite3.Connection) -> set[tuple[str, str]]:
    """Return every column of every table."""
    return set(db.execute(statements.ALL_COLUMNS))
