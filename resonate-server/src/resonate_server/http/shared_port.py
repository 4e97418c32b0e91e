"""Checks that all servers that share a port use the same store, because the kernel distributes connections at random.

Each server holds a lock on a file for the port, which names the store. The file is never deleted; the locks end with
the processes.
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
"""File name in the temporary directory. Only processes of the same user can share a port."""


ASKED_AGAIN_S = 1.0
"""Retry interval while the store cannot be identified."""


class CannotShare(Exception):
    """A server with another store listens on the port."""


async def share(port: int, store: Store) -> None:
    """Hold the port's lock forever. Raises :class:`CannotShare` if a server there uses another store."""
    path = Path(tempfile.gettempdir()) / NAME.format(user=os.getuid(), port=port)
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        logger.warning("cannot check whether all servers on port %s use the same database: %s", port, error)
        await asyncio.Future()
    while True:
        with suppress(ReadFailed, BlockingIOError):  # Retry until the store answers.
            if _is_shared(file, await store.identity()):
                await asyncio.Future()
            raise CannotShare(f"a server with another database listens on port {port}: the two cannot share it")
        await asyncio.sleep(ASKED_AGAIN_S)


def _is_shared(file: int, store: str) -> bool:
    """Acquire the lock and return whether all holders use ``store``. The first holder decides which store that is.

    Raises ``BlockingIOError`` while another process is writing the file.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pass
    else:
        os.ftruncate(file, 0)
        os.pwrite(file, store.encode(), 0)
    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # Another server may have written in between, so read.
    return os.pread(file, 1_000, 0).decode(errors="replace") == store
