"""The whole experiment: send chains while faults strike, then bring everything back and complete the record."""

import asyncio
import contextlib
import time
from collections.abc import Sequence

from msgspec import Struct

from chaos import plan
from chaos.callers import Callers
from chaos.display import Display
from chaos.records import Record, SentChain
from chaos.stack import Stack
from chaos.wrecker import Wrecker

UP_AGAIN_S = 90.0
LAST_ANSWERS_S = 90.0
"""After the last fault; longer than the server's longest retry (30 s). A chain without an answer by then is lost."""
HASTY_ANSWERS_S = 3.0
"""The same if somebody ends it early."""
STATUS_S = 0.2


class Settings(Struct, frozen=True):
    """``services``: the parts of the stack; ``lease`` and ``seconds``: in seconds."""

    kind: str
    services: list[str]
    foo_port: int
    lease: float
    chains: int
    seconds: float
    seed: int


class Experiment:
    """``interrupt`` ends it early, but still brings back what is struck."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._began = time.monotonic()
        self._display = Display(self._began)
        self._stop = asyncio.Event()
        self._record = Record(settings.kind, settings.seed)
        self._callers = Callers(settings.foo_port, self._began)
        self._stack = Stack(settings.kind, settings.services)
        self._wrecker = Wrecker(self._stack, self._stop, self._began, self._display.event)
        self._calls: list[asyncio.Task[None]] = []

    def interrupt(self) -> None:
        self._record.interrupted = True
        self._stop.set()
        self._display.event("ending early: repairing all faults first ...")

    async def play(self) -> Record:
        """Run the experiment, and return its record."""
        self._display.event(
            f"seed {self._settings.seed}, as {self._settings.kind}, leases of {self._settings.lease:g} s"
        )
        showing = asyncio.create_task(self._show())
        try:
            await self._wrecker.look_around()
            await self._strike_and_send()
            self._record.down = await self._wrecker.restore(UP_AGAIN_S)
            await self._await_last_answers()
            self._record.faults = self._wrecker.faults
            self._record.runs = await self._stack.runs()
        finally:
            showing.cancel()
            await self._callers.close()
            self._display.close()
        return self._record

    async def _strike_and_send(self) -> None:
        waves = plan.waves(self._settings.seed, self._stack.services, self._stack.fault_kinds, self._settings.lease)
        wrecking = asyncio.create_task(self._wrecker.wreak(waves))
        sending = asyncio.create_task(
            self._send(plan.chains(self._settings.seed, self._settings.chains, self._settings.seconds))
        )
        await sending
        self._stop.set()
        await wrecking

    async def _send(self, chains: Sequence[plan.PlannedChain]) -> None:
        """Send each chain on time, however many others wait; send no more once the experiment is to end."""
        mark = time.strftime("%H%M%S")
        for number, planned in enumerate(chains):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), max(planned.at - self._now(), 0))
                return
            chain = SentChain(f"chaos-{self._settings.seed}-{mark}-{number:04}", planned.pause, planned.running)
            self._record.chains.append(chain)
            self._calls.append(asyncio.create_task(self._callers.call(chain)))

    async def _await_last_answers(self) -> None:
        limit = HASTY_ANSWERS_S if self._record.interrupted else LAST_ANSWERS_S
        if self._calls:
            _, late = await asyncio.wait(self._calls, timeout=limit)
            for call in late:
                call.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _show(self) -> None:
        while True:
            self._display.status(self._status())
            await asyncio.sleep(STATUS_S)

    def _status(self) -> str:
        sent = self._record.chains
        answered = sum(chain.answered is not None for chain in sent)
        now = ", ".join(f"{fault.service} {fault.kind.struck}" for fault in self._wrecker.lasting)
        return (
            f"chains {len(sent)}/{self._settings.chains}, {answered} answered, {len(sent) - answered} open; "
            f"faults {len(self._wrecker.faults)}{'; now: ' + now if now else ''}"
        )

    def _now(self) -> float:
        return time.monotonic() - self._began
