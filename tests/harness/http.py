"""A request on a connection of its own and the response; and servers that answer what a test says."""

import json
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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


class Handler(BaseHTTPRequestHandler):
    """Responds to GET and POST as a subclass says, and logs nothing."""

    def respond(self) -> None:
        raise NotImplementedError

    def do_GET(self) -> None:
        self.respond()

    do_POST = do_GET  # noqa: N815

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", "0")))

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Header names have ``_`` for ``-``."""
        self.send_response(status)
        for name, text in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving(
    handler: type[BaseHTTPRequestHandler], port: int = 0, secured: ssl.SSLContext | None = None
) -> Iterator[ThreadingHTTPServer]:
    """``secured``: serve HTTPS with this context's certificate."""
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    if secured is not None:
        server.socket = secured.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
