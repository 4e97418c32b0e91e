"""Backups: copying an open database while it is written to, checking a copy, and replacing a database by one.

A copy is a whole database in one file. It is written under a temporary name and renamed when complete, so that wherever
the process ends, either the old file is there or the new one.
"""

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from resonate_server.store.sqlite import statements
from resonate_server.store.sqlite.lock import PathLock
from resonate_server.store.sqlite.sessions import FILE_IS_WHOLE, session_in_file

PAGES_PER_STEP = 512
"""1 MiB; the server's transactions continue between two steps."""

STEP_PAUSE_S = 0.001
"""Also after a step that did nothing because it met a transaction."""

_SIDE_FILES = ("-wal", "-shm", "-journal")


class BackupUnusable(Exception):
    """The file is not a complete database of this server; the text is for people."""


class Interrupted(Exception):
    """The copy was abandoned because the database is closing."""


def copy_database(source: sqlite3.Connection, target: Path, is_closing: Callable[[], bool]) -> None:
    """Copy ``source``, as it is at the end, to ``target``. Runs on its own thread; others may use ``source`` meanwhile.

    Raises :class:`Interrupted` once ``is_closing``, and ``sqlite3.Error`` or ``OSError`` for a full or broken disk.
    """

    def look(*_: int) -> None:
        if is_closing():
            raise Interrupted

    with closing(sqlite3.connect(target)) as copy:
        copy.execute("PRAGMA synchronous = OFF")  # the caller syncs the file if it keeps it
        source.backup(copy, pages=PAGES_PER_STEP, progress=look, sleep=STEP_PAUSE_S)
        copy.execute("PRAGMA journal_mode = DELETE")  # one file, even while it is open
        copy.execute(FILE_IS_WHOLE)
        copy.commit()


def check_backup(path: Path) -> None:
    """Raise :class:`BackupUnusable` unless ``path`` is a whole database that this server can open."""
    if not path.is_file():
        raise BackupUnusable(f"{path} does not exist")
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as db:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            tables = {name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
            (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        raise BackupUnusable(f"{path} is not a resonate-server database: {error}") from error
    if version == 0 or "promises" not in tables:
        raise BackupUnusable(f"{path} is not a resonate-server database")
    if version > statements.SCHEMA_VERSION:
        raise BackupUnusable(f"{path} was made by a newer resonate-server")
    if verdict != "ok":
        raise BackupUnusable(f"{path} is damaged: {verdict}")
    session = session_in_file(path)
    if session is not None and session.is_open:
        raise BackupUnusable(
            f"{path} was not closed, and is not whole without its log: start a server on it and stop that, or take a "
            'copy that "resonate backup" has made'
        )


def restore_backup(backup: Path, path: Path, replace: bool) -> None:
    """Put a copy of ``backup`` at ``path``; an existing file is overwritten only with ``replace``.

    Raises :class:`BackupUnusable`, ``FileExistsError``, :class:`PathTaken` or ``OSError`` before anything has changed.
    """
    check_backup(backup)
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    with PathLock(path):
        if path.exists() and not replace:
            raise FileExistsError
        coming = path.with_name(path.name + ".restoring")
        shutil.copyfile(backup, coming)
        sync(coming)
        _put_in_place(coming, path)


def _put_in_place(coming: Path, path: Path) -> None:
    # They belong to the old database. If the process ends here, that one is whole as of its last checkpoint.
    for suffix in _SIDE_FILES:
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    coming.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Sync a file, or the names in a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
