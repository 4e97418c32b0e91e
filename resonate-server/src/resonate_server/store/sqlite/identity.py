"""Whether the open file is still the one at its path. Writes to a file that was moved, replaced or truncated are lost,
although they succeed. The check takes two ``stat`` calls, so it follows every commit.
"""

import os
from pathlib import Path

from resonate_server.store.errors import StoreLost
from resonate_server.store.sqlite.sessions import log_of

type _Identity = tuple[int, int, int]
"""Device and inode of a file, and its size in bytes."""


class FileIdentity:
    """Identity of an open database file and of its write-ahead log. Neither ever shrinks by itself."""

    def __init__(self, path: Path) -> None:
        self._seen = {name: _look(name) for name in (str(path), str(log_of(path)))}

    def check(self) -> None:
        """Raise :class:`StoreLost` if one of the two was removed, replaced or truncated."""
        for name, before in self._seen.items():
            try:
                now = _look(name)
            except FileNotFoundError:
                raise StoreLost(f"{name} was removed while it was in use") from None
            if now == before:
                continue
            if now[:2] != before[:2]:
                raise StoreLost(f"{name} was replaced while it was in use")
            if now[2] < before[2]:
                raise StoreLost(f"{name} was cut short while it was in use")
            self._seen[name] = now

    def has_shrunk(self) -> None:
        """Accept smaller sizes: this server has returned space to the disk."""
        self._seen = {name: _look(name) for name in self._seen}


def _look(name: str) -> _Identity:
    status = os.stat(name)  # noqa: PTH116  a path takes twice as long, and this is done for each commit
    return status.st_dev, status.st_ino, status.st_size
