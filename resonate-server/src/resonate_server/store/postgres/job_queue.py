"""The queue of jobs that wait for a transaction, and their order."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

from msgspec import Struct

from resonate_server.kernel.model import Footprint, Rule
from resonate_server.protocol.answers import Answer
from resonate_server.store.errors import ReadFailed

logger = logging.getLogger(__name__)

MAX_BATCH = 64
"""Questions that share one transaction. More would make the first of them wait for the last."""

ENOUGH = 16
"""With this many jobs, do not wait for more."""

MAX_NAMED = 256
"""Ids that the questions of a transaction name altogether, unless there is only one."""

MAX_QUICK = 20
"""A question that names more ids is decided alone, and waits in a queue of its own."""


class Waiting(Struct, eq=False, kw_only=True):
    """``done`` gets the outcome. ``tries``: how often it was retried because others had its rows.

    ``is_large``: its answer is known to be large, so it is decided only if there is room. ``is_alone``: it shares no
    transaction, for example because it has failed in one with others.
    """

    done: asyncio.Future[Any]
    footprint: Footprint = Footprint()
    tries: int = 0
    is_large: bool = False
    is_alone: bool = False

    @property
    def named(self) -> int:
        """Number of ids that it names."""
        return len(self.footprint.ids)

    @property
    def is_shared(self) -> bool:
        """Whether it may share a transaction with others."""
        is_special = self.is_of_time or self.footprint.schedule is not None
        return not (is_special or self.is_large or self.is_alone or self.named > MAX_QUICK)

    @property
    def is_of_time(self) -> bool:
        """Afterwards, the database is asked what is due next. At the start, when leases restart, that is unknown."""
        return bool(self.footprint.due or self.footprint.leased)


class Inquiry(Waiting, kw_only=True):
    """Answered by a rule."""

    rule: Rule


class Turn(Waiting, kw_only=True):
    """Runs between two transactions."""

    work: Callable[[], Awaitable[Any]]
    is_alone: bool = True


class JobQueue:
    """First come, first served. Between two batches, one patient job and one of due work get their turn.

    ``open``: jobs that are not done.
    """

    def __init__(self) -> None:
        self.open: set[Waiting] = set()
        self._jobs: deque[Waiting] = deque()
        self._patient: deque[Waiting] = deque()
        self._timely: deque[Waiting] = deque()
        self._awake = asyncio.Event()
        self._has_enough = asyncio.Event()

    def put(self, job: Waiting) -> None:
        if job not in self.open:
            self.open.add(job)
            job.done.add_done_callback(lambda _: self.open.discard(job))
        self._queue_of(job).append(job)
        self._awake.set()
        if len(self._jobs) >= ENOUGH:
            self._has_enough.set()

    def _queue_of(self, job: Waiting) -> deque[Waiting]:
        if job.footprint.due:
            return self._timely
        return self._patient if job.is_large or job.named > MAX_QUICK else self._jobs

    async def gather(self, seconds: float) -> None:
        """Wait for ``seconds``, or until there are enough jobs for a transaction."""
        self._has_enough.clear()
        if len(self._jobs) < ENOUGH:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._has_enough.wait()

    def put_first(self, batch: list[Waiting]) -> None:
        """Put the jobs before all others, to be done one by one."""
        for job in batch:
            job.is_alone = True
        self._jobs.extendleft(reversed(batch))

    async def batches(self) -> AsyncIterator[list[Waiting]]:
        """Yield batches forever. Some of the jobs may be done already."""
        while True:
            self._awake.clear()
            if not (self._jobs or self._patient or self._timely):
                await self._awake.wait()
            if self._jobs:
                yield self._next_batch()
            for queue in (self._patient, self._timely):
                if queue:
                    yield [queue.popleft()]

    def _next_batch(self) -> list[Waiting]:
        """Take jobs, in order, as long as they may share a transaction; else the next job."""
        batch = [first := self._jobs.popleft()]
        room = MAX_NAMED - first.named
        while first.is_shared and self._jobs and len(batch) < MAX_BATCH:
            room -= self._jobs[0].named
            if room < 0 or not self._jobs[0].is_shared:
                break
            batch.append(self._jobs.popleft())
        return batch


def give(job: Waiting, result: Any) -> bool:
    """Set the result; return whether somebody waits for it."""
    if job.done.done():
        return False
    job.done.set_result(result)
    return True


def blame(inquiry: Inquiry, error: Exception) -> None:
    logger.error("a query failed and changed nothing", exc_info=error)
    give(inquiry, Answer(status=500, data="the server failed to handle this request; nothing was changed"))


def refuse(job: Waiting, why: str) -> None:
    if isinstance(job, Inquiry):
        give(job, Answer(status=503, data=why))
    elif not job.done.done():
        job.done.set_exception(ReadFailed(why))
