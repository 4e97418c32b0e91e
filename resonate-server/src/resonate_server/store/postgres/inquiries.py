"""Questions that wait for a transaction, and their order."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress

from msgspec import Struct

from resonate_server.kernel.model import Footprint, Rule
from resonate_server.protocol.answers import Answer

logger = logging.getLogger(__name__)

MAX_BATCH = 64  # questions share one transaction. More would make the first of them wait for the last.
ENOUGH = 16  # With this many questions, do not wait for more.
MAX_NAMED = 256  # ids are named altogether by the questions of a transaction, unless there is only one.
MAX_QUICK = 20  # A question that names more ids is decided alone, and waits in a queue of its own.


class Inquiry(Struct, eq=False):
    """A question; ``done`` gets the answer. ``tries``: how often it was retried because others had its rows.

    ``is_large``: its answer is known to be large, so it is decided only if there is room. ``is_alone``: it shares no
    transaction, because it has failed in one with others.
    """

    done: asyncio.Future[Answer]
    footprint: Footprint
    rule: Rule
    tries: int = 0
    is_large: bool = False
    is_alone: bool = False

    @property
    def is_patient(self) -> bool:
        return self.is_large or len(self.footprint.ids) > MAX_QUICK

    @property
    def is_shared(self) -> bool:
        """Whether it may share a transaction with others."""
        return not (self.is_alone or self.is_patient or self.footprint.due or self.footprint.schedule is not None)

    def give(self, answer: Answer) -> bool:
        """Set the answer; return whether somebody waits for it."""
        if self.done.done():
            return False
        self.done.set_result(answer)
        return True

    def refuse(self, why: str) -> None:
        self.give(Answer(status=503, data=why))

    def blame(self, error: Exception) -> None:
        logger.error("a query failed and changed nothing", exc_info=error)
        self.give(Answer(status=500, data="the server failed to handle this request; nothing was changed"))


class InquiryQueue:
    """First come, first served. Between two batches, one patient question and one of due work get their turn.

    ``open``: questions that are not answered.
    """

    def __init__(self) -> None:
        self.open: set[Inquiry] = set()
        self._quick: deque[Inquiry] = deque()
        self._patient: deque[Inquiry] = deque()
        self._timely: deque[Inquiry] = deque()
        self._awake = asyncio.Event()
        self._has_enough = asyncio.Event()

    def put(self, inquiry: Inquiry) -> None:
        if inquiry not in self.open:
            self.open.add(inquiry)
            inquiry.done.add_done_callback(lambda _: self.open.discard(inquiry))
        queue = self._timely if inquiry.footprint.due else self._patient if inquiry.is_patient else self._quick
        queue.append(inquiry)
        self._awake.set()
        if len(self._quick) >= ENOUGH:
            self._has_enough.set()

    async def gather(self, seconds: float) -> None:
        """Wait for ``seconds``, or until there are enough questions for a transaction."""
        self._has_enough.clear()
        if len(self._quick) < ENOUGH:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._has_enough.wait()

    def put_first(self, batch: list[Inquiry]) -> None:
        """Put them before all others, to be decided one by one."""
        for inquiry in batch:
            inquiry.is_alone = True
        self._quick.extendleft(reversed(batch))

    async def batches(self) -> AsyncIterator[list[Inquiry]]:
        """Yield batches, without an end. Some of the questions may be answered already."""
        while True:
            self._awake.clear()
            if not (self._quick or self._patient or self._timely):
                await self._awake.wait()
            if self._quick:
                yield self._next_batch()
            for queue in (self._patient, self._timely):
                if queue:
                    yield [queue.popleft()]

    def _next_batch(self) -> list[Inquiry]:
        """Take questions, in order, as long as they may share a transaction; else the next one."""
        batch = [first := self._quick.popleft()]
        room = MAX_NAMED - len(first.footprint.ids)
        while first.is_shared and self._quick and self._quick[0].is_shared and len(batch) < MAX_BATCH:
            room -= len(self._quick[0].footprint.ids)
            if room < 0:
                break
            batch.append(self._quick.popleft())
        return batch
