"""When something is due next."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from resonate_server.kernel.model import Changes, PutSpreading
from resonate_server.protocol.records import PromiseState

NEVER = 2**63

SWEEP_S = 1.0
"""Interval at which the clock is read again."""


class Alarm:
    """Nothing is due before the time ``at`` (ms). ``clock`` returns the time in ms."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self.at = 0
        self._clock = clock
        self._is_earlier = asyncio.Event()

    def set(self, time: int) -> None:
        if time < self.at:
            self._is_earlier.set()
        self.at = time

    def set_if_earlier(self, time: int) -> None:
        self.set(min(time, self.at))

    async def rings(self) -> None:
        """Return once it is time."""
        while (left := self.at - self._clock()) > 0:
            self._is_earlier.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left / 1_000, SWEEP_S)):
                    await self._is_earlier.wait()


def first_due(changes: Changes) -> int:
    """Return when the first of these changes is due (ms). A spreading settlement is always due."""
    times = [task.timer_at for task in changes.tasks.values() if task.timer_at is not None]
    pending = [promise for promise in changes.promises.values() if promise.state is PromiseState.PENDING]
    times += [promise.timeout_at for promise in pending if promise.is_external]
    times += [schedule.next_run_at for schedule in changes.schedules.values() if schedule is not None]
    times += [0 for link in changes.links if isinstance(link, PutSpreading)]
    return min(times, default=NEVER)
