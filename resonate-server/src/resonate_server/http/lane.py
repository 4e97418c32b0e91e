"""The fast lane: it reads and answers ``POST /`` as SDKs send it, without a web framework. Without the lane, a chain of
three calls costs 1.7 times the server's CPU with 64 in flight (4.7 ms instead of 2.7) and 1.4 times with one (11.5 ms
instead of 8.3), and takes 1.3 and 1.2 times as long (medians of 9 paired rounds). Recovery from a killed worker is not
affected.

Only plain requests stay in the lane. At the first unusual one (another method or path, a header that changes what a
message means, an odd character, a large body) the connection is handed over to aiohttp for good, with all bytes
received so far. So everything else has one implementation, and one parser decides what is malformed.
"""

import asyncio
import re
from collections.abc import Callable
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

from aiohttp import web
from msgspec import Struct

from resonate_server.http.bodies import SMALL_BYTES, Bodies, Full
from resonate_server.http.connections import AiohttpConnection, Connection, Connections

REQUEST_LINE = b"POST / HTTP/1.1\r\n"

MAX_HEAD_BYTES = 8_190
MAX_BODY_BYTES = SMALL_BYTES
"""Larger bodies go to aiohttp, which applies the configured limit."""

MAX_RECEIVED_BYTES = MAX_HEAD_BYTES + MAX_BODY_BYTES
"""With more than this unanswered, reading is paused."""

MAX_KNOWN_HEADS = 512
"""Size of the cache of parsed heads. A client's heads differ in little more than the length, so most are in it."""

type Respond = Callable[[int, bytes], None]
"""Called once, with the HTTP status and the body."""

type Handle = Callable[[bytes, str | None, Respond], None]
"""Answers a body that was sent with this ``Authorization``."""

type HostCheck = Callable[[str], bool]
"""Returns whether the value of a ``Host`` header names this server."""


class HttpHead(Struct, frozen=True):
    """The relevant parts of a head. ``length``: bytes of the body."""

    length: int
    authorization: str | None


_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t\x20-\x7e]*)")
_LENGTH = re.compile(rb"[0-9]{1,7}")

_PLAIN_FIELDS = frozenset(
    (b"host", b"accept", b"accept-encoding", b"accept-language", b"user-agent", b"content-type", b"cache-control")
)
"""Fields that the lane may ignore."""

_ORIGIN = re.compile(rb"\r\n(?i:resonate):[ \t]*origin: [\t\x20-\x7e]*(?=\r\n|\Z)")
"""SDKs send ``resonate:origin: ID``, which HTTP parses as a field named ``resonate``. It is ignored."""


def without_origin(head: bytes) -> bytes:
    """Return ``head`` without the field that differs from chain to chain."""
    return _ORIGIN.sub(b"", head, count=1)


def read_head(head: bytes, names_this_server: HostCheck) -> HttpHead | None:
    """Parse the head of a plain request, given without its last two line ends; ``None`` if aiohttp should judge it."""
    if not head.startswith(REQUEST_LINE):
        return None
    fields: dict[bytes, bytes] = {}
    for line in without_origin(head)[len(REQUEST_LINE) :].split(b"\r\n"):
        match = _FIELD.fullmatch(line)
        if match is None or match[1].lower() in fields:
            return None
        fields[match[1].lower()] = match[2].rstrip(b" \t")
    length, connection = fields.pop(b"content-length", b""), fields.pop(b"connection", b"keep-alive")
    authorization = fields.pop(b"authorization", None)
    is_plain = b"host" in fields and _PLAIN_FIELDS.issuperset(fields) and connection.lower() == b"keep-alive"
    if not is_plain or not _LENGTH.fullmatch(length) or int(length) > MAX_BODY_BYTES:
        return None
    if not names_this_server(fields[b"host"].decode()):
        return None
    return HttpHead(length=int(length), authorization=None if authorization is None else authorization.decode())


class LaneFactory:
    """State shared by all lanes. ``fallback`` makes the protocol that serves a connection once it has left the lane;
    ``now`` returns the server's time (ms)."""

    def __init__(
        self,
        handle: Handle,
        names_this_server: HostCheck,
        connections: Connections,
        bodies: Bodies,
        now: Callable[[], int],
    ) -> None:
        self.handle = handle
        self.connections = connections
        self.bodies = bodies
        self._now = now
        self._names_this_server = names_this_server
        self.fallback: Callable[[], asyncio.Protocol]
        self._heads: dict[bytes, HttpHead | None] = {}

    def head(self, raw: bytes) -> HttpHead | None:
        """Parse ``raw`` as :func:`read_head` does, with a cache."""
        common = without_origin(raw)
        if common in self._heads:
            return self._heads[common]
        if len(self._heads) >= MAX_KNOWN_HEADS:
            self._heads.clear()
        head = self._heads[common] = read_head(raw, self._names_this_server)
        return head

    def date(self) -> bytes:
        """Return the server's time, by which it judges deadlines, in the format of RFC 9110 section 5.6.7."""
        return _date_at(self._now() // 1_000)

    async def add_date(self, _: web.Request, response: web.StreamResponse) -> None:
        """Date other responses, too, in a signal handler of aiohttp."""
        response.headers["Date"] = self.date().decode()


@lru_cache(1)
def _date_at(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode()


class Lane(Connection):
    """A connection whose requests are answered one at a time, in order."""

    def __init__(self, lanes: LaneFactory) -> None:
        super().__init__(lanes.connections)
        self._lanes = lanes
        self._received = b""
        self._size = 0
        """Size in bytes of the body that is being answered."""
        self._busy = False
        self._paused = False
        self._closing = False
        self._peer_ended = False

    @property
    def waiting_since(self) -> float | None:
        return None if self._busy else self._since

    @property
    def has_begun(self) -> bool:
        return bool(self._received)

    # --- callbacks of the transport ---------------------------------------------------------------------------------

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._closing = True
        self._received = b""
        self._count_unfinished()

    def data_received(self, data: bytes) -> None:
        if self._received:
            self._received += data
        else:
            self._received = data
            self._since = self._patience.now
        self._advance()
        if len(self._received) > MAX_RECEIVED_BYTES:
            self._paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """Keep the connection open: a client that has sent everything may still wait for answers."""
        self._peer_ended = True
        self._advance()
        return True

    def resume_writing(self) -> None:
        super().resume_writing()
        self._advance()

    # --- closing ----------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        self._closing = True
        if not self._busy:
            self._transport.close()

    def evict(self) -> None:
        self._received = b""
        if self._busy or self._blocked:
            self._closing = True
        else:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, b"the request came too slowly\n")

    def _refuse(self, status: int, text: bytes) -> None:
        self._closing = True
        self._write(status, b"Content-Type: text/plain\r\nRetry-After: 1\r\n", text)

    # --- requests ---------------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Begin the next request if it is complete."""
        if self._received and not (self._busy or self._blocked or self._closing):
            self._begin_next()
        self._count_unfinished()
        if self._peer_ended and not (self._busy or self._blocked):
            self._transport.close()

    def _begin_next(self) -> None:
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
            self._begin(body, head.authorization)

    def _begin(self, body: bytes, authorization: str | None) -> None:
        """Handle the request now, or once there is room for its bytes."""
        try:
            place = self._lanes.bodies.small.ask(len(body))
        except Full:
            self._busy = False
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, b"too many requests at a time; try again later\n")
            return
        self._size = len(body)
        if place is None:
            self._lanes.handle(body, authorization, self._respond)
        else:
            place.add_done_callback(lambda _: self._lanes.handle(body, authorization, self._respond))

    def _count_unfinished(self) -> None:
        """Register afresh for each request, so that eviction goes by the age of the request."""
        if self._busy or not self._received:
            self._lanes.bodies.unfinished.drop(self)
        if self._received:
            self._lanes.bodies.unfinished.hold(self, len(self._received))

    def _cannot_be_plain(self) -> bool:
        begin = self._received[: len(REQUEST_LINE)]
        return len(self._received) >= MAX_HEAD_BYTES or not REQUEST_LINE.startswith(begin)

    def _hand_over(self) -> None:
        connection, received = AiohttpConnection(self._connections, self._lanes.fallback()), self._received
        peer_ended, self._peer_ended = self._peer_ended, False
        self._connections.left(self)
        self._received = b""
        self._transport.resume_reading()
        self._transport.set_protocol(connection)
        connection.connection_made(self._transport)
        connection.data_received(received)
        if peer_ended and not connection.eof_received():
            self._transport.close()

    def _respond(self, status: int, body: bytes) -> None:
        self._busy = False
        self._since = self._patience.now
        self._lanes.bodies.small.give_back(self._size)
        if self._transport.is_closing():
            return
        self._write(status, b"Content-Type: application/json\r\n", body)
        if self._received or self._peer_ended:
            self._loop.call_soon(self._advance)

    def _write(self, status: int, fields: bytes, body: bytes) -> None:
        """Write an answer; close the connection after the last one."""
        head = b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\nDate: %b\r\n%b\r\n" % (
            _STATUS[status],
            fields,
            len(body),
            self._lanes.date(),
            _LAST if self._closing else b"",
        )
        if len(body) > SMALL_BYTES:
            self._transport.writelines((head, body))  # Do not copy what may be megabytes.
        else:
            self._transport.write(head + body)
        if self._closing:
            self._transport.close()


_LAST = b"Connection: close\r\n"
_STATUS = {status.value: b"%d %b" % (status.value, status.phrase.encode()) for status in HTTPStatus}
