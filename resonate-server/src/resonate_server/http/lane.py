"""The fast lane: ``POST /`` as SDKs send it, read and answered without a web framework, which takes a multiple of the
time that the request itself needs.

Only what is beyond doubt stays in the lane. At the first request that is in any way unusual (another method or path, a
header that changes what a message means, an odd character, a large body) the connection is handed over to aiohttp with
all that was received, for good: there is one implementation of everything else, and one opinion on what is malformed.
"""

import asyncio
import re
import time
from collections.abc import Callable
from contextlib import suppress
from email.utils import formatdate
from http import HTTPStatus
from typing import cast

from aiohttp import web
from msgspec import Struct

REQUEST_LINE = b"POST / HTTP/1.1\r\n"

MAX_HEAD_BYTES = 8_190
MAX_BODY_BYTES = 65_536
"""Larger ones are for aiohttp, which knows the configured limit."""

MAX_RECEIVED_BYTES = MAX_HEAD_BYTES + MAX_BODY_BYTES
"""More is not read before some of it is answered."""

MAX_KNOWN_HEADS = 512
"""A client's heads differ in little more than the length, so most have been read before."""

SWEEP_S = 5.0

type Respond = Callable[[int, bytes], None]
"""To be called once, with the HTTP status and the body."""

type Handle = Callable[[bytes, str | None, Respond], None]
"""What answers a body that came with this ``Authorization``."""

type GoesBy = Callable[[str], bool]
"""Whether a ``Host`` may say so."""


class Head(Struct, frozen=True):
    """All of a head that matters. ``length``: bytes of the body."""

    length: int
    authorization: str | None


_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t\x20-\x7e]*)")
_LENGTH = re.compile(rb"[0-9]{1,7}")

_PLAIN_FIELDS = frozenset(
    (b"host", b"accept", b"accept-encoding", b"accept-language", b"user-agent", b"content-type", b"cache-control")
)
"""Fields that change nothing here."""


def read_head(head: bytes, goes_by: GoesBy) -> Head | None:
    """The head of a plain request, without its last two line ends; ``None`` if somebody else should judge it."""
    if not head.startswith(REQUEST_LINE):
        return None
    fields: dict[bytes, bytes] = {}
    for line in head[len(REQUEST_LINE) :].split(b"\r\n"):
        match = _FIELD.fullmatch(line)
        if match is None or match[1].lower() in fields:
            return None
        fields[match[1].lower()] = match[2].rstrip(b" \t")
    length, connection = fields.pop(b"content-length", b""), fields.pop(b"connection", b"keep-alive")
    authorization = fields.pop(b"authorization", None)
    is_plain = b"host" in fields and _PLAIN_FIELDS.issuperset(fields) and connection.lower() == b"keep-alive"
    if not is_plain or not _LENGTH.fullmatch(length) or int(length) > MAX_BODY_BYTES:
        return None
    if not goes_by(fields[b"host"].decode()):
        return None
    return Head(length=int(length), authorization=None if authorization is None else authorization.decode())


class Lanes:
    """All connections that are in the lane. ``fallback`` makes the protocol that a connection is handed over to."""

    def __init__(self, handle: Handle, goes_by: GoesBy, keep_alive_s: float, shutdown_s: float) -> None:
        self.handle = handle
        self._goes_by = goes_by
        self.fallback: Callable[[], asyncio.Protocol]
        self._keep_alive_s = keep_alive_s
        self._shutdown_s = shutdown_s
        self._open: set[Lane] = set()
        self._emptied = asyncio.Event()
        self._heads: dict[bytes, Head | None] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._date = (0, b"")

    def connect(self) -> "Lane":
        """The protocol of a new connection."""
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(SWEEP_S, self._close_idle)
        return Lane(self)

    def opened(self, lane: "Lane") -> None:
        self._open.add(lane)

    def left(self, lane: "Lane") -> None:
        """It is closed, or handed over."""
        self._open.discard(lane)
        if not self._open:
            self._emptied.set()

    def head(self, raw: bytes) -> Head | None:
        """See :func:`read_head`."""
        if raw in self._heads:
            return self._heads[raw]
        if len(self._heads) >= MAX_KNOWN_HEADS:
            self._heads.clear()
        head = self._heads[raw] = read_head(raw, self._goes_by)
        return head

    def date(self) -> bytes:
        """Now, as RFC 9110 section 5.6.7 writes it."""
        second = int(time.time())
        if second != self._date[0]:
            self._date = (second, formatdate(second, usegmt=True).encode())
        return self._date[1]

    async def drain(self) -> None:
        """Let what was accepted be answered, for as long as a shutdown may take, and close everything."""
        if self._sweep is not None:
            self._sweep.cancel()
        for lane in list(self._open):
            lane.close_when_answered()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._shutdown_s):
                while self._open:
                    self._emptied.clear()
                    await self._emptied.wait()

    def _close_idle(self) -> None:
        loop = asyncio.get_running_loop()
        oldest = loop.time() - self._keep_alive_s
        for lane in list(self._open):
            lane.close_if_idle_since(oldest)
        self._sweep = loop.call_later(SWEEP_S, self._close_idle)


class Lane(asyncio.Protocol):
    """One connection: its requests are answered one after the other, in their order."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._received = b""
        self._busy = False
        self._blocked = False
        self._paused = False
        self._closing = False
        self._heard = self._loop.time()

    # --- what the transport tells -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._lanes.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._closing = True
        self._lanes.left(self)

    def data_received(self, data: bytes) -> None:
        self._heard = self._loop.time()
        self._received = self._received + data if self._received else data
        self._advance()
        if len(self._received) > MAX_RECEIVED_BYTES:
            self._paused = True
            self._transport.pause_reading()

    def pause_writing(self) -> None:
        self._blocked = True

    def resume_writing(self) -> None:
        self._blocked = False
        self._advance()

    # --- closing ----------------------------------------------------------------------------------------------------

    def close_when_answered(self) -> None:
        self._closing = True
        if not self._busy:
            self._transport.close()

    def close_if_idle_since(self, time: float) -> None:
        """Whoever sends a request too slowly is idle as well."""
        if not self._busy and self._heard < time:
            self._transport.close()

    # --- requests ---------------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Begin the next request, if it has come whole."""
        if self._busy or self._blocked or self._closing or not self._received:
            return
        end_of_head = self._received.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES)
        if end_of_head < 0:
            if self._cannot_be_plain():
                self._hand_over()
            return
        head = self._lanes.head(self._received[:end_of_head])
        if head is None:
            self._hand_over()
            return
        begin = end_of_head + 4
        end = begin + head.length
        if len(self._received) >= end:
            body, self._received = self._received[begin:end], self._received[end:]
            self._busy = True
            if self._paused and len(self._received) <= MAX_RECEIVED_BYTES:
                self._paused = False
                self._transport.resume_reading()
            self._lanes.handle(body, head.authorization, self._respond)

    def _cannot_be_plain(self) -> bool:
        begin = self._received[: len(REQUEST_LINE)]
        return len(self._received) >= MAX_HEAD_BYTES or not REQUEST_LINE.startswith(begin)

    def _hand_over(self) -> None:
        protocol, received = self._lanes.fallback(), self._received
        self._lanes.left(self)
        self._received = b""
        self._transport.resume_reading()
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        protocol.data_received(received)

    def _respond(self, status: int, body: bytes) -> None:
        self._busy = False
        if self._transport.is_closing():
            return
        self._transport.write(
            b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\nDate: %b\r\n%b\r\n%b"
            % (_STATUS[status], len(body), self._lanes.date(), b"Connection: close\r\n" if self._closing else b"", body)
        )
        if self._closing:
            self._transport.close()
        elif self._received:
            self._loop.call_soon(self._advance)


_STATUS = {status.value: b"%d %b" % (status.value, status.phrase.encode()) for status in HTTPStatus}


class LaneSite(web.BaseSite):
    """A listening address whose connections begin in the lane; to be used like :class:`aiohttp.web.TCPSite`."""

    def __init__(self, runner: web.BaseRunner, lanes: Lanes, host: str, port: int) -> None:
        super().__init__(runner)
        self._lanes = lanes
        self._host = host
        self._port = port

    @property
    def name(self) -> str:
        return f"http://{self._host}:{self._port}"

    async def start(self) -> None:
        await super().start()
        server = self._runner.server
        assert server is not None, "the runner was set up before"
        self._lanes.fallback = server
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._lanes.connect, self._host, self._port, backlog=self._backlog)
