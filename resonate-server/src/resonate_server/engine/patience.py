"""Delays suspensions for a moment: often what a task awaits is settled by then, and its worker continues (status 300).

So a quick call costs its caller no suspension, no claim and none of their commits. A request may be decided at any
moment before its answer; this picks a later one, and holds only the lease meanwhile.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

MAX_REMEMBERED: Final = 1_000
"""Latest settled promises: a suspension that crossed a settlement in transit need not wait."""

MAX_AWAITED: Final = 16
"""A suspension that awaits more promises is decided at once."""

MAX_WAITED_FOR: Final = 1_000
"""Promises that all suspensions may wait for; beyond that they are decided at once."""


class Patience:
    """Used on the event loop."""

    def __init__(self) -> None:
        self._settled: dict[str, None] = {}
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        """By promise."""
        self._has_ended = False

    def settled(self, ids: Iterable[str]) -> None:
        """Wake suspensions that wait for these. Call for every awaitable promise, whichever server settled it."""
        for id in ids:
            self._settled[id] = None
            if len(self._settled) > MAX_REMEMBERED:
                del self._settled[next(iter(self._settled))]
            for waiter in self._waiting.get(id, ()):
                _wake(waiter)

    async def wait(self, ids: Sequence[str], seconds: float) -> None:
        """Wait until one of ``ids`` is settled, for ``seconds`` at most."""
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
        """Wake everybody, and let nobody wait any more."""
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
