"""Limits the bytes of requests that the server holds at a time, over all connections, and reads the bodies that aiohttp
serves within that budget, a size and a time, so that no client can exhaust memory.

Small bodies need no reservation: they usually arrive whole, and incomplete ones are evicted if they add up. A large
body is read once there is room for it; until then nothing is read from its connection, and the client waits.

Answers have a budget of their own, :mod:`resonate_server.store.outgoing`. A shared one would deadlock: a request keeps
its bytes until it is answered, so requests could fill the budget, and all would wait for room for their answers. They
also apply at different points: this one before a body is read, that one on the store's thread before a rule runs.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from aiohttp import web

from resonate_server.http.auth import Guard
from resonate_server.http.client_time import ClientTime, Sender
from resonate_server.protocol.errors import ProtocolError

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
        self._arriving: set[Reading] = set()

    def ask(self, size: int) -> asyncio.Future[None] | None:
        """Acquire ``size`` bytes: now if ``None`` is returned, else once the future is done. Raises :class:`Full`."""
        if not self._waiting and (not self._used or self._used + size <= self._limit):
            self._used += size
            return None
        if self._wanted + size > self._may_wait:
            raise Full
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, place))
        self._wanted += size
        for body in self._arriving:
            body.hurry()
        return place

    def give_back(self, size: int) -> None:
        self._used -= size
        while self._waiting and (self._waiting[0][1].cancelled() or self._fits(self._waiting[0][0])):
            wanted, place = self._waiting.popleft()
            self._wanted -= wanted
            if not place.cancelled():
                self._used += wanted
                place.set_result(None)

    def begins(self, body: "Reading") -> None:
        """Note a body that has room and is arriving: it has to hurry if others wait."""
        self._arriving.add(body)
        if self._waiting:
            body.hurry()

    def ends(self, body: "Reading") -> None:
        self._arriving.discard(body)

    def _fits(self, size: int) -> bool:
        return not self._used or self._used + size <= self._limit


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


# ── reading bodies ──

CONTENDED_S = 2.0
"""Time left for a large body to arrive once others wait for its place."""

RETRY_AFTER_S = 5


type Received = tuple[bytes, Callable[[], None]]
"""A complete body, and a function to call once its request is answered."""


class Bodies:
    """The quota for each kind of body, and how to read one. ``max_body``: in bytes; ``patience``: how long a body may
    wait for room, and then take to arrive."""

    def __init__(self, max_body: int, patience: ClientTime, guard: Guard) -> None:
        self.max_body = max_body
        self.patience = patience
        self.unfinished = Unfinished()
        self.small = Quota(MAX_SMALL_BYTES, may_wait=MAX_SMALL_BYTES)
        self._large = Quota(max(MAX_LARGE_BYTES, max_body), may_wait=MAX_LARGE_WAITING * max_body)
        self._unauthenticated = Quota(max_body, may_wait=MAX_LARGE_WAITING * max_body)
        self._guard = guard

    async def read(self, request: web.Request) -> Received:
        """Read the body. Raises HTTP errors: 408 too slow, 413 too large, 503 no room."""
        return await Reading(self, request).read()

    def quota_for(self, request: web.Request) -> Quota:
        """Return the quota for a large body. A client without a valid token can only fill that of unauthenticated."""
        try:
            self._guard.authenticate(None, request.headers.get("Authorization"))
        except ProtocolError:
            return self._unauthenticated
        return self._large


class Reading:
    """A body that is being read."""

    def __init__(self, bodies: Bodies, request: web.Request) -> None:
        self._bodies = bodies
        self._request = request
        self._patience = bodies.patience
        self._timeout = asyncio.timeout(None)
        self._taken: tuple[Quota, int] | None = None
        self._waits = False

    async def read(self) -> Received:
        """Read the body. Errors have no traceback, which would keep the body in memory until they are answered."""
        self._patience.begin(self)
        try:
            async with self._timeout:
                return await self._collect(), self._release
        except Full:
            refusal = _no_room()
        except TimeoutError:
            refusal = _no_room() if self._waits else web.HTTPRequestTimeout(text="the request came too slowly\n")
        except web.HTTPException as error:
            refusal = error.with_traceback(None)
        except BaseException:
            self._release()
            raise
        finally:
            self._patience.drop(self)
            self._bodies.unfinished.drop(self)
            if self._taken is not None:
                self._taken[0].ends(self)
        self._release()
        raise refusal

    def hurry(self) -> None:
        """Leave less time, because others wait."""
        self._patience.hurry(self, CONTENDED_S)

    def evict(self) -> None:
        if not self._timeout.expired():
            self._timeout.reschedule(asyncio.get_running_loop().time())

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
            await self._take(self._bodies.small, len(body))
        return bytes(body)

    def _check(self, size: int) -> None:
        if size > self._bodies.max_body:
            raise web.HTTPRequestEntityTooLarge(self._bodies.max_body, size)

    async def _grow(self, size: int) -> None:
        """Account for a chunked body, which may turn out to be large."""
        if size > SMALL_BYTES:
            self._bodies.unfinished.drop(self)
            await self._take_large(self._bodies.max_body)
        else:
            self._bodies.unfinished.hold(self, size)

    async def _take_large(self, size: int) -> None:
        quota = self._bodies.quota_for(self._request)
        await self._take(quota, size)
        self._patience.begin(self)
        quota.begins(self)

    async def _take(self, quota: Quota, size: int) -> None:
        place = quota.ask(size)
        if place is not None:
            self._waits = True
            await _granted(place, quota, size)
            self._waits = False
        self._taken = quota, size

    def _release(self) -> None:
        if self._taken is not None:
            quota, size = self._taken
            self._taken = None
            quota.ends(self)
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
