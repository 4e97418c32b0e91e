"""A thread beside the event loop that sends heartbeats, and watches for functions that block the loop.

So a blocked loop keeps its leases, is reported, and is not taken for a frozen process. The SDK's own heartbeat would
block with it, and is sent as soon as a task begins, when its lease is still new.
"""

import asyncio
import logging
import math
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType

from resonate.error import ServerError
from resonate.send import TaskHeartbeating, TaskRef

from worker.network import REMIND_SECONDS
from worker.seams import sdk_invoke

logger = logging.getLogger(__name__)

HEARTBEATS_PER_LEASE = 4
# Between two signs of life: several may be lost before the server gives up on this process (`stream.TIMING_HEADERS`).
SIGN_SECONDS = 1.0
LOOK_SECONDS = 0.5
# How long a blocked loop keeps its leases: longer than any call that may still return, as blocking clients time out
# after a minute or two. But a process that hangs must not hold its work for ever.
KEEP_SECONDS = 300.0

BLOCKS = (
    "%s blocks the event loop, for %.1f s so far; nothing else in this worker can run: "
    "use `await asyncio.sleep(...)`, or `await asyncio.to_thread(...)` for work that blocks"
)
HANGS = "%s has blocked the event loop for %.0f s: its leases are no longer renewed"
BLOCKED = "%s blocked the event loop for %.1f s"


class HeartbeatThread:
    """Create it on the event loop to be watched. It ends soon after that loop is closed.

    `lease`: in seconds; `leases`: versions by task; `wants_signs`: whether the server expects signs of life.
    """

    def __init__(
        self,
        pid: str,
        lease: float,
        sender: TaskHeartbeating,
        leases: Callable[[], dict[str, int]],
        wants_signs: Callable[[], bool],
    ) -> None:
        self._pid, self._sender, self._leases, self._wants_signs = pid, sender, leases, wants_signs
        self._interval, self._patience = lease / HEARTBEATS_PER_LEASE, lease / 2
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        self._asked_at: float | None = None
        self._warned_at = -math.inf

    def start(self) -> None:
        threading.Thread(target=asyncio.run, args=[self.run()], name="heartbeats", daemon=True).start()

    async def run(self) -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.gather(self._beat(), self._watch())

    def _silence(self) -> float:
        """Return for how many seconds the loop has not answered."""
        asked_at = self._asked_at
        return 0.0 if asked_at is None else time.monotonic() - asked_at

    async def _beat(self) -> None:
        """Renew the leases at a steady pace, unless the loop hangs. In between, a heartbeat for no task shows that this
        process lives: it costs the server no commit."""
        renewed_at = time.monotonic()
        while True:
            await asyncio.sleep(min(SIGN_SECONDS, self._interval))
            await asyncio.sleep(0)  # if all threads were blocked, the watch must look before the function continues
            if self._silence() >= KEEP_SECONDS:
                continue
            leases: dict[str, int] = {}
            if time.monotonic() - renewed_at >= self._interval:
                renewed_at, leases = time.monotonic(), self._leases()
            if leases or self._wants_signs():
                await self._heartbeat([TaskRef(id=id, version=version) for id, version in leases.items()])

    async def _heartbeat(self, held: list[TaskRef]) -> None:
        try:
            async with asyncio.timeout(self._interval):
                await self._sender.task_heartbeat(self._pid, held)
        except ServerError as error:
            if time.monotonic() - self._warned_at > REMIND_SECONDS:
                self._warned_at = time.monotonic()
                logger.warning("heartbeat failed: %s", error)
        except Exception:  # the stream reports it when the server is away
            return

    async def _watch(self) -> None:
        while True:
            await self._ask()
            await self._rest()

    async def _ask(self) -> None:
        """Wait for the loop to answer. Warn as time passes; after a warning, log how long it took in the end."""
        self._asked_at = since = time.monotonic()
        answered, culprit = asyncio.Event(), ""
        try:
            self._loop.call_soon_threadsafe(asyncio.get_running_loop().call_soon_threadsafe, answered.set)
        except RuntimeError:  # the loop is closed: the worker has ended
            raise asyncio.CancelledError from None
        for seconds, warning in ((self._patience, BLOCKS), (KEEP_SECONDS, HANGS)):
            if await self._answers(answered, since + seconds):
                break
            culprit = _place(self._durable_function() or self._innermost())
            logger.warning(warning, culprit, time.monotonic() - since)
        await self._answers(answered, math.inf)
        self._asked_at = None
        if culprit:
            logger.warning(BLOCKED, culprit, time.monotonic() - since)

    async def _answers(self, answered: asyncio.Event, until: float) -> bool:
        """Return whether the loop answers by then. One that was closed meanwhile never will: the worker has ended."""
        while not answered.is_set():
            if self._loop.is_closed():
                raise asyncio.CancelledError
            left = until - time.monotonic()
            if left <= 0:
                return False
            with suppress(TimeoutError):
                await asyncio.wait_for(answered.wait(), min(left, LOOK_SECONDS))
        return True

    async def _rest(self) -> None:
        """Sleep, and report code that held the interpreter meanwhile, like a regular expression: it delays this thread.

        So does stopping the process, but then the loop is hardly ever found in a function.
        """
        until = time.monotonic() + LOOK_SECONDS
        await asyncio.sleep(LOOK_SECONDS)
        late = time.monotonic() - until
        if late > self._patience and (function := self._durable_function()):
            logger.warning(BLOCKED, _place(function), late)

    def _durable_function(self) -> FrameType | None:
        """Return the frame of the durable function, or of the step, that the loop's thread is in."""
        frame = self._innermost()
        while frame.f_back is not None and frame.f_back.f_code is not sdk_invoke.__code__:
            frame = frame.f_back
        return frame if frame.f_back is not None else None

    def _innermost(self) -> FrameType:
        return sys._current_frames()[self._thread]


def _place(frame: FrameType) -> str:
    return f"function {frame.f_code.co_name} ({Path(frame.f_code.co_filename).name}, line {frame.f_lineno})"
