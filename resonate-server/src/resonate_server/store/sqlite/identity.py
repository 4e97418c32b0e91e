"""Is the file that is open still the one that has its name? What is written to one that was moved away, replaced or cut
short is lost, though every write succeeds. Two looks at the file system tell, so there is one after every commit.
"""

from pathlib import Path

from msgspec import Struct

from resonate_server.store.errors import StoreLost
from resonate_server.store.sqlite.sessions import log_of


class Seen(Struct, frozen=True):
    """A file as it was last seen; ``size`` in bytes."""

    device: int
    inode: int
    size: int

    @classmethod
    def at(cls, path: Path) -> "Seen":
        status = path.stat()
        return cls(status.st_dev, status.st_ino, status.st_size)


class FileIdentity:
    """Of a database that is open, and of its write-ahead log. Neither ever gets smaller by itself."""

    def __init__(self, path: Path) -> None:
        self._seen = {each: Seen.at(each) for each in (path, log_of(path))}

    def check(self) -> None:
        """Raise :class:`StoreLost` if one of the two is not what it was."""
        for path, before in self._seen.items():
            try:
                now = Seen.at(path)
            except FileNotFoundError:
                raise StoreLost(f"{path} was removed while it was in use") from None
            if (now.device, now.inode) != (before.device, before.inode):
                raise StoreLost(f"{path} was replaced while it was in use")
            if now.size < before.size:
                raise StoreLost(f"{path} was cut short while it was in use")
            self._seen[path] = now

    def has_shrunk(self) -> None:
        """This server has given space back: the sizes count from here on."""
        self._seen = {path: Seen.at(path) for path in self._seen}
