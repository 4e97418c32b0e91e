"""Suspensions that wait a moment: what a task awaits is often settled by then, and its worker goes on (300).

So a quick call costs its caller neither a suspension, nor a claim, nor their commits. Of all moments between a request
and its answer at which it may be decided, this is a later one; nothing is held meanwhile but the lease.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

MAX_REMEMBERED: Final = 1_000
"""Promises that were settled last: a suspension that has crossed one on its way need not wait."""

MAX_AWAITED: Final = 16
"""Whoever awaits more does not wait."""

MAX_WAITED_FOR: Final = 1_000
"""Promises, by all together; others are decided at once."""


class Patience:
    """Used on the event loop."""

    def __init__(self) -> None:
        self._settled: dict[str, None] = {}
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        """By what they wait for."""
        self._has_ended = False

    def settled(self, ids: Iterable[str]) -> None:
        """To be told of whatever others may await, whichever server has settled it."""
        for id in ids:
            self._settled[id] = None
            if len(self._settled) > MAX_REMEMBERED:
                del self._settled[next(iter(self._settled))]
            for waiter in self._waiting.get(id, ()):
                _wake(waiter)

    async def wait(self, ids: Sequence[str], seconds: float) -> None:
        """Until one of ``ids`` is settled, and no longer than that."""
        is_crowded = len(ids) > MAX_AWAITED or len(self._waiting) >= MAX_WAITED_FOR
        if self._has_ended or is_crowded or not self._settled.keys().isdisjoint(ids):
            return
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        end = loop.call_later(seconds, _wake, waiter)
        for id in ids:
            self._waiting.setdefault(id, set()).add(waiter)
        try:
            await waiter
        finally:
            end.cancel()
            for id in ids:
                self._leave(id, waiter)

    def end(self) -> None:
        """Nobody waits any more."""
        self._has_ended = True
        for waiters in self._waiting.values():
            for waiter in waiters:
                _wake(waiter)

    def _leave(self, id: str, waiter: asyncio.Future[None]) -> None:
        self._waiting[id].discard(waiter)
        if not self._waiting[id]:
            del self._waiting[id]


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
