"""A request on a connection of its own, and the response."""

import json
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPMessage
from typing import Any

from msgspec import Struct

ANSWER_SECONDS = 120


class Response(Struct, frozen=True):
    """``body`` is the raw content, :attr:`json` the parsed one."""

    status: int
    headers: HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def content_type(self) -> str:
        return self.headers.get("Content-Type", "")


def request(
    port: int, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """Raises ``OSError`` or ``HTTPException`` if nobody answers."""
    connection = HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        is_endless = response.headers.get_content_type() == "text/event-stream"
        return Response(response.status, response.headers, b"" if is_endless else response.read())
    finally:
        connection.close()
