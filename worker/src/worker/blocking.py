"""Telling a person which function blocks the event loop: until it returns, nothing else of this worker goes on."""

import asyncio
import contextlib
import logging
import sys
import threading
import time
from pathlib import Path
from types import FrameType

from resonate.durable import DurableFunction

from worker import heartbeat

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.5

BLOCKS = (
    "%s blocks the event loop, for %.1f s so far; meanwhile nothing else of this worker goes on: "
    "use `await asyncio.sleep(...)`, or `await asyncio.to_thread(...)` for work that blocks"
)
HANGS = "%s has blocked the event loop for %.0f s: its leases are not kept any longer"
BLOCKED = "%s blocked the event loop for %.1f s"

_INVOKE = DurableFunction.invoke.__code__


class BlockWatch:
    """Watches an event loop from that of another thread. To be made on the thread that is watched."""

    def __init__(self, lease_seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._patience = lease_seconds / 2
        self._warnings = ((self._patience, BLOCKS), (heartbeat.KEEP_SECONDS, HANGS))

    async def run(self) -> None:
        while True:
            await self._ask()
            await self._rest()

    async def _ask(self) -> None:
        """Wait for the loop to answer; warn as time passes, and after a warning tell how long it was in the end."""
        since, answered, culprit = time.monotonic(), asyncio.Event(), ""
        self._loop.call_soon_threadsafe(asyncio.get_running_loop().call_soon_threadsafe, answered.set)
        for seconds, warning in self._warnings:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(answered.wait(), since + seconds - time.monotonic())
                break
            culprit = _place(self._durable_function() or self._innermost())
            logger.warning(warning, culprit, time.monotonic() - since)
        await answered.wait()
        if culprit:
            logger.warning(BLOCKED, culprit, time.monotonic() - since)

    async def _rest(self) -> None:
        """Code that keeps the interpreter to itself, like a regular expression, makes this thread late as well.

        So does whoever stops the process; then the loop is hardly ever found in a function.
        """
        until = time.monotonic() + LOOK_SECONDS
        await asyncio.sleep(LOOK_SECONDS)
        late = time.monotonic() - until
        if late > self._patience and (function := self._durable_function()):
            logger.warning(BLOCKED, _place(function), late)

    def _durable_function(self) -> FrameType | None:
        """The one that the loop's thread is in, also if it is run as a step."""
        frame = self._innermost()
        while frame.f_back is not None and frame.f_back.f_code is not _INVOKE:
            frame = frame.f_back
        return frame if frame.f_back is not None else None

    def _innermost(self) -> FrameType:
        return sys._current_frames()[self._thread]


def _place(frame: FrameType) -> str:
    return f"function {frame.f_code.co_name} ({Path(frame.f_code.co_filename).name}, line {frame.f_lineno})"
