"""Workers in the test's own process patch the SDK; this undoes the patches afterwards."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, override

import pytest

from worker import worker
from worker.heartbeats import HeartbeatThread
from worker.seams import ADAPTED


class ThreadOfOneLoop(HeartbeatThread):
    """A heartbeat thread that closes its network when its loop ends.

    A real worker and its thread last as long as the process, but the loops of tests end earlier. Anything left open
    then would be reported in the log of whichever test runs at that moment.
    """

    @override
    async def run(self) -> None:
        await super().run()
        sender: Any = self._sender
        await sender.transport._network.stop()


@contextmanager
def adaptable_sdk() -> Iterator[pytest.MonkeyPatch]:
    """Undo everything patched meanwhile, and restore the levels and filters of the SDK's loggers."""
    loggers = [logging.getLogger(name) for name in ("resonate", "asyncio")]
    levels = [logger.level for logger in loggers]
    with pytest.MonkeyPatch.context() as patch:
        for owner, name, _ in ADAPTED:
            patch.setattr(owner, name, getattr(owner, name))
        patch.setattr(worker, "HeartbeatThread", ThreadOfOneLoop)
        yield patch
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
    logging.getLogger("resonate.core").filters.clear()
