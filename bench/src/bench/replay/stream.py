"""A worker's stream of messages, read with as little work as possible."""

import asyncio
from collections.abc import Callable
from typing import cast

_LINE = b"\r\n"


class MessageStream(asyncio.Protocol):
    """``GET /poll/{group}/{pid}``; each message goes to ``on_message`` as JSON. The body comes in chunks."""

    def __init__(self, host: str, path: str, on_message: Callable[[bytes], None]) -> None:
        self._host = host
        self._path = path
        self._on_message = on_message
        self._received = b""
        self._body = b""
        self._transport: asyncio.Transport | None = None
        self.is_established: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Fails if the server refuses the stream or ends it."""

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        request = f"GET {self._path} HTTP/1.1\r\nHost: {self._host}\r\nAccept: text/event-stream\r\n\r\n"
        self._transport.write(request.encode())

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self.is_established.done() and not self._read_head():
            return
        while self._read_chunk():
            pass
        *events, self._body = self._body.split(b"\n\n")
        for event in events:
            if event.startswith(b"data: "):
                self._on_message(event[6:])

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.is_established.done():
            self.is_established.set_exception(ConnectionError(f"the stream {self._path} ended: {exc}"))

    def _read_head(self) -> bool:
        head, end, rest = self._received.partition(_LINE * 2)
        if not end:
            return False
        if b" 200 " not in head.partition(_LINE)[0]:
            self.is_established.set_exception(ConnectionError(f"the stream {self._path} is refused: {head!r}"))
            return False
        self._received = rest
        self.is_established.set_result(None)
        return True

    def _read_chunk(self) -> bool:
        """Move a whole chunk from what was received to the body."""
        size_line, end, rest = self._received.partition(_LINE)
        if not end:
            return False
        size = int(size_line.partition(b";")[0], 16)
        if size == 0 or len(rest) < size + len(_LINE):
            return False
        self._body += rest[:size]
        self._received = rest[size + len(_LINE) :]
        return True
