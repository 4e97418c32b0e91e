"""How many bytes of requests the server holds at a time, over all connections.

What is small needs no place in advance: it comes whole at once, and what does not makes way. What is large waits for
its turn before it is read.

Answers have a budget of their own, :mod:`resonate_server.store.outgoing`. One for both would stand still: a request
keeps its bytes until it is answered, so requests could fill it, and all would wait for room for their answers. Nor are
the two asked at the same time or place: here, before anything is read; there, on the store's thread, before a rule is.
"""

import asyncio
from collections import deque
from typing import Protocol

from msgspec import Struct

SMALL_BYTES = 64 * 1_024
"""Bodies up to this are small."""

MAX_UNFINISHED_BYTES = 16 * 2**20
"""Of small requests that have not come whole."""

MAX_SMALL_BYTES = 16 * 2**20
"""Of small bodies that are being answered. As many may wait for their turn."""

MAX_LARGE_BYTES = 8 * 2**20
"""Of large bodies that are being read or answered; at least one of the configured size. Decoded, stored and
encoded again they take about five times as much."""

MAX_LARGE_WAITING = 256
"""Large bodies of the configured size that may wait to be read."""


class Full(Exception):
    """There is no room, and too many wait for it already."""


class Quota:
    """``limit`` bytes, given out in the order in which they are asked for; ``may_wait``: bytes that wait at most."""

    def __init__(self, limit: int, may_wait: int) -> None:
        self._limit = limit
        self._may_wait = may_wait
        self._used = self._wanted = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def is_contended(self) -> bool:
        return bool(self._waiting)

    def ask(self, size: int) -> asyncio.Future[None] | None:
        """``None``: ``size`` bytes are the caller's. Else they are once the future is done. Raises :class:`Full`."""
        if not self._waiting and self._fits(size):
            self._used += size
            return None
        if self._wanted + size > self._may_wait:
            raise Full
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, place))
        self._wanted += size
        return place

    def give_back(self, size: int) -> None:
        self._used -= size
        while self._waiting and (self._waiting[0][1].cancelled() or self._fits(self._waiting[0][0])):
            wanted, place = self._waiting.popleft()
            self._wanted -= wanted
            if not place.cancelled():
                self._used += wanted
                place.set_result(None)

    def _fits(self, size: int) -> bool:
        return not self._used or self._used + size <= self._limit


class Sender(Protocol):
    """Who is sending a request."""

    def send_away(self) -> None:
        """Read no more of it."""


class Unfinished:
    """Small requests that have not come whole. If they are too many bytes, whoever began first goes."""

    def __init__(self, limit: int = MAX_UNFINISHED_BYTES) -> None:
        self._limit = limit
        self._total = 0
        self._sizes: dict[Sender, int] = {}

    def hold(self, sender: Sender, size: int) -> None:
        """``size`` bytes of it have come so far."""
        self._total += size - self._sizes.get(sender, 0)
        self._sizes[sender] = size
        while self._total > self._limit:
            oldest = next(iter(self._sizes))
            self.drop(oldest)
            oldest.send_away()

    def drop(self, sender: Sender) -> None:
        """It has come whole, or will not."""
        self._total -= self._sizes.pop(sender, 0)


class Budget(Struct, frozen=True):
    """Where bodies of each kind count.

    ``strangers``: large ones that come without a valid token in their header, where tokens are needed.
    """

    unfinished: Unfinished
    small: Quota
    large: Quota
    strangers: Quota


def budget(max_body: int) -> Budget:
    """``max_body``: bytes of the largest body."""
    return Budget(
        unfinished=Unfinished(),
        small=Quota(MAX_SMALL_BYTES, may_wait=MAX_SMALL_BYTES),
        large=Quota(max(MAX_LARGE_BYTES, max_body), may_wait=MAX_LARGE_WAITING * max_body),
        strangers=Quota(max_body, may_wait=MAX_LARGE_WAITING * max_body),
    )
