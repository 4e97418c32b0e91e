"""A database is a file and its write-ahead log. The file itself says whether it is complete without the log.

SQLite would silently open a file that has lost its log, or has an old one, and the latest acknowledged writes would be
gone. So the log is folded into the file in three steps (:func:`fold`). First, "the file needs its log" and the next
session number are written to the log, in one row (``is_open`` and ``run`` of the table ``server``). SQLite's checkpoint
then copies that to the file with everything else. Last, the new log begins with "the file and this log are complete".
Wherever the process ends:

* the file alone says that it needs its log, and of which session: a session is the time between two folds;
* a program that folds the whole log into the file, as any does that closes it with SQLite, leaves a file that needs no
  log.

Numbers begin at random, so that a file never accepts the log of another one. While a server runs, :class:`FileIdentity`
tells whether both are still its own.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from msgspec import Struct

from resonate_server.store.errors import StoreFailed, StoreLost, StoreUnusable
from resonate_server.store.sqlite import statements
from resonate_server.store.sqlite.lock import PathLock

# A file caught between two formats may hold other data in place of this row.
GET_SESSION = "SELECT run, is_open FROM server WHERE only_one = 1 AND typeof(run) = 'integer'"
FILE_NEEDS_LOG = "UPDATE server SET run = run + 1, is_open = 1 WHERE is_open = 0"
FILE_IS_WHOLE = "UPDATE server SET is_open = 0"

MIN_LOG_BYTES = 32 + 24 + 512
"""Two headers and the smallest page (sqlite.org/fileformat2.html, section 4.1). Logs never shrink."""

LOG_BEGINS_WITH = (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")
"""SQLite takes a log that begins otherwise for an empty one."""


class LogLost(StoreUnusable):
    """The file is incomplete without its log, which is missing or not its own; the text is for people."""


class Session(Struct, frozen=True):
    """``is_open``: the file needs the log of this session."""

    number: int
    is_open: bool


def log_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def session_in_file(path: Path) -> Session | None:
    """Read the session from the file alone; ``None`` if it has none. Only for a file that nobody has open."""
    if not _size(path):
        return None
    try:
        with file_alone(path) as db:
            return _session(db)
    except sqlite3.DatabaseError:  # interrupted checkpoint, or damaged: opening it with its log will tell
        return None


@contextmanager
def file_alone(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the file without its log, read-only."""
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as db:
        # An interrupted checkpoint has written the number of pages but not all of the pages. SQLite calls such a file
        # malformed unless this pragma, meant for repairs, is on.
        db.execute("PRAGMA writable_schema = ON")
        yield db


def check_log(path: Path, session: Session | None) -> None:
    """Raise :class:`LogLost` for a file without its log, or a log without its file. Call before opening the file."""
    log = log_of(path)
    if not _size(path) and _size(log):  # SQLite would delete the log
        trouble = "is empty" if path.exists() else "does not exist"
        raise LogLost(
            f"{path} {trouble}, but its log {log.name} is still there. Put the file back, or restore a backup: "
            f"resonate-server restore BACKUP --db {path} --replace. To start over, remove the log as well"
        )
    if session is not None and session.is_open and not _is_log(log):
        state = "damaged" if _size(log) else "gone"
        raise LogLost(_explained(path, f"{path} was not closed properly, and its log {log.name} is {state}"))


def check_session(db: sqlite3.Connection, path: Path, in_file: Session | None) -> None:
    """Raise :class:`LogLost` if the log does not belong to the file. Call once the file is open."""
    if not _belongs(_session(db), in_file):
        raise LogLost(_explained(path, f"{path} and its log {log_of(path).name} do not belong together"))


def fold(db: sqlite3.Connection) -> None:
    """Checkpoint the log into the file and begin a new one. Fails on a full disk, and may be tried again."""
    db.execute(FILE_NEEDS_LOG)
    _, pages, folded = db.execute(statements.CHECKPOINT).fetchone()
    if folded != pages:
        raise sqlite3.OperationalError("the log is in use")
    db.execute(FILE_IS_WHOLE)


def recover(path: Path) -> None:
    """Make a file that has lost its log usable without it. A log that is not its own is set aside.

    Raises :class:`StoreFailed` for a file that is not ours, :class:`LogLost` if there is none, ``PathTaken`` or
    ``OSError``.
    """
    path = path.resolve()
    with PathLock(path):
        check_log(path, None)
        log = log_of(path)
        try:
            if not _belongs(_session_with_log(path), session_in_file(path)):
                log.rename(log.with_name(log.name + ".old"))
            with closing(sqlite3.connect(path, isolation_level=None)) as db:
                fold(db)
        except sqlite3.Error as error:
            raise StoreFailed(f"{error}{advice(path, error)}") from error


def _belongs(with_log: Session | None, in_file: Session | None) -> bool:
    """An interrupted fold may have written the next session number to the log only. Once a fold is complete, its log
    says that the file is complete, and does not fit a copy of the file from before.
    """
    if with_log is None or in_file is None or with_log.number == in_file.number:
        return True
    return with_log == Session(in_file.number + 1, is_open=True)


def _session_with_log(path: Path) -> Session | None:
    with closing(sqlite3.connect(path)) as db:
        db.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE)
        return _session(db)


def _session(db: sqlite3.Connection) -> Session | None:
    try:
        row = db.execute(GET_SESSION).fetchone()
    except sqlite3.OperationalError:  # a file older than sessions, or not ours
        return None
    return None if row is None else Session(row[0], bool(row[1]))


def _size(path: Path) -> int:
    """Return the size in bytes, 0 if the file does not exist."""
    return path.stat().st_size if path.exists() else 0


def _is_log(path: Path) -> bool:
    if _size(path) < MIN_LOG_BYTES:
        return False
    with path.open("rb") as log:
        return log.read(4) in LOG_BEGINS_WITH


def _explained(path: Path, trouble: str) -> str:
    return (
        f"{trouble}: the latest acknowledged changes may be lost. Put the log back, restore a backup (resonate-server "
        f"restore BACKUP --db {path} --replace), or continue with what is left: resonate-server recover --db {path}"
    )


def advice(path: Path, error: Exception) -> str:
    """Say what to do about a file that SQLite cannot read; empty for other errors."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return ""
    return f". Restore a backup: resonate-server restore BACKUP --db {path} --replace, or move it away to start over"


class FileIdentity:
    """Whether an open file and its log are still the ones at their paths. Writes to files that were moved, replaced,
    truncated or overwritten are lost, although they succeed. A check takes one ``stat`` call for each, so there is one
    for every commit.
    """

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        self._path = path
        self._db = db
        self._file, self._log = str(path), str(log_of(path))
        self._seen = {name: os.stat(name) for name in (self._file, self._log)}  # noqa: PTH116

    def accept_fold(self) -> None:
        """Accept what a fold, even one that failed, has done to the file, which may have become shorter. If it is
        another file by now, leave it to the next :meth:`check`.
        """
        now = os.stat(self._file)  # noqa: PTH116
        if _is_same(now, self._seen[self._file]) and _belongs(_session(self._db), session_in_file(self._path)):
            self._seen[self._file] = now

    def check(self) -> None:
        """Raise :class:`StoreLost` if one of the two is not what it was. Neither ever shrinks by itself."""
        self._check(self._file)
        self._check(self._log)

    def check_log(self) -> None:
        self._check(self._log)

    def _check(self, name: str) -> None:
        before = self._seen[name]
        try:
            now = os.stat(name)  # noqa: PTH116  a path takes twice as long
        except FileNotFoundError:
            raise StoreLost(f"{name} was removed while it was in use") from None
        except OSError as error:
            raise StoreLost(f"{name} cannot be found any more: {error.strerror}") from error
        if not _is_same(now, before):
            raise StoreLost(f"{name} was replaced while it was in use")
        if now.st_size < before.st_size:
            raise StoreLost(f"{name} was cut short while it was in use")
        if now.st_mtime_ns != before.st_mtime_ns and name == self._file and not self._is_our_session():
            raise StoreLost(f"{name} was overwritten while it was in use")
        self._seen[name] = now

    def _is_our_session(self) -> bool:
        """Only a fold writes to the file. A program that merely sets its time leaves the session as it was."""
        ours = _session(self._db)
        return ours is not None and session_in_file(self._path) == Session(ours.number, is_open=True)


def _is_same(one: os.stat_result, other: os.stat_result) -> bool:
    return (one.st_ino, one.st_dev) == (other.st_ino, other.st_dev)
