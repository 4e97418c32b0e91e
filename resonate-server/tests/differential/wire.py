"""Pipelined requests over one plain socket: a small part of HTTP, for tests that send very many requests."""

import json
import socket

from differential.kernel import Reply


class Wire:
    """A client that keeps one connection open. Raises ``OSError`` if it breaks."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = self._socket.makefile("rb")

    def call(self, *bodies: bytes) -> list[Reply]:
        """Send all bodies, then read all answers: the server processes them in this order."""
        self._socket.sendall(b"".join(map(_post, bodies)))
        return [self._read() for _ in bodies]

    def _read(self) -> Reply:
        http_status = int(self._line().split()[1])
        length = 0
        while (line := self._line()) != b"\r\n":
            name, _, text = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(text)
        body = self._reader.read(length)
        if len(body) < length:
            raise ConnectionResetError
        envelope = json.loads(body)
        assert envelope["head"]["status"] == http_status
        return Reply(status=http_status, data=envelope["data"])

    def _line(self) -> bytes:
        """Read a whole line. A server that is killed may cut it off anywhere."""
        line = self._reader.readline()
        if not line.endswith(b"\n"):
            raise ConnectionResetError
        return line


def _post(body: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
