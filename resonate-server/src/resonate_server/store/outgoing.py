"""How many bytes of large answers are under way: decided, and not yet written out to those who asked.

Requests are decided many at a time, and a small one may be answered with megabytes, which are in memory several times
over (texts, rows, JSON). Who finds no room waits for some of them to leave. Why this is not one with the budget of the
requests is said there, in :mod:`resonate_server.http.budget`.
"""

import asyncio
from collections import deque

from msgspec.structs import replace

from resonate_server.kernel.weight import answer_weight
from resonate_server.protocol.answers import Answer
from resonate_server.store.errors import STOPS, ReadFailed

LARGE_BYTES = 64 * 1_024
"""Answers up to this are not counted: they may always leave."""

MAX_OUTGOING_BYTES = 16 * 1_024 * 1_024
"""Of large answers. The last one may go beyond it: a promise has at most two payloads of the size of a body."""

MAX_HELD_BACK = 256
"""Requests that wait until large answers have left; further ones are refused."""


class Outgoing:
    """Used on the event loop; ``is_full`` may be asked anywhere."""

    def __init__(self) -> None:
        self._leaving = 0
        self._decided = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def is_full(self) -> bool:
        return self._leaving + self._decided >= MAX_OUTGOING_BYTES

    def begin(self) -> None:
        """A transaction. What an earlier one has decided is leaving, or will not be told."""
        self._decided = 0

    def decided(self, answer: Answer) -> None:
        """In this transaction."""
        self._decided += answer.weight

    def leaves(self, answer: Answer) -> None:
        """It is committed, and being told."""
        self._leaving += answer.weight

    def left(self, answer: Answer) -> None:
        """It is written out, and its data not needed any more."""
        if answer.weight:
            self._leaving -= answer.weight
            self.resume_one()

    def wait(self) -> asyncio.Future[None]:
        """Done once there may be room. Raises :class:`ReadFailed` if too many wait, or the server stops."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if len(self._waiting) < MAX_HELD_BACK:
            self._waiting.append(waiter)
        else:
            waiter.set_exception(ReadFailed("too many large answers are under way; try again later"))
        return waiter

    def resume_one(self) -> None:
        """Of those who wait, if there is room: each may take all of it."""
        while self._waiting and not self.is_full:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def stop(self) -> None:
        """Nobody need wait any more."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(ReadFailed(STOPS))


def weighed(answer: Answer) -> Answer:
    """``answer`` with its weight, if it is large."""
    weight = answer_weight(answer.data)
    return answer if weight <= LARGE_BYTES else replace(answer, weight=weight)
