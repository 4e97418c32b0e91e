"""What every connection keeps to, whoever reads HTTP from it: how many there may be, and how long a peer may take.

A peer is given the *patience* (s): to send a request once it has begun, and to take what it is answered. Whoever takes
longer is closed, so no peer holds anything for ever.
"""

import asyncio
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import cast

from aiohttp import web
from aiohttp.typedefs import Handler

MAX_BESIDE_STREAMS = 1_024
"""Connections beside the streams that are allowed. Beyond that, those that have waited longest for a request go."""

FILES_BESIDE_CONNECTIONS = 512
"""Pushes, the database, and what Python needs."""

SOCKET_BYTES = 64 * 1_024
"""What the system may keep for a connection each way, and takes twice: a container's memory limit counts it, too."""

SWEEP_S = 1.0

WRITE_TIMEOUT_S = 20.0
"""A peer that takes nothing of a response that does not end for so long is gone."""

LEAST_TAKEN_BYTES = 64 * 1_024
"""A peer that takes less than that of what waits for it within the patience is gone."""

MAX_UNTAKEN_BYTES = 32 * 2**20
"""Of answers that clients have not taken. While there are more, large answers wait to be written."""

PRESSED_S = 1.0
"""The patience with those who take nothing while others wait for that."""

MAX_AHEAD_BYTES = 64 * 1_024
"""What may come after a whole request before it is answered, where aiohttp reads: it does not count what it keeps."""

LOOK_AGAIN_S = 0.05


class Connections:
    """All that are open on a port. ``limit``: how many; ``keep_alive_s``: how long one may be idle between requests."""

    def __init__(self, limit: int, patience_s: float, keep_alive_s: float) -> None:
        self.patience_s = patience_s
        self.keep_alive_s = keep_alive_s
        self._limit = limit
        self._open: set[Connection] = set()
        self._emptied = asyncio.Event()
        self._sweep: asyncio.TimerHandle | None = None
        self._holding: set[Connection] = set()
        """Those that have something to write which the peer has not taken."""
        self._answers: list[Callable[[], None]] = []

    def admit(self, connection: "Connection") -> bool:
        """Whether there is room for it, if need be because others are closed."""
        if len(self._open) >= self._limit:
            self._close_idle(max(self._limit // 32, 1))
        if len(self._open) >= self._limit:
            return False
        self._open.add(connection)
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(SWEEP_S, self._check)
        return True

    def left(self, connection: "Connection") -> None:
        """It is closed, or handed over."""
        self._open.discard(connection)
        self.taken(connection)
        if not self._open:
            self._emptied.set()

    # --- answers that wait for their peers ---

    @property
    def patience_with_takers_s(self) -> float:
        return min(PRESSED_S, self.patience_s) if self._answers else self.patience_s

    def has_room(self) -> bool:
        """Whether another large answer may be written now."""
        return sum(connection.untaken for connection in self._holding) < MAX_UNTAKEN_BYTES

    def when_room(self, answer: Callable[[], None]) -> None:
        """Call ``answer`` once :meth:`has_room`."""
        self._answers.append(answer)

    def holds(self, connection: "Connection") -> None:
        self._holding.add(connection)

    def taken(self, connection: "Connection") -> None:
        """Its peer has taken nearly everything, or is gone.

        The newest answer goes next: what has waited long waits behind peers that take nothing, and may be for one.
        """
        self._holding.discard(connection)
        while self._answers and self.has_room():
            self._answers.pop()()

    # --- time ---

    async def drain(self, seconds: float) -> None:
        """Let what was accepted be answered, for so long, and close everything."""
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in list(self._open):
            connection.finish()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wait_until_empty()
        for connection in list(self._open):
            connection.abort()
        await self._wait_until_empty()

    async def _wait_until_empty(self) -> None:
        while self._open:
            self._emptied.clear()
            await self._emptied.wait()

    def _close_idle(self, count: int) -> None:
        """Those that have waited longest for a request, or for the rest of one."""
        idle = {each: since for each in self._open if (since := each.waiting_since) is not None}
        for connection in sorted(idle, key=idle.__getitem__)[:count]:
            self.left(connection)
            connection.abort()

    def _check(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in list(self._open):
            connection.check(now)
        self._sweep = loop.call_later(SWEEP_S, self._check)


class Connection(asyncio.Protocol):
    """One connection."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._blocked = False
        self._untaken: tuple[float, int] | None = None
        """When so many bytes waited for the peer."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if not self._connections.admit(self):
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._connections.left(self)

    def pause_writing(self) -> None:
        self._blocked = True
        self._untaken = self._loop.time(), self.untaken
        self._connections.holds(self)

    def resume_writing(self) -> None:
        self._blocked = False
        self._connections.taken(self)

    @property
    def untaken(self) -> int:
        """Bytes that the peer has not taken."""
        return self._transport.get_write_buffer_size()

    @property
    def waiting_since(self) -> float | None:
        """When it began to wait for a request, or the rest of one (loop time); ``None`` while it answers."""
        raise NotImplementedError

    def abort(self) -> None:
        """Close it at once, whatever is under way."""
        self._transport.abort()

    def finish(self) -> None:
        """Close it as soon as it owes no answer."""
        raise NotImplementedError

    def check(self, now: float) -> None:
        """Close it if the peer has taken too long."""
        if self._is_stuck(now):
            self.abort()

    def _is_stuck(self, now: float) -> bool:
        size = self._transport.get_write_buffer_size()
        if not size or not (self._blocked or self._transport.is_closing()):
            self._untaken = None
        elif self._untaken is None or size <= self._untaken[1] - LEAST_TAKEN_BYTES:
            self._untaken = now, size
        return self._untaken is not None and now - self._untaken[0] > self._connections.patience_with_takers_s


class Guest(Connection):
    """A connection that aiohttp serves: stands between the transport and ``handler``.

    That it does not wait too long for a request is aiohttp's to see to (``keepalive_timeout``).
    """

    def __init__(self, connections: Connections, handler: asyncio.Protocol) -> None:
        super().__init__(connections)
        self._handler = handler
        self._request: web.Request | None = None
        self._answered = 0
        self._ahead = 0
        self._coming = 0
        """Bytes of an answer that aiohttp is about to write."""
        self._peer_ended = False
        self._ends_with_peer = False
        self._since = self._loop.time()

    @property
    def waiting_since(self) -> float | None:
        return self._since if self._request is None else None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._handler.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._handler.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._owes_answer:
            self._ahead += len(data)
            if self._ahead > MAX_AHEAD_BYTES:
                self.abort()
                return
        self._handler.data_received(data)

    def eof_received(self) -> bool:
        """A peer that has sent all it wanted may still wait for the answer."""
        self._peer_ended = True
        if self._ends_with_peer or self._never_comes_whole:
            return False
        self._loop.call_later(LOOK_AGAIN_S, self._close_if_answered, -1)
        return True

    def pause_writing(self) -> None:
        super().pause_writing()
        self._handler.pause_writing()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._handler.resume_writing()

    def finish(self) -> None:
        """What has not come whole is not waited for."""
        if not self._owes_answer:
            self._transport.close()

    def end_with_peer(self) -> None:
        """What is answered does not end, so a peer that has ended is taken to be gone."""
        self._ends_with_peer = True
        if self._peer_ended:
            self._transport.close()

    @contextmanager
    def answering(self, request: web.Request) -> Iterator[None]:
        self._request, self._ahead = request, 0
        try:
            yield
        finally:
            self._request, self._since = None, self._loop.time()
            self._answered += 1
            if self._coming:
                self._loop.call_soon(self._written)

    @property
    def untaken(self) -> int:
        return self._coming + super().untaken

    def expect(self, size: int) -> None:
        """So many bytes will be written at once."""
        self._coming = size
        self._connections.holds(self)

    def _written(self) -> None:
        self._coming = 0
        if not self._blocked:
            self._connections.taken(self)

    @property
    def _owes_answer(self) -> bool:
        return self._request is not None and self._request.content.is_eof()

    @property
    def _never_comes_whole(self) -> bool:
        return self._peer_ended and self._request is not None and not self._request.content.is_eof()

    def _close_if_answered(self, answered_before: int) -> None:
        """Once nothing has happened between two looks: requests that came together follow one another at once."""
        has_gone_on = self._request is not None or self._answered != answered_before
        if self._never_comes_whole or not has_gone_on:
            self._transport.close()
        elif not self._transport.is_closing():
            self._loop.call_later(LOOK_AGAIN_S, self._close_if_answered, self._answered)


class Site(web.BaseSite):
    """A listening address; to be used like :class:`aiohttp.web.TCPSite`.

    ``connect`` makes the protocol of a new connection. With ``reuse_port``, others may listen there, too.
    """

    def __init__(
        self, runner: web.BaseRunner, host: str, port: int, connect: Callable[[], asyncio.Protocol], reuse_port: bool
    ) -> None:
        super().__init__(runner, backlog=1_024)
        self._reuse_port = reuse_port
        self._connect = connect
        self._host = host
        self._port = port

    @property
    def name(self) -> str:
        return f"http://{self._host}:{self._port}"

    async def start(self) -> None:
        await super().start()
        loop = asyncio.get_running_loop()
        self._server = server = await loop.create_server(
            self._connect, self._host, self._port, backlog=self._backlog, reuse_port=self._reuse_port or None
        )
        for listener in server.sockets:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BYTES)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)


@web.middleware
async def tell_connection(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Have the connection know what it owes; to be the outermost one."""
    guest = _guest(request)
    if guest is None:
        raise ConnectionResetError
    with guest.answering(request):
        return await handler(request)


@web.middleware
async def refuse_body_of_get(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Nobody would read it."""
    if request.method == "GET" and request.can_read_body:
        raise web.HTTPBadRequest(text="a GET takes no body\n")
    return await handler(request)


def end_with_peer(request: web.Request) -> None:
    """See :meth:`Guest.end_with_peer`."""
    guest = _guest(request)
    if guest is not None:
        guest.end_with_peer()


async def write(response: web.StreamResponse, data: bytes) -> None:
    """Raises :class:`TimeoutError` if the peer takes nothing."""
    async with asyncio.timeout(WRITE_TIMEOUT_S):
        await response.write(data)


def expect(request: web.Request, size: int) -> None:
    """See :meth:`Guest.expect`."""
    guest = _guest(request)
    if guest is not None:
        guest.expect(size)


def _guest(request: web.Request) -> Guest | None:
    """``None`` once the connection is lost."""
    transport = request.transport
    return None if transport is None else cast("Guest", transport.get_protocol())


def allow_connections(wanted: int) -> int:
    """Have the system allow so many at a time; how many it allows."""
    files = wanted + FILES_BESIDE_CONNECTIONS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = files if hard == resource.RLIM_INFINITY else min(files, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return max(allowed - FILES_BESIDE_CONNECTIONS, allowed // 2)
