"""Limits the bytes of requests that the server holds at a time, over all connections.

Small bodies need no reservation: they usually arrive whole, and incomplete ones are evicted if they add up. Large
bodies wait for room before they are read.

Answers have a budget of their own, :mod:`resonate_server.store.outgoing`. A shared one would deadlock: a request keeps
its bytes until it is answered, so requests could fill the budget, and all would wait for room for their answers. They
also apply at different points: this one before a body is read, that one on the store's thread before a rule runs.
"""

import asyncio
from collections import deque
from typing import Protocol

from msgspec import Struct

SMALL_BYTES = 64 * 1_024
"""Bodies up to this are small."""

MAX_UNFINISHED_BYTES = 16 * 2**20
"""Limit for incomplete small requests."""

MAX_SMALL_BYTES = 16 * 2**20
"""Limit for small bodies that are being answered. The same amount may wait."""

MAX_LARGE_BYTES = 8 * 2**20
"""Limit for large bodies that are being read or answered; one of the configured maximum size always fits. Decoded,
stored and encoded again, they take about five times as much memory."""

MAX_LARGE_WAITING = 256
"""Number of large bodies of the configured maximum size that may wait to be read."""


class Full(Exception):
    """There is no room, and too many bytes are waiting already."""


class Quota:
    """Grants up to ``limit`` bytes, first come, first served. ``may_wait``: maximum number of bytes that may wait."""

    def __init__(self, limit: int, may_wait: int) -> None:
        self._limit = limit
        self._may_wait = may_wait
        self._used = self._wanted = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def is_contended(self) -> bool:
        return bool(self._waiting)

    def ask(self, size: int) -> asyncio.Future[None] | None:
        """Acquire ``size`` bytes: now if ``None`` is returned, else once the future is done. Raises :class:`Full`."""
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
    """The source of a request that is still arriving."""

    def evict(self) -> None:
        """Stop reading the request."""


class Unfinished:
    """Incomplete small requests. If their total exceeds the limit, the oldest are evicted."""

    def __init__(self, limit: int = MAX_UNFINISHED_BYTES) -> None:
        self._limit = limit
        self._total = 0
        self._sizes: dict[Sender, int] = {}

    def hold(self, sender: Sender, size: int) -> None:
        """Record that ``size`` bytes have arrived so far, and evict the oldest requests if the total is too large."""
        self._total += size - self._sizes.get(sender, 0)
        self._sizes[sender] = size
        while self._total > self._limit:
            oldest = next(iter(self._sizes))
            self.drop(oldest)
            oldest.evict()

    def drop(self, sender: Sender) -> None:
        """Forget a request that is complete or was given up."""
        self._total -= self._sizes.pop(sender, 0)


class Budget(Struct, frozen=True):
    """The quota for each kind of body.

    ``unauthenticated``: large bodies without a valid token in the header, where tokens are required.
    """

    unfinished: Unfinished
    small: Quota
    large: Quota
    unauthenticated: Quota


def budget(max_body: int) -> Budget:
    """Build a budget. ``max_body``: maximum size of a body in bytes."""
    return Budget(
        unfinished=Unfinished(),
        small=Quota(MAX_SMALL_BYTES, may_wait=MAX_SMALL_BYTES),
        large=Quota(max(MAX_LARGE_BYTES, max_body), may_wait=MAX_LARGE_WAITING * max_body),
        unauthenticated=Quota(max_body, may_wait=MAX_LARGE_WAITING * max_body),
    )
