"""Requests to foo without a network: what gunicorn would pass to the application, and what the application sends."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from http.client import HTTPMessage
from typing import Any

from harness.http import Response

from foo_web.flask_async import AsyncFlask

type Headers = Iterable[tuple[str, str]]


class Client:
    """One connection. It sends the first ``sends`` of its request's ``chunks``, and leaves when told to."""

    def __init__(self, *chunks: bytes) -> None:
        self._chunks = list(chunks)
        self.sends = len(chunks)
        self._left = asyncio.Event()
        self.sent: list[dict[str, Any]] = []

    def leave(self) -> None:
        self._left.set()

    async def receive(self) -> dict[str, Any]:
        if self.sends:
            self.sends -= 1
            body = self._chunks.pop(0)
            return {"type": "http.request", "body": body, "more_body": bool(self._chunks)}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, event: dict[str, Any]) -> None:
        self.sent.append(event)

    def reply(self) -> Response:
        start, body = self.sent
        assert (start["type"], body["type"]) == ("http.response.start", "http.response.body")
        headers = HTTPMessage()
        for name, value in start["headers"]:
            headers[name.decode()] = value.decode()
        return Response(start["status"], headers, body["body"])


def scope(method: str, path: str, headers: Headers = ()) -> dict[str, Any]:
    path, _, query = path.partition("?")
    encoded = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    if not any(name == b"host" for name, _ in encoded):
        encoded.append((b"host", b"localhost:5000"))
    return {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": encoded,
        "server": ("127.0.0.1", 5000),
    }


class Foo:
    """The application, with a new client for each request."""

    def __init__(self, app: AsyncFlask) -> None:
        self.app = app

    def begin(self, client: Client, method: str, path: str, headers: Headers = ()) -> "asyncio.Task[None]":
        call: Callable[..., Awaitable[None]] = self.app.__call__
        return asyncio.ensure_future(call(scope(method, path, headers), client.receive, client.send))

    async def request(self, method: str, path: str, body: bytes = b"", **headers: str) -> Response:
        named = [(name.replace("_", "-"), value) for name, value in headers.items()]
        if body:
            named.append(("Content-Length", str(len(body))))
        client = Client(body)
        async with asyncio.timeout(60):
            await self.begin(client, method, path, named)
        return client.reply()

    async def post(self, body: bytes = b"", **headers: str) -> Response:
        return await self.request("POST", "/foo", body, **headers)

    async def get(self, path: str) -> Response:
        return await self.request("GET", path)
