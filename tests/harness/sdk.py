"""The SDK is adapted by workers that run in the process of a test; afterwards it is as it was."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, override

import pytest
import resonate.core
from resonate.context import Context
from resonate.durable import DurableFunction

from worker import worker
from worker.heartbeats import HeartbeatThread


class ThreadOfOneLoop(HeartbeatThread):
    """A worker lasts as long as its process, and so does the thread beside it. The loops of tests end before.

    What is left open then is complained about in the log, of whichever test runs at that moment.
    """

    @override
    async def run(self) -> None:
        with suppress(RuntimeError):
            await super().run()
        sender: Any = self._sender
        await sender.transport._network.stop()


@contextmanager
def adaptable_sdk() -> Iterator[pytest.MonkeyPatch]:
    """What is patched meanwhile is undone, too. So are the levels of the SDK's loggers, and filters of handlers."""
    loggers = [logging.getLogger(name) for name in ("resonate", "asyncio")]
    levels = [logger.level for logger in loggers]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resonate.core, "ResonateEffects", vars(resonate.core)["ResonateEffects"])
        patch.setattr(Context, "run", Context.run)
        patch.setattr(DurableFunction, "invoke", DurableFunction.invoke)
        patch.setattr(worker, "HeartbeatThread", ThreadOfOneLoop)
        yield patch
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
    for handler in logging.getLogger().handlers:
        handler.filters.clear()
