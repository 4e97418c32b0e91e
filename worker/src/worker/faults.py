"""Faults on demand, if DEMO_FAULTS=1: an ordinary durable call makes this process die or freeze. Off by default.

A repeated delivery of the call has no effect: it reaches another process, or is recognised.
"""

import asyncio
import ctypes
import logging
import os
import time
from typing import Final, Literal, NoReturn

from resonate.context import Context

from worker.runs import RunLog
from worker.seams import log_run

logger = logging.getLogger(__name__)

FREEZE_SECONDS: Final = 15
# The process that is to fail may also serve the client that asked for it: the client's answer leaves first.
ANSWER_SECONDS: Final = 0.5
WORK_SECONDS: Final = 45.0
LOOK_SECONDS: Final = 0.02
KILLED: Final = 137
"""The exit status that shells and Docker report for a process that was killed by SIGKILL."""

type Fault = Literal["kill", "kill-at-work", "freeze"]


def kill() -> NoReturn:
    """End without cleanup, as by SIGKILL, which the first process of a container could not send to itself."""
    logger.warning("killing this process, as requested")
    os._exit(KILLED)


def freeze(seconds: int) -> None:
    """Freeze as by SIGSTOP, but for a limited time: no thread of this process runs, so no heartbeat leaves it.

    A C function that does not release the interpreter keeps all threads waiting. A signal ends its sleep.
    """
    logger.warning("freezing this process for %d s, as requested", seconds)
    ctypes.PyDLL(None).sleep(seconds)


class Faults:
    """Faults of one process, which the server knows by its `pid`. `runs` knows when it is at work."""

    def __init__(self, pid: str, runs: RunLog) -> None:
        self._pid, self._runs = pid, runs
        self._done: set[str] = set()

    async def fail(self, ctx: Context, how: Fault, worker: str) -> str:
        """Fail, if `worker` is this process and this call is new to it; else return that it has survived."""
        log_run(ctx)
        if worker != self._pid or ctx.info.id in self._done:
            return "survived"
        self._done.add(ctx.info.id)
        await asyncio.sleep(ANSWER_SECONDS)
        if how == "freeze":
            freeze(FREEZE_SECONDS)
            return f"frozen for {FREEZE_SECONDS} s"
        if how == "kill-at-work" and not await self._is_at_work():
            return f"not killed: no step has run within {WORK_SECONDS:.0f} s"
        kill()

    async def _is_at_work(self) -> bool:
        end = time.monotonic() + WORK_SECONDS
        while time.monotonic() < end:
            if self._runs.has_step_at_work():
                return True
            await asyncio.sleep(LOOK_SECONDS)
        return False
