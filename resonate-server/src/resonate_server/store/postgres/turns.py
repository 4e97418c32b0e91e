"""Whose turn it is: many together, or one alone; and in which order is told what was done together."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Collection, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

type _Turn = tuple[asyncio.Future[None], bool]


class Turns:
    """Whoever came first is admitted first; those who need not be alone are in there together."""

    def __init__(self) -> None:
        self._waiting: deque[_Turn] = deque()
        self._inside = 0
        self._is_alone = False

    @asynccontextmanager
    async def together(self) -> AsyncIterator[None]:
        await self._enter(alone=False)
        try:
            yield
        finally:
            self._leave()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """With nobody inside, and nobody let in meanwhile."""
        await self._enter(alone=True)
        try:
            yield
        finally:
            self._leave()

    async def _enter(self, alone: bool) -> None:
        if not self._waiting and self._is_free(alone):
            self._take(alone)
            return
        turn: _Turn = (asyncio.get_running_loop().create_future(), alone)
        self._waiting.append(turn)
        try:
            await turn[0]
        except asyncio.CancelledError:
            if turn[0].cancelled():
                with suppress(ValueError):  # passed over already
                    self._waiting.remove(turn)
                self._admit()
            else:
                self._leave()
            raise

    def _is_free(self, alone: bool) -> bool:
        return not self._is_alone and not (alone and self._inside)

    def _take(self, alone: bool) -> None:
        self._inside += 1
        self._is_alone = alone

    def _leave(self) -> None:
        self._inside -= 1
        self._is_alone = False
        self._admit()

    def _admit(self) -> None:
        """Whoever is next, but nobody who has gone: a task that is cancelled learns of it a moment later."""
        while self._waiting and (self._waiting[0][0].done() or self._is_free(self._waiting[0][1])):
            turn, alone = self._waiting.popleft()
            if not turn.done():
                self._take(alone)
                turn.set_result(None)


class Order:
    """Of what touches the same rows, what was committed first is told first, however late its end is heard of."""

    def __init__(self) -> None:
        self._last: dict[str, asyncio.Future[None]] = {}
        self._watching: list[set[str]] = []

    def before(self, ids: Iterable[str]) -> set[asyncio.Future[None]]:
        """What is to be told before whoever has just locked ``ids``."""
        return {self._last[id] for id in ids if id in self._last}

    @contextmanager
    def entered(self, ids: Iterable[str]) -> Iterator[None]:
        """From before the commit, while ``ids`` are locked, until it was told, or will never be."""
        ids = tuple(ids)
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._last |= dict.fromkeys(ids, told)
        try:
            yield
        finally:
            told.set_result(None)
            for id in ids:
                if self._last.get(id) is told:
                    del self._last[id]

    @contextmanager
    def watching(self) -> Iterator[set[str]]:
        """Ids that it is told meanwhile to exist now: what does not exist cannot be locked."""
        seen: set[str] = set()
        self._watching.append(seen)
        try:
            yield seen
        finally:
            self._watching = [each for each in self._watching if each is not seen]

    def appeared(self, ids: Collection[str]) -> None:
        """It is being told."""
        for seen in self._watching:
            seen.update(ids)
