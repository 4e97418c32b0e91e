"""A port that servers share, to which the system gives each connection by chance: so they must be of one store.

Each of them holds a lock on a file of the port that says which store it is. It stays behind; the locks end with the
processes.
"""

import asyncio
import fcntl
import logging
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from resonate_server.store import Store
from resonate_server.store.errors import ReadFailed

logger = logging.getLogger(__name__)

NAME = "resonate-server-{user}-{port}.port"
"""In the folder for temporary files. A port is shared only by one user's processes."""


ASKED_AGAIN_S = 1.0
"""A store that does not say which one it is."""


class CannotShare(Exception):
    """Somebody with another store listens there."""


class SharedPort:
    """Held until the end of the process."""

    def __init__(self, port: int) -> None:
        """Raises ``OSError`` if there can be no such file."""
        path = Path(tempfile.gettempdir()) / NAME.format(user=os.getuid(), port=port)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def is_for(self, store: str) -> bool:
        """Whether all who hold it are of this store; whoever is the first decides which one that is. Raises
        ``BlockingIOError`` while that is being written."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        else:
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, store.encode(), 0)
        fcntl.flock(self._file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # Another one may come in between: read.
        return os.pread(self._file, 1_000, 0).decode(errors="replace") == store


async def share(port: int, store: Store) -> None:
    """The port, as long as all who listen there are of the same store. Raises :class:`CannotShare`."""
    try:
        shared = SharedPort(port)
    except OSError as error:
        logger.warning("cannot check whether all servers on port %s use the same database: %s", port, error)
        await asyncio.Future()
    while True:
        with suppress(ReadFailed, BlockingIOError):  # Nobody is told anything before it answers.
            if shared.is_for(await store.identity()):
                await asyncio.Future()
            raise CannotShare(f"a server with another database listens on port {port}: the two cannot share it")
        await asyncio.sleep(ASKED_AGAIN_S)
