"""One HTTP/1.1 connection with as little work per request as possible, for load generators.

Requests are bytes that were built before; one is under way at a time. Answers are handed to a callback, without tasks
or futures. What the servers measured here do not do is not understood: answers need a Content-Length.
"""

import asyncio
from collections.abc import Callable
from typing import cast

type OnReply = Callable[[int, bytes], None]
"""Called with the HTTP status and the body; status 0 and a reason if the connection broke instead."""

_END_OF_HEAD = b"\r\n\r\n"


def post_bytes(host: str, path: str, body: bytes) -> bytes:
    """A whole request with a JSON body."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Channel:
    """Asks one server, one request after another; connects anew when the server has closed the connection."""

    def __init__(self, host: str, port: int, on_reply: OnReply) -> None:
        self._host = host
        self._port = port
        self._on_reply = on_reply
        self._connection: _Connection | None = None
        self._connecting: asyncio.Task[None] | None = None

    def send(self, request: bytes) -> None:
        """Not to be called before the answer to the last one."""
        if self._connection is not None and self._connection.is_open:
            self._connection.send(request)
        else:
            self._connecting = asyncio.get_running_loop().create_task(self._connect_and_send(request))

    def close(self) -> None:
        """Nothing is called back any more."""
        if self._connection is not None:
            self._connection.close()

    async def connect(self) -> None:
        """So that the first request need not; raises ``OSError``."""
        connection = self._connection = _Connection(self._on_reply)
        await asyncio.get_running_loop().create_connection(lambda: connection, self._host, self._port)

    async def _connect_and_send(self, request: bytes) -> None:
        try:
            await self.connect()
        except OSError as error:
            self._on_reply(0, str(error).encode())
        else:
            assert self._connection is not None
            self._connection.send(request)


class _Connection(asyncio.Protocol):
    def __init__(self, on_reply: OnReply) -> None:
        self._on_reply = on_reply
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._is_waiting = False
        self.is_open = False

    def send(self, request: bytes) -> None:
        assert self._transport is not None
        self._is_waiting = True
        self._transport.write(request)

    def close(self) -> None:
        self.is_open = self._is_waiting = False
        if self._transport is not None:
            self._transport.abort()

    # ── what the event loop calls ──

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own are no subclass
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        end = buffer.find(_END_OF_HEAD)
        if end >= 0:
            head = buffer[:end].lower()
            begin = end + len(_END_OF_HEAD)
            length = _content_length(head)
            if len(buffer) >= begin + length:
                self._finish(head, buffer[begin : begin + length])
                return
        self._buffer = buffer

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        if self._is_waiting:
            self._is_waiting = False
            self._on_reply(0, str(exc or "the connection was closed").encode())

    def _finish(self, head: bytes, body: bytes) -> None:
        self._buffer = b""
        self._is_waiting = False
        if b"connection: close" in head:
            self.close()
        self._on_reply(int(head[9:12]), body)


def _content_length(head: bytes) -> int:
    begin = head.find(b"content-length:")
    if begin < 0:
        raise ValueError(f"an answer without Content-Length: {head!r}")
    end = head.find(b"\r\n", begin)
    return int(head[begin + 15 : end if end >= 0 else None])
