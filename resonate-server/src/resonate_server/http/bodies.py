"""Reads the bodies of requests that aiohttp serves, within a size, a time and a budget, so that no client can exhaust
memory.

A large body is read once there is room for it; until then nothing is read from its connection, and the client waits.
"""

import asyncio
from collections.abc import Callable

from aiohttp import web

from resonate_server.http.auth import Guard
from resonate_server.http.budget import SMALL_BYTES, Budget, Full, Quota
from resonate_server.protocol.errors import ProtocolError

CONTENDED_S = 2.0
"""Time left for a large body to arrive once others wait for its place."""

RETRY_AFTER_S = 5


type Received = tuple[bytes, Callable[[], None]]
"""A complete body, and a function to call once its request is answered."""


class BodyReader:
    """``max_body``: in bytes; ``patience_s``: how long a body may wait for room, and then take to arrive."""

    def __init__(self, max_body: int, patience_s: float, budget: Budget, guard: Guard) -> None:
        self.max_body = max_body
        self.patience_s = patience_s
        self.budget = budget
        self._guard = guard
        self._reading: dict[Quota, set[Reading]] = {budget.large: set(), budget.unauthenticated: set()}

    async def read(self, request: web.Request) -> Received:
        """Read the body. Raises HTTP errors: 408 too slow, 413 too large, 503 no room."""
        return await Reading(self, request).read()

    def quota_for(self, request: web.Request) -> Quota:
        """Return the quota for a large body. A client without a valid token can only fill that of unauthenticated."""
        try:
            self._guard.authenticate(None, request.headers.get("Authorization"))
        except ProtocolError:
            return self.budget.unauthenticated
        return self.budget.large

    def began(self, reading: "Reading", quota: Quota) -> None:
        self._reading[quota].add(reading)
        if quota.is_contended:
            reading.hurry()

    def ended(self, reading: "Reading") -> None:
        self.budget.unfinished.drop(reading)
        for readings in self._reading.values():
            readings.discard(reading)

    def hurry(self, quota: Quota) -> None:
        for reading in self._reading[quota]:
            reading.hurry()


class Reading:
    """A body that is being read."""

    def __init__(self, reader: BodyReader, request: web.Request) -> None:
        self._reader = reader
        self._request = request
        self._deadline = asyncio.timeout(reader.patience_s)
        self._taken: tuple[Quota, int] | None = None
        self._waits = False

    async def read(self) -> Received:
        """Read the body. Errors have no traceback, which would keep the body in memory until they are answered."""
        try:
            async with self._deadline:
                return await self._collect(), self._release
        except Full:
            refusal = _no_room()
        except TimeoutError:
            refusal = _no_room() if self._waits else _too_slow()
        except web.HTTPException as error:
            refusal = error.with_traceback(None)
        except BaseException:
            self._release()
            raise
        finally:
            self._reader.ended(self)
        self._release()
        raise refusal

    def hurry(self) -> None:
        """Shorten the deadline, because others wait."""
        end = asyncio.get_running_loop().time() + CONTENDED_S
        if not self._deadline.expired():
            self._deadline.reschedule(min(end, self._deadline.when() or end))

    def evict(self) -> None:
        if not self._deadline.expired():
            self._deadline.reschedule(asyncio.get_running_loop().time())

    async def _collect(self) -> bytes:
        size = self._request.content_length or 0
        self._check(size)
        if size > SMALL_BYTES:
            await self._take_large(size)
        body = bytearray()
        async for chunk in self._request.content.iter_any():
            body += chunk
            self._check(len(body))
            if self._taken is None:
                await self._grow(len(body))
        if self._taken is None:
            await self._take(self._reader.budget.small, len(body))
        return bytes(body)

    def _check(self, size: int) -> None:
        if size > self._reader.max_body:
            raise web.HTTPRequestEntityTooLarge(self._reader.max_body, size)

    async def _grow(self, size: int) -> None:
        """Account for a chunked body, which may turn out to be large."""
        if size > SMALL_BYTES:
            self._reader.budget.unfinished.drop(self)
            await self._take_large(self._reader.max_body)
        else:
            self._reader.budget.unfinished.hold(self, size)

    async def _take_large(self, size: int) -> None:
        quota = self._reader.quota_for(self._request)
        await self._take(quota, size)
        self._deadline.reschedule(asyncio.get_running_loop().time() + self._reader.patience_s)
        self._reader.began(self, quota)

    async def _take(self, quota: Quota, size: int) -> None:
        place = quota.ask(size)
        if place is not None:
            self._waits = True
            self._reader.hurry(quota)
            await _granted(place, quota, size)
            self._waits = False
        self._taken = quota, size

    def _release(self) -> None:
        if self._taken is not None:
            quota, size = self._taken
            self._taken = None
            quota.give_back(size)


async def _granted(place: asyncio.Future[None], quota: Quota, size: int) -> None:
    try:
        await place
    except asyncio.CancelledError:
        if not place.cancelled():
            quota.give_back(size)
        raise


def _no_room() -> web.HTTPException:
    text = "too many large requests at a time; try again later\n"
    return web.HTTPServiceUnavailable(text=text, headers={"Retry-After": str(RETRY_AFTER_S)})


def _too_slow() -> web.HTTPException:
    return web.HTTPRequestTimeout(text="the request came too slowly\n")
