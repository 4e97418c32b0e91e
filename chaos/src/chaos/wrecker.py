"""Carries out the faults of a plan, and undoes each of them, however the experiment ends."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator

from chaos.plan import Strike, Wave
from chaos.records import Fault
from chaos.stack import Stack, StackError

HEALTHY_S = 30.0
LOOK_S = 0.3


class Wrecker:
    """``stop`` cuts every wait short: lasting faults are undone at once, and no new ones begin.

    ``say`` reports what happens.
    """

    def __init__(self, stack: Stack, stop: asyncio.Event, began: float, say: Callable[[str], None]) -> None:
        self._stack = stack
        self._stop = stop
        self._began = began
        self._say = say
        self.faults: list[Fault] = []
        self.instances: dict[str, list[str]] = {}
        """By service, as they were before the first fault."""

    @property
    def lasting(self) -> list[Fault]:
        return [fault for fault in self.faults if fault.ended is None]

    async def look_around(self) -> None:
        self.instances = await self._stack.instances()
        if missing := [service for service, instances in self.instances.items() if not instances]:
            raise StackError(f"{', '.join(missing)}: not running; scripts/up.sh starts what is missing")

    async def wreak(self, waves: Iterator[Wave]) -> None:
        """Carry out wave after wave until stopped. By then everything is undone."""
        for wave in waves:
            await asyncio.gather(*(self._carry_out(strike) for strike in wave.strikes))
            if wave.patient:
                await self._until_healthy(HEALTHY_S, cut_short=True)
            await self._pause(wave.quiet)
            if self._stop.is_set():
                return

    async def restore(self, seconds: float) -> list[str]:
        """Wait up to ``seconds`` until everything is healthy, and return the services that are not.

        If a fault could not be undone, try again.
        """
        ill = await self._unhealthy()
        await asyncio.gather(*(self._act(self._stack.mend(one)) for service in ill for one in self.instances[service]))
        return await self._until_healthy(seconds, cut_short=False)

    async def _carry_out(self, strike: Strike) -> None:
        await self._pause(strike.after)
        if self._stop.is_set():
            return
        instances = self.instances[strike.service]
        instance = instances[min(int(strike.pick * len(instances)), len(instances) - 1)]
        fault = Fault(strike.kind, strike.service, self._now())
        self.faults.append(fault)
        try:
            await self._act(self._stack.strike(strike.kind, instance))
            self._say(f"{strike.service} is {strike.kind.struck}, for {strike.lasts:.1f} s")
            await self._pause(strike.lasts)
        finally:
            await self._act(self._stack.undo(strike.kind, instance))
            fault.ended = self._now()
            self._say(f"{strike.service} is {strike.kind.over}")

    async def _act(self, action: Awaitable[None]) -> None:
        try:
            await action
        except (StackError, TimeoutError) as error:
            self._say(f"failed: {error}")

    async def _until_healthy(self, seconds: float, *, cut_short: bool) -> list[str]:
        deadline = self._now() + seconds
        while unhealthy := await self._unhealthy():
            if self._now() > deadline or (cut_short and self._stop.is_set()):
                break
            await asyncio.sleep(LOOK_S)
        return unhealthy

    async def _unhealthy(self) -> list[str]:
        return [
            service
            for service, instances in self.instances.items()
            if not all(await asyncio.gather(*map(self._stack.is_healthy, instances)))
        ]

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)

    def _now(self) -> float:
        return time.monotonic() - self._began
