"""What a client has sent so far, and whether that is a whole request: only then a thread is spent on it.

This finds only where a request ends. What it says, and whether it is well formed, gunicorn's own parser tells.
"""

import contextlib
import re
from typing import override

from gunicorn.http import Request, RequestParser
from gunicorn.http.errors import LimitRequestHeaders
from gunicorn.workers.gthread import TConn

MAX_HEAD_BYTES = 32 * 1024
MAX_BODY_BYTES = 16 * 1024
# Chunks may come with extensions and trailers.
MAX_CHUNKED_BYTES = 2 * MAX_BODY_BYTES

_HEAD_END = re.compile(rb"\n\r?\n")
_LENGTH = re.compile(rb"\ncontent-length:[ \t]*([0-9]+)[ \t]*\r?\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\ntransfer-encoding:[^\n]*chunked", re.IGNORECASE)
_EXPECTS = re.compile(rb"\nexpect:[ \t]*100-continue[ \t]*\r?\n", re.IGNORECASE)


class Arrival(RequestParser):
    """gunicorn's parser of one request. It reads what was added, and nothing from the connection itself."""

    def __init__(self, conn: TConn) -> None:
        super().__init__(conn.cfg, [], conn.client)
        self._client = conn.sock
        self._received = bytearray()
        self._body_at = 0
        self._length = 0
        self._chunk_at: int | None = None
        self._chunks_bytes = 0

    def add(self, data: bytes) -> bool:
        """Whether nothing more is needed: the request is whole, or it will be refused whatever follows."""
        new = max(0, len(self._received) - 2)
        self._received += data
        if not self._body_at:
            end = _HEAD_END.search(self._received, new)
            if end is None:
                return len(self._received) > MAX_HEAD_BYTES
            self._body_at = end.end()
            self._read_head(self._received[: self._body_at])
        if self._chunk_at is not None:
            return self._has_all_chunks(self._chunk_at)
        return self._length > MAX_BODY_BYTES or len(self._received) >= self._body_at + self._length

    def asks_for(self, path: bytes) -> bool:
        return self._received.startswith((b"GET %b " % path, b"GET %b?" % path))

    @override
    def __next__(self) -> Request:
        if not self._body_at:
            raise LimitRequestHeaders(f"over {MAX_HEAD_BYTES} bytes")
        self.unreader.unread(self._received)
        return super().__next__()

    def _read_head(self, head: bytearray) -> None:
        length, chunked = _LENGTH.search(head), _CHUNKED.search(head)
        if length is not None and chunked is None:
            # Python does not read numbers of any length; these digits tell what is too large.
            self._length = int(length[1].lstrip(b"0")[:20] or b"0")
        elif chunked is not None and length is None:
            self._chunk_at = len(head)
        if _EXPECTS.search(head):
            # The client may wait for this before it sends the body. One that has gone is noticed elsewhere.
            with contextlib.suppress(OSError):
                self._client.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _has_all_chunks(self, at: int) -> bool:
        """`at`: where the next chunk begins. What cannot be a chunk is left to the parser."""
        received = self._received
        while (line_end := received.find(b"\r\n", at)) >= 0:
            try:
                size = int(received[at:line_end].partition(b";")[0], 16)
            except ValueError:
                return True
            begin, end = line_end + 2, line_end + 2 + size
            if size == 0:
                return received.startswith(b"\r\n", begin) or b"\r\n\r\n" in received[begin:]
            if size < 0 or self._chunks_bytes + min(size, len(received) - begin) > MAX_BODY_BYTES:
                return True
            if len(received) < end + 2:
                break
            self._chunks_bytes += size
            self._chunk_at = at = end + 2
        if len(received) - self._body_at <= MAX_CHUNKED_BYTES:
            return False
        del received[at:]  # between two chunks: the parser is to find that the body goes on, not that it is malformed
        return True
