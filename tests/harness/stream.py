"""A bare reader of a worker's stream, for tests that check the bytes."""

import json
import socket
import time
from typing import Any


class Stream:
    """``GET /poll/{group}/{id}`` over a plain socket. ``raw`` holds all body bytes received so far."""

    def __init__(self, port: int, group: str, id: str, **headers: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in {"Host": "localhost", **headers}.items()]
        self._socket.sendall(f"GET /poll/{group}/{id} HTTP/1.1\r\n{''.join(lines)}\r\n".encode())
        self._buffer = b""
        self.raw = b""
        self.head = self._read_head()
        self._seen = 0

    def message(self, seconds: float = 60) -> dict[str, Any]:
        """Return the next message; raise ``TimeoutError`` if none comes, ``EOFError`` if the stream has ended."""
        deadline = time.monotonic() + seconds
        while True:
            messages = self._messages()
            if len(messages) > self._seen:
                self._seen += 1
                message: dict[str, Any] = json.loads(messages[self._seen - 1])
                return message
            self._read_chunk(deadline)

    def nothing(self, seconds: float = 0.3) -> bool:
        """Return whether no message arrives within ``seconds``."""
        try:
            self.message(seconds)
        except TimeoutError:
            return True
        return False

    def close(self) -> None:
        self._socket.close()

    def _messages(self) -> list[bytes]:
        frames = self.raw.split(b"\n\n")[:-1]
        return [frame.removeprefix(b"data: ") for frame in frames if frame.startswith(b"data: ")]

    def _read_head(self) -> str:
        while b"\r\n\r\n" not in self._buffer:
            self._fill(time.monotonic() + 60)
        head, self._buffer = self._buffer.split(b"\r\n\r\n", 1)
        return head.decode()

    def _read_chunk(self, deadline: float) -> None:
        while b"\r\n" not in self._buffer:
            self._fill(deadline)
        size_line, self._buffer = self._buffer.split(b"\r\n", 1)
        size = int(size_line, 16)
        while len(self._buffer) < size + 2:
            self._fill(deadline)
        self.raw += self._buffer[:size]
        self._buffer = self._buffer[size + 2 :]
        if size == 0:
            raise EOFError

    def _fill(self, deadline: float) -> None:
        self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
        data = self._socket.recv(65_536)
        if not data:
            raise EOFError
        self._buffer += data
