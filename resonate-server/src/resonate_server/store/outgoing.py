"""The budget for large answers in flight: decided, but not yet written out to the client.

Many requests are decided at a time, and a small one may get megabytes in answer, which are in memory several times over
(texts, rows, JSON). A request that finds no room waits until some answers have left. :mod:`resonate_server.http.bodies`
says why requests have a budget of their own.
"""

import asyncio
from collections import deque

from msgspec.structs import replace

from resonate_server.kernel.sizes import answer_weight
from resonate_server.protocol.answers import Answer
from resonate_server.store.errors import STOPS, ReadFailed

LARGE_BYTES = 64 * 1_024
"""Answers up to this size are not counted: they may always leave."""

MAX_OUTGOING_BYTES = 16 * 1_024 * 1_024
"""Limit for all large answers. The last one may exceed it: a promise has at most two payloads of the size of a body."""

MAX_HELD_BACK = 256
"""Requests that may wait until large answers have left; more are refused."""


class Outgoing:
    """Used on the event loop; ``is_full`` on any thread."""

    def __init__(self) -> None:
        self._leaving = 0
        self._decided = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def is_full(self) -> bool:
        return self._leaving + self._decided >= MAX_OUTGOING_BYTES

    def begin(self) -> None:
        """Begin a transaction. Answers of earlier ones are leaving or were dropped."""
        self._decided = 0

    def decided(self, answer: Answer) -> None:
        """Count an answer decided in this transaction."""
        self._decided += answer.weight

    def leaves(self, answer: Answer) -> None:
        """Count a committed answer that is being sent."""
        self._leaving += answer.weight

    def left(self, answer: Answer) -> None:
        """Release an answer that was written out."""
        if answer.weight:
            self._leaving -= answer.weight
            self.resume_one()

    def wait(self) -> asyncio.Future[None]:
        """Wait until there may be room. Raises :class:`ReadFailed` if too many wait, or the server stops."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if len(self._waiting) < MAX_HELD_BACK:
            self._waiting.append(waiter)
        else:
            waiter.set_exception(ReadFailed("too many large answers are under way; try again later"))
        return waiter

    def resume_one(self) -> None:
        """Let one waiter continue if there is room; only one, because it may take all of it."""
        while self._waiting and not self.is_full:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def stop(self) -> None:
        """Fail all waiters."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(ReadFailed(STOPS))


def weighed(answer: Answer) -> Answer:
    """Return ``answer``, with its weight if it is large."""
    weight = answer_weight(answer.data)
    return answer if weight <= LARGE_BYTES else replace(answer, weight=weight)
