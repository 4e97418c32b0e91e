"""Heartbeats: a sign of life for all leases that this worker holds, at a steady pace.

The SDK's own sends one as soon as a task begins, when its lease has just begun, too: for functions that take a moment
that is every fourth request to the server.
"""

import asyncio
import logging

from resonate.send import TaskHeartbeating, TaskRef

logger = logging.getLogger(__name__)


class SteadyHeartbeat:
    """See `resonate.heartbeat.Heartbeat`; used on the event loop. A pause of `interval` seconds comes before each."""

    def __init__(self, pid: str, interval: float, sender: TaskHeartbeating) -> None:
        self._pid = pid
        self._interval = interval
        self._sender = sender
        self._held: dict[str, int] = {}
        self._beating: asyncio.Task[None] | None = None

    def start(self, task_id: str, task_version: int) -> None:
        """The lease of the task is held from now on."""
        self._held[task_id] = task_version
        if self._beating is None:
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

    async def _beat(self) -> None:
        """Until a pause has passed at whose end nothing is held."""
        await asyncio.sleep(self._interval)
        while self._held:
            leases = [TaskRef(id=id, version=version) for id, version in self._held.items()]
            try:
                await self._sender.task_heartbeat(self._pid, leases)
            except Exception as error:
                logger.warning("heartbeat failed: %s", error)
            await asyncio.sleep(self._interval)
        self._beating = None
