"""The stack, as the scripts see it, and what carries out the faults of a plan there: every action is a function of
`scripts/lib.sh`, for either kind of stack."""

import asyncio
import contextlib
import os
import re
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from chaos.ledger import Fault, Runs
from chaos.plan import Strike, Wave
from crash import FAULTS
from resonate_server.client.account import FaultKind

REPOSITORY = Path(__file__).parents[2]
ACTION_SECONDS = 60.0
HEALTHY_S = 30.0
LOOK_S = 0.3

_RUN = re.compile(r"^\S+ running function (\w+)  promise=([\w-]+)", re.MULTILINE)


class StackError(Exception):
    """Something could not be done to the stack, or read from it."""


def faults_of(kind: str) -> dict[FaultKind, int]:
    """Return the faults that are possible on that kind of stack, with their weights."""
    faults = {FaultKind.KILL: 5, FaultKind.FREEZE: 3}
    return faults | {FaultKind.PARTITION: 2} if kind == "containers" else faults


class Stack:
    """A running stack. The scripts find it by variables in the environment."""

    def __init__(self, kind: str, services: Sequence[str]) -> None:
        self._kind = kind
        self.services = services
        self.fault_kinds = faults_of(kind)

    async def instances(self) -> dict[str, list[str]]:
        return {service: (await self.call("of", service)).split() for service in self.services}

    async def is_healthy(self, instance: str) -> bool:
        try:
            await self.call("healthy", instance)
        except StackError:
            return False
        return True

    async def runs(self) -> Runs:
        """Count in the logs how often each function ran for each chain. A call's id begins with its chain's id."""
        runs: Runs = {}
        for function, id in _RUN.findall(await self.call("said", *self.services)):
            runs.setdefault(id, Counter())[function] += 1
        return runs

    async def call(self, verb: str, *arguments: str) -> str:
        """Run the verb in a session of its own, so that Ctrl-C does not end it half-way; return what it prints."""
        process = await asyncio.create_subprocess_exec(
            "bash", "-p", "-c", '. scripts/lib.sh; "$@"', "chaos", self._kind, verb, *arguments,
            cwd=REPOSITORY,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        try:
            output, errors = await asyncio.wait_for(process.communicate(), ACTION_SECONDS)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            raise StackError(f"{verb} {' '.join(arguments)}: not within {ACTION_SECONDS:g} s") from None
        if process.returncode != 0:
            raise StackError(f"{verb} {' '.join(arguments)}: {errors.decode(errors='replace').strip()}")
        return output.decode(errors="replace")


class Wrecker:
    """Undoes each fault, however the experiment ends.

    ``stop`` cuts every wait short: lasting faults are undone at once, and no new ones begin.
    ``now``: the time since the experiment began. ``say`` reports what happens.
    """

    def __init__(self, stack: Stack, stop: asyncio.Event, now: Callable[[], float], say: Callable[[str], None]) -> None:
        self._stack, self._stop, self._now, self._say = stack, stop, now, say
        self.faults: list[Fault] = []
        self.instances: dict[str, list[str]] = {}
        """By service, as they were before the first fault."""

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
        await asyncio.gather(*(self._act("mend", one) for service in ill for one in self.instances[service]))
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
            await self._act(FAULTS[strike.kind].strike, instance)
            self._say(f"{strike.service} is {strike.kind.struck}, for {strike.lasts:.1f} s")
            await self._pause(strike.lasts)
        finally:
            await self._act(FAULTS[strike.kind].undo, instance)
            fault.ended = self._now()
            self._say(f"{strike.service} is {strike.kind.over}")

    async def _act(self, verb: str, instance: str) -> None:
        try:
            await self._stack.call(verb, instance)
        except StackError as error:
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
