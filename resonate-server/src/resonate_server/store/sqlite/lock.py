"""One server per path. SQLite locks the file that it has open; this lock is on the name.

A database file that is moved away or replaced while its server runs takes SQLite's lock with it, so a second server
could open the file now in its place. This lock is on a separate file, ``<name>.lock``, which stays behind, and ends
with the process.
"""

import fcntl
import os
from contextlib import AbstractContextManager, suppress
from pathlib import Path

_SUFFIX = ".lock"


class PathTaken(Exception):
    """Another process holds the lock. ``holder`` is its pid, or empty if unknown."""

    def __init__(self, path: Path, holder: str) -> None:
        process = f" (pid {holder})" if holder else ""
        super().__init__(f"{path} is in use by another server{process}")


def check_free(path: Path) -> None:
    """Raise :class:`PathTaken` if a server has the file open. Unlike a lock, this leaves no file behind."""
    if path.with_name(path.name + _SUFFIX).exists():
        PathLock(path).release()


class PathLock(AbstractContextManager["PathLock"]):
    """Held from construction until :meth:`release`.

    Raises :class:`PathTaken`, or ``OSError`` if the lock file cannot be created.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path.with_name(path.name + _SUFFIX), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._descriptor, 20).decode(errors="replace").strip()
            os.close(self._descriptor)
            raise PathTaken(path, holder) from None
        except OSError:
            os.close(self._descriptor)
            raise
        with suppress(OSError):  # A full disk has no room for the name, but the lock needs none.
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        os.close(self._descriptor)

    def __exit__(self, *_: object) -> None:
        self.release()
