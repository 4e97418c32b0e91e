"""Sessions are counted, so that a file that has lost its write-ahead log is told: a session is a time that it is open.

The number of the session (in the column ``run``), and that it goes on, stand in the file itself from its beginning on.
The log gets them with each mark of the clock, which is in the same row. A file that says "a session goes on" was not
closed, so it must have a log, and not one of an earlier session: else what was acknowledged last is gone, and SQLite
would go on without a word.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

from msgspec import Struct

from resonate_server.store.errors import StoreFailed
from resonate_server.store.sqlite import statements
from resonate_server.store.sqlite.lock import PathLock

GET_SESSION = "SELECT run, is_open FROM server"
BEGIN_SESSION = "UPDATE server SET run = run + 1, is_open = 1"
END_SESSION = "UPDATE server SET is_open = 0"


class LogLost(Exception):
    """The file was not closed, and its log is not there any more; the text is for people."""


class Session(Struct, frozen=True):
    number: int
    is_open: bool


def log_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def session_in_file(path: Path) -> Session | None:
    """What the file alone says, without its log; ``None`` if it says nothing. Only for a file that nobody has open."""
    if not path.exists() or not path.stat().st_size:
        return None
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as db:
        return _session(db)


def check_log(path: Path, session: Session | None) -> None:
    """Raise :class:`LogLost` if the file was not closed and has no log."""
    log = log_of(path)
    if session is not None and session.is_open and (not log.exists() or not log.stat().st_size):
        raise LogLost(_explained(path, "is gone"))


def begin_session(db: sqlite3.Connection, path: Path, session: Session | None) -> None:
    """The file says from now on that it is open. Raises :class:`LogLost` if its log is of an earlier session."""
    now = _session(db)
    if _is_older(now, session):
        db.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE)  # or closing would copy the old log into the file
        raise LogLost(_explained(path, "is an old one"))
    db.execute(BEGIN_SESSION)
    db.execute(statements.CHECKPOINT).fetchall()


def end_session(db: sqlite3.Connection) -> None:
    """Closing the database brings that into the file."""
    db.execute(END_SESSION)


def recover(path: Path) -> None:
    """Go on with a file that has lost its log. One of an earlier session is put aside.

    Raises :class:`StoreFailed` for a file that is none of ours, ``PathTaken`` or ``OSError``.
    """
    try:
        _recover(path)
    except sqlite3.Error as error:
        raise StoreFailed(str(error)) from error


def _recover(path: Path) -> None:
    with PathLock(path):
        log = log_of(path)
        if _is_older(_session_with_log(path), session_in_file(path)):
            log.rename(log.with_name(log.name + ".old"))
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            end_session(db)


def _is_older(with_log: Session | None, in_file: Session | None) -> bool:
    return with_log is not None and in_file is not None and with_log.number < in_file.number


def _session_with_log(path: Path) -> Session | None:
    with closing(sqlite3.connect(path)) as db:
        db.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE)
        return _session(db)


def _session(db: sqlite3.Connection) -> Session | None:
    try:
        number, is_open = db.execute(GET_SESSION).fetchone()
    except sqlite3.OperationalError:  # a file from before sessions were counted, or none of ours
        return None
    return Session(number, bool(is_open))


def _explained(path: Path, trouble: str) -> str:
    return (
        f"{path} was not closed properly, and its log {log_of(path).name} {trouble}: what was acknowledged last is "
        f"lost. Put the log back, restore a backup, or go on with what is left: resonate-server recover --db {path}"
    )
