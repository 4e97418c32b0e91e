"""Limits that apply to every connection, whichever HTTP parser serves it: the number of connections and how long a peer
may take.

The *patience* is the time that a peer has to send the rest of a request, and to read the answer. A connection that
takes longer is closed, so no peer holds resources forever.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import cast, override

from aiohttp import web
from aiohttp.typedefs import Handler

from resonate_server.http.bodies import Unfinished
from resonate_server.http.client_time import STEP_S, ClientTime

LEAST_TAKEN_BYTES = 64 * 1_024
"""A peer that reads less than this of its pending data within the patience is taken to be gone."""

MAX_UNSENT_BYTES = 32 * 2**20
"""Limit for answers that clients have not read yet. Above it, large answers wait to be written."""

PRESSED_S = 1.0
"""The patience with peers that read nothing while other answers wait for room."""

MAX_AHEAD_BYTES = 64 * 1_024
"""Pipelined bytes accepted before an answer where aiohttp reads, which does not limit what it buffers."""

LOOK_AGAIN_S = 0.05


class Connections:
    """The open connections of a port. ``limit``: how many; ``keep_alive_s``: maximum idle time between requests;
    ``unfinished``: counts the bytes of heads that are still arriving."""

    def __init__(self, limit: int, patience: ClientTime, keep_alive_s: float, unfinished: Unfinished) -> None:
        self.patience = patience
        self.keep_alive_s = keep_alive_s
        self.unfinished = unfinished
        self._limit = limit
        self._open: dict[Connection, None] = {}
        """Oldest first."""
        self._emptied = asyncio.Event()
        self._sweep: asyncio.TimerHandle | None = None
        self._holding: set[Connection] = set()
        """Connections with data that the peer has not read yet."""
        self._answers: list[Callable[[], None]] = []

    async def room_for_one(self) -> None:
        """Wait until another connection may be opened. If there are too many, close idle ones."""
        while len(self._open) >= self._limit:
            if not self._close_idle(max(self._limit // 32, 1)):
                await asyncio.sleep(LOOK_AGAIN_S)

    def opened(self, connection: "Connection") -> None:
        """Add a new connection."""
        self._open[connection] = None
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(STEP_S, self._check)

    def left(self, connection: "Connection") -> None:
        """Remove a connection that was closed or handed over."""
        self._open.pop(connection, None)
        self.taken(connection)
        if not self._open:
            self._emptied.set()

    # --- backpressure ---

    @property
    def write_patience_s(self) -> float:
        return min(PRESSED_S, self.patience.seconds) if self._answers else self.patience.seconds

    def has_room(self) -> bool:
        """Return whether another large answer may be written now."""
        return sum(connection.unsent_bytes for connection in self._holding) < MAX_UNSENT_BYTES

    def when_room(self, answer: Callable[[], None]) -> None:
        """Call ``answer`` once :meth:`has_room`."""
        self._answers.append(answer)

    async def room(self) -> None:
        """Wait until another large answer may be written."""
        if not self.has_room():
            there_is_room = asyncio.Event()
            self.when_room(there_is_room.set)
            await there_is_room.wait()

    def holds(self, connection: "Connection") -> None:
        self._holding.add(connection)

    def taken(self, connection: "Connection") -> None:
        """Note that the peer has read nearly everything or is gone, and write waiting answers if there is room.

        The newest answer goes first: one that has waited long may itself be for a peer that reads nothing.
        """
        self._holding.discard(connection)
        while self._answers and self.has_room():
            self._answers.pop()()

    # --- time ---

    async def drain(self, seconds: float) -> None:
        """Let accepted requests be answered for up to ``seconds``, then close all connections."""
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

    def _close_idle(self, count: int) -> bool:
        """Close the ``count`` connections that have waited longest for a request or for the rest of one. Spare those
        whose request may just be arriving. Return whether any was closed."""
        waiting = {each: since for each in self._open if (since := each.waiting_since) is not None}
        idle = [each for each, since in waiting.items() if self.patience.now - since > STEP_S]
        for connection in sorted(idle, key=waiting.__getitem__)[:count]:
            self.left(connection)
            connection.abort()
        return bool(idle)

    def _check(self) -> None:
        self.patience.pass_step()
        for connection in list(self._open):
            connection.check()
        self._sweep = asyncio.get_running_loop().call_later(STEP_S, self._check)


class Connection(asyncio.Protocol):
    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._patience = connections.patience
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._blocked = False
        self._since = self._patience.now
        """When it began to wait for a request, or the rest of one."""
        self._unsent: tuple[float, int] | None = None
        """Time and size of the last measurement of unread bytes that showed progress."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._connections.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._connections.left(self)

    def pause_writing(self) -> None:
        self._blocked = True
        self._unsent = self._patience.now, self.unsent_bytes
        self._connections.holds(self)

    def resume_writing(self) -> None:
        self._blocked = False
        self._connections.taken(self)

    @property
    def unsent_bytes(self) -> int:
        """Bytes that the peer has not read."""
        return self._transport.get_write_buffer_size()

    @property
    def waiting_since(self) -> float | None:
        """When it began to wait for a request or the rest of one; ``None`` while it answers."""
        raise NotImplementedError

    def abort(self) -> None:
        """Close it at once, even with a request in flight."""
        self._transport.abort()

    def finish(self) -> None:
        """Close it as soon as it owes no answer."""
        raise NotImplementedError

    @property
    def has_begun(self) -> bool:
        """Whether part of the next request has arrived."""
        raise NotImplementedError

    def evict(self) -> None:
        """Close it because the rest of the request does not arrive, or to make room for others."""
        self.abort()

    def check(self) -> None:
        """Close it if the peer has taken too long."""
        if self._is_stuck():
            self.abort()
        elif not self._blocked and not self._transport.is_closing() and self.waiting_since is not None:
            waited = self._patience.now - self.waiting_since
            if self.has_begun and waited > self._patience.seconds:
                self.evict()
            elif waited > self._connections.keep_alive_s:
                self._transport.close()

    def _is_stuck(self) -> bool:
        now = self._patience.now
        size = self._transport.get_write_buffer_size()
        if not size or not (self._blocked or self._transport.is_closing()):
            self._unsent = None
        elif self._unsent is None or size <= self._unsent[1] - LEAST_TAKEN_BYTES:
            self._unsent = now, size
        return self._unsent is not None and now - self._unsent[0] > self._connections.write_patience_s


class AiohttpConnection(Connection):
    """A connection that aiohttp serves: a proxy between the transport and ``handler``."""

    def __init__(self, connections: Connections, handler: asyncio.Protocol) -> None:
        super().__init__(connections)
        self._handler = handler
        self._request: web.Request | None = None
        self._answered = 0
        self._unfinished = 0
        """Bytes received of heads and trailers that are incomplete: up to 128 fields, each of which may be long."""
        self._ahead = 0
        self._coming = 0
        """Size in bytes of an answer that aiohttp is about to write."""
        self._peer_ended = False
        self._ends_with_peer = False
        self._is_new = False
        """Whether data has come since the last request was begun."""

    @property
    def waiting_since(self) -> float | None:
        return self._since if self._request is None else None

    @property
    def has_begun(self) -> bool:
        return self._unfinished > 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._handler.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._connections.unfinished.drop(self)
        self._handler.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._is_new = True
        if self._owes_answer:
            self._ahead += len(data)
            if self._ahead > MAX_AHEAD_BYTES:
                self.abort()
                return
        body = self._body_bytes
        self._handler.data_received(data)
        self._count_unfinished(len(data) - (self._body_bytes - body))

    def _count_unfinished(self, size: int) -> None:
        """Count ``size`` more bytes that belong to no body; those have a budget of their own."""
        if self._owes_answer or self._transport.is_closing():
            self._connections.unfinished.drop(self)
        else:
            if not self._unfinished:
                self._since = self._patience.now
            self._unfinished += size
            self._connections.unfinished.hold(self, self._unfinished)

    @property
    def _body_bytes(self) -> int:
        return 0 if self._request is None else self._request.content.total_bytes

    def eof_received(self) -> bool:
        """Keep the connection open: a peer that has sent everything may still wait for the answer."""
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
        """Close it unless a complete request is unanswered; do not wait for the rest of an incomplete one."""
        if not self._owes_answer:
            self._transport.close()

    def end_with_peer(self) -> None:
        """Treat EOF from the peer as its departure, because the response never ends."""
        self._ends_with_peer = True
        if self._peer_ended:
            self._transport.close()

    @contextmanager
    def answering(self, request: web.Request) -> Iterator[bool]:
        """Yield whether the request arrived together with the one before it."""
        is_pipelined, self._is_new = not self._is_new, False
        self._request, self._ahead, self._unfinished = request, 0, 0
        self._connections.unfinished.drop(self)
        try:
            yield is_pipelined
        finally:
            self._request, self._since = None, self._patience.now
            self._answered += 1
            if self._coming:
                self._loop.call_soon(self._written)

    @property
    def unsent_bytes(self) -> int:
        return self._coming + super().unsent_bytes

    def expect(self, size: int) -> None:
        """Announce that ``size`` bytes are about to be written."""
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
        """Close once nothing has happened between two checks: pipelined requests follow one another at once."""
        has_gone_on = self._request is not None or self._answered != answered_before
        if self._never_comes_whole or not has_gone_on:
            self._transport.close()
        elif not self._transport.is_closing():
            self._loop.call_later(LOOK_AGAIN_S, self._close_if_answered, self._answered)


class LargeResponse(web.Response):
    """aiohttp keeps the last response of an idle connection, so its body goes once written."""

    @override
    async def write_eof(self, data: bytes = b"") -> None:
        await super().write_eof(data)
        self.body = None


@web.middleware
async def track_request(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Tell the connection which request is being answered. Must be the outermost middleware."""
    connection = connection_of(request)
    if connection is None:
        raise ConnectionResetError
    with connection.answering(request) as is_pipelined:
        if is_pipelined:  # aiohttp would answer thousands of them before anybody else has a turn.
            await asyncio.sleep(0)
        response = await handler(request)
    if request.writer.output_size and not response.prepared:
        raise ConnectionResetError("something failed after the answer had begun; another answer cannot follow")
    return response


@web.middleware
async def refuse_body_of_get(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse the body of a GET, because no handler would read it."""
    if request.method == "GET" and request.can_read_body:
        raise web.HTTPBadRequest(text="a GET takes no body\n")
    return await handler(request)


async def begin_stream(request: web.Request, headers: dict[str, str]) -> web.StreamResponse:
    """Begin a response that never ends by itself. Unless told otherwise, nginx keeps its first 4 KiB back."""
    response = web.StreamResponse(headers={**headers, "X-Accel-Buffering": "no"})
    await response.prepare(request)
    if connection := connection_of(request):
        connection.end_with_peer()
    return response


def connection_of(request: web.Request) -> AiohttpConnection | None:
    """Return ``None`` once the connection is lost."""
    transport = request.transport
    return None if transport is None else cast("AiohttpConnection", transport.get_protocol())
