"""Heartbeats: a sign of life for all leases that this worker holds, at a steady pace.

The SDK's own sends one as soon as a task begins, when its lease has just begun, too: for functions that take a moment
that is every fourth request to the server.
"""

import asyncio
import logging
import time
from collections.abc import Callable

from resonate.send import TaskHeartbeating, TaskRef

logger = logging.getLogger(__name__)

# For how long leases are kept while the event loop sends no heartbeats. That is longer than anything that was meant to
# return: clients that block give up after a minute or two. And a process that hangs must not hold its work for ever.
KEEP_SECONDS = 300.0


class SteadyHeartbeat:
    """See `resonate.heartbeat.Heartbeat`; used on the event loop. A pause of `interval` seconds comes before each."""

    def __init__(self, pid: str, interval: float, sender: TaskHeartbeating) -> None:
        self._pid = pid
        self._interval = interval
        self._sender = sender
        self._held: dict[str, int] = {}
        self._beating: asyncio.Task[None] | None = None
        self._beaten_at = 0.0

    def start(self, task_id: str, task_version: int) -> None:
        """The lease of the task is held from now on."""
        self._held[task_id] = task_version
        if self._beating is None:
            self._beaten_at = time.monotonic()
            self._beating = asyncio.create_task(self._beat())

    def stop(self, task_id: str) -> None:
        """The lease is not needed any more."""
        self._held.pop(task_id, None)

    def shutdown(self) -> None:
        """No lease is needed any more."""
        self._held.clear()
        if self._beating is not None:
            self._beating.cancel()
            self._beating = None

    def silence(self) -> float:
        """The seconds since the last heartbeat, or since the first lease; 0 while nothing is held. From any thread."""
        return time.monotonic() - self._beaten_at if self._held else 0.0

    async def _beat(self) -> None:
        """Until a pause has passed at whose end nothing is held."""
        await asyncio.sleep(self._interval)
        while self._held:
            try:
                await self._sender.task_heartbeat(self._pid, _references(self._held))
                self._beaten_at = time.monotonic()
            except Exception as error:
                logger.warning("heartbeat failed: %s", error)
            await asyncio.sleep(self._interval)
        self._beating = None


class StandIn:
    """Sends the heartbeats that a blocked event loop does not send; to be run on the event loop of another thread."""

    def __init__(
        self,
        pid: str,
        interval: float,
        sender: TaskHeartbeating,
        silence: Callable[[], float],
        leases: Callable[[], dict[str, int]],
    ) -> None:
        """`silence`: for how many seconds no heartbeat was sent; `interval`: how many are usual."""
        self._pid = pid
        self._interval = interval
        self._sender = sender
        self._silence = silence
        self._leases = leases

    async def run(self) -> None:
        """Step in when two heartbeats are missing, half of a lease before its end."""
        while True:
            await asyncio.sleep(self._interval / 2)
            await asyncio.sleep(0)  # whoever shares this thread may first look what the other one is at
            if 2 * self._interval < self._silence() < KEEP_SECONDS:
                await self._beat()

    async def _beat(self) -> None:
        try:
            async with asyncio.timeout(self._interval):
                await self._sender.task_heartbeat(self._pid, _references(self._leases()))
        except Exception as error:
            logger.warning("heartbeat failed: %s", error)


def _references(leases: dict[str, int]) -> list[TaskRef]:
    return [TaskRef(id=id, version=version) for id, version in leases.items()]
