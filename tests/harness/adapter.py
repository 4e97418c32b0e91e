"""An HTTP endpoint that offers actions to the live page and answers as the test specifies."""

import json
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, override

from msgspec import Struct, field

from harness.http import Handler, serving


class Reply(Struct):
    """``pause``: seconds before the answer and between its ``pieces``."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    pause: float = 0
    pieces: int = 1


class Asked(Struct, frozen=True):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Adapter:
    """Give the reply in ``replies`` for the method, and record each request in ``asked``."""

    def __init__(self, port: int, scheme: str = "http") -> None:
        self.url = f"{scheme}://127.0.0.1:{port}/actions"
        self.begin_anew()

    def begin_anew(self) -> None:
        """Restore the initial replies and forget all requests."""
        self.replies = {"GET": offer(), "POST": Reply(b'{"id": "begun"}', 202)}
        self.asked: list[Asked] = []

    @property
    def posted(self) -> list[Any]:
        """The bodies of all POST requests, without the GET requests that the page makes in between."""
        return [json.loads(each.body) for each in self.asked if each.method == "POST"]


def offer(*actions: dict[str, Any]) -> Reply:
    return Reply(json.dumps({"actions": actions}).encode())


@contextmanager
def running_adapter(port: int = 0, secured: ssl.SSLContext | None = None) -> Iterator[Adapter]:
    """``secured``: serve HTTPS with this context's certificate."""
    with serving(_Handler, port, secured) as server:
        _Handler.adapter = Adapter(server.server_port, "http" if secured is None else "https")
        yield _Handler.adapter


class _Handler(Handler):
    adapter: Adapter

    @override
    def respond(self) -> None:
        reply = self.adapter.replies[self.command]
        headers = {name.lower(): text for name, text in self.headers.items()}
        self.adapter.asked.append(Asked(self.command, self.path, headers, self.body()))
        time.sleep(reply.pause)
        try:
            self.send_response(reply.status)
            for name, text in reply.headers.items():
                self.send_header(name, text)
            self.end_headers()
            self._write(reply)
        except ConnectionError:
            pass  # the client did not wait

    def _write(self, reply: Reply) -> None:
        step = -(-len(reply.body) // reply.pieces) or 1
        for begin in range(0, len(reply.body), step):
            self.wfile.write(reply.body[begin : begin + step])
            self.wfile.flush()
            time.sleep(reply.pause)
