"""The stack, as the scripts see it: every action is a function of `scripts/lib.sh`, for either kind of stack."""

import asyncio
import logging
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from chaos.records import FaultKind, Runs

logger = logging.getLogger(__name__)

REPOSITORY = Path(__file__).parents[3]
ACTION_SECONDS = 60.0

_RUN = re.compile(r"^\S+ running function (\w+)  promise=([\w-]+)", re.MULTILINE)


class StackError(Exception):
    """Something could not be done to the stack, or read from it."""


def faults_of(kind: str) -> dict[FaultKind, int]:
    """Return the faults that are possible on that kind of stack, with their weights."""
    faults = {FaultKind.KILL: 5, FaultKind.FREEZE: 3}
    return faults | {FaultKind.CUT_OFF: 2} if kind == "containers" else faults


class Stack:
    """A running stack. The scripts find it by variables in the environment."""

    def __init__(self, kind: str, services: Sequence[str]) -> None:
        self._kind = kind
        self.services = services
        self.fault_kinds = faults_of(kind)

    async def instances(self) -> dict[str, list[str]]:
        return {service: (await self._call("of", service)).split() for service in self.services}

    async def strike(self, kind: FaultKind, instance: str) -> None:
        await self._call(kind, instance)

    async def undo(self, kind: FaultKind, instance: str) -> None:
        await self._call(kind.undo, instance)

    async def mend(self, instance: str) -> None:
        """Undo whatever has been done to it, if anything."""
        await self._call("mend", instance)

    async def is_healthy(self, instance: str) -> bool:
        try:
            await self._call("healthy", instance)
        except StackError:
            return False
        return True

    async def runs(self) -> Runs:
        """Count in the logs how often each function ran for each chain. A call's id begins with its chain's id."""
        runs: Runs = {}
        for service in self.services:
            for function, id in _RUN.findall(await self._call("said", service)):
                runs.setdefault(id, Counter())[function] += 1
        return runs

    async def _call(self, verb: str, argument: str) -> str:
        """Run the verb in a session of its own, so that Ctrl-C does not end it half-way."""
        process = await asyncio.create_subprocess_exec(
            "bash", "-c", '. scripts/lib.sh; "$@"', "chaos", self._kind, verb, argument,
            cwd=REPOSITORY,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        output, errors = await asyncio.wait_for(process.communicate(), ACTION_SECONDS)
        if process.returncode != 0:
            raise StackError(f"{verb} {argument}: {errors.decode(errors='replace').strip()}")
        return output.decode(errors="replace")
