"""A client of foo's HTTP interface."""

import json
import socket
from typing import Any

from harness import http
from harness.basics import answers_200
from harness.http import Response


class Foo:
    """A client of foo on a local port; requests raise ``OSError`` or ``HTTPException`` if nobody answers."""

    def __init__(self, foo_port: int) -> None:
        self.foo_port = foo_port

    def post(self, body: Any = None, *, key: str | None = None, prefer: str | None = None) -> Response:
        """Send bytes as they are, anything else as JSON."""
        text = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        headers = {"Idempotency-Key": key, "Prefer": prefer}
        return self.request("POST", "/foo", text, {name: value for name, value in headers.items() if value is not None})

    def get(self, path: str) -> Response:
        return self.request("GET", path)

    def request(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Response:
        return http.request(self.foo_port, method, path, body, headers)

    def connect(self) -> socket.socket:
        """Open a plain connection, for requests that no HTTP client would send."""
        return socket.create_connection(("127.0.0.1", self.foo_port), timeout=60)

    def is_healthy(self) -> bool:
        return answers_200(self.foo_port, "/health")
