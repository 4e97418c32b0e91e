"""Backups: copying an open database while it is written to, checking a copy, and replacing a database by one.

A copy is a whole database in one file. It is written under a temporary name and renamed when complete, so that wherever
the process ends, either the old file is there or the new one.
"""

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from resonate_server.store.errors import StoreFailed, StoreUnusable
from resonate_server.store.sqlite.file import format_of, open_file
from resonate_server.store.sqlite.lock import PathLock
from resonate_server.store.sqlite.sessions import FILE_IS_WHOLE, file_alone, session_in_file

PAGES_PER_STEP = 512
"""1 MiB; the server's transactions continue between two steps."""

STEP_PAUSE_S = 0.001
"""Also after a step that did nothing because it met a transaction."""

MIN_ROOM_BYTES = 1_024 * 1_024
"""Beside a copy, the log needs room for commits."""

_COPYING, _RESTORING = "-copying", "-restoring"
"""Unfinished files; no name that anybody would give to a backup."""

_SIDE_FILES = ("-wal", "-shm", "-journal")


class BackupUnusable(Exception):
    """The file is not a complete database of this server; the text is for people."""


class Interrupted(Exception):
    """The copy was abandoned because the database is closing."""


def make_copy(source: sqlite3.Connection, path: Path, is_over: Callable[[], bool]) -> Path:
    """Copy ``source``, as it is at the end, to a file beside ``path``, and return that; only one at a time. Runs on its
    own thread; others may use ``source`` meanwhile.

    Raises :class:`Interrupted` once ``is_over``, :class:`StoreFailed` where there is no room for a copy, and
    ``sqlite3.Error`` or ``OSError`` for a broken disk. Then it leaves nothing behind.
    """
    target = path.with_name(path.name + _COPYING)
    target.unlink(missing_ok=True)
    _check_room(source, path)
    try:
        _copy(source, target, is_over)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return target


def _check_room(source: sqlite3.Connection, path: Path) -> None:
    """A copy that fills the disk would make the server refuse requests."""
    (pages,), (page_bytes,) = (source.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "page_size"))
    needed, free = pages * page_bytes + MIN_ROOM_BYTES, shutil.disk_usage(path.parent).free
    if free < needed:
        raise StoreFailed(f"a copy needs {needed:,} bytes on the disk of {path}, where {free:,} are free")


def _copy(source: sqlite3.Connection, target: Path, is_over: Callable[[], bool]) -> None:
    def look(*_: int) -> None:
        if is_over():
            raise Interrupted

    with closing(sqlite3.connect(target)) as copy:
        copy.execute("PRAGMA synchronous = OFF")  # the caller syncs the file if it keeps it
        source.backup(copy, pages=PAGES_PER_STEP, progress=look, sleep=STEP_PAUSE_S)
        copy.execute("PRAGMA journal_mode = DELETE")  # one file, even while it is open
        copy.execute(FILE_IS_WHOLE)
        copy.commit()
    look()


def remove_leftovers(path: Path) -> None:
    """Remove what a process that was killed left beside ``path``: a file as large as the database."""
    for suffix in (_COPYING, _RESTORING):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def check_backup(path: Path) -> None:
    """Raise :class:`BackupUnusable` unless ``path`` is a whole database that this server can open."""
    if not path.is_file():
        raise BackupUnusable(f"{path} does not exist")
    try:
        with file_alone(path) as db:
            is_new = format_of(db, path) == 0
            (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
    except StoreUnusable as error:
        raise BackupUnusable(str(error)) from error
    except sqlite3.Error as error:
        raise BackupUnusable(f"{path} is not a resonate-server database: {error}") from error
    if is_new:
        raise BackupUnusable(f"{path} is not a resonate-server database")
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

    Raises :class:`BackupUnusable`, ``FileExistsError``, :class:`PathTaken` or ``OSError``; then nothing has changed.
    """
    check_backup(backup)
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    with PathLock(path):
        if path.exists() and not replace:
            raise FileExistsError
        coming = path.with_name(path.name + _RESTORING)
        try:
            shutil.copyfile(backup, coming)
            sync(coming)
            _put_in_place(coming, path)
        finally:
            coming.unlink(missing_ok=True)


def _put_in_place(coming: Path, path: Path) -> None:
    """Wherever the process ends, the old database or the new one is there."""
    if path.exists():
        with suppress(StoreUnusable, sqlite3.Error, OSError):  # A damaged one has nothing to lose.
            open_file(path, is_source=True).close()  # From now on it needs no log.
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
