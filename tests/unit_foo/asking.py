"""Requests to foo without a network: what gunicorn would pass to the application, and what the application sends."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable
from http.client import HTTPMessage
from typing import Any

from harness.http import Response
from harness.server import FAR, encoded
from harness.server import Client as Server
from unit_worker.group import until

from foo_web.app import create_app
from foo_web.chains import Chains

type Headers = Iterable[tuple[str, str]]

PAUSE = b'{"pause": 60}'
"""The body of a request whose function waits until somebody settles its first step."""
_numbers = itertools.count(1)


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
    """The application, with a new client for each request, and a server on which others act, too."""

    def __init__(self, chains: Chains, server: Server, *, offers_faults: bool = False) -> None:
        self.app, self.chains, self._server = create_app(chains, "", offers_faults=offers_faults), chains, server
        self.key = f"chain-{next(_numbers)}"
        """The id of the chain that a test is about."""

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

    async def post(self, body: bytes = b"", *, key: str | None = None, prefer: str = "") -> Response:
        """Begin or join the chain of the test, or one with another key; with an empty one, foo chooses its id."""
        headers = {"Idempotency-Key": self.key if key is None else key, "Prefer": prefer}
        return await self.request("POST", "/foo", body, **{name: text for name, text in headers.items() if text})

    def posting(self, body: bytes = PAUSE, *, key: str | None = None, prefer: str = "") -> "asyncio.Task[Response]":
        return asyncio.create_task(self.post(body, key=key, prefer=prefer))

    async def get(self, path: str = "") -> Response:
        """Look up the chain of the test, or something else."""
        return await self.request("GET", path or f"/foo/{self.key}")

    # ── what others do ──

    def ask_server(self, kind: str, **data: Any) -> Any:
        answer = self._server.call(kind, **data)
        assert answer.status == 200
        return answer.data

    async def waits(self, key: str | None = None) -> None:
        """Wait until the function has asked for what it waits for."""
        id = f"{key or self.key}:1"
        await until(lambda: self._server.call("promise.get", id=id).status == 200)

    def settle(self, value: Any, key: str | None = None) -> None:
        """Settle what the function waits for."""
        self.settle_as(f"{key or self.key}:1", "resolved", value)

    def settle_as(self, id: str, state: str, value: Any) -> None:
        self.ask_server("promise.settle", id=id, state=state, value=encoded(value))

    def create(self, group: str, func: str, timeout_at: int = FAR, delay: int = FAR - 1, **members: Any) -> None:
        """Create a call, as somebody else would. ``delay``: when it may begin, in ms since the epoch."""
        tags = {"resonate:target": f"poll://any@{group}"} | ({"resonate:delay": str(delay)} if delay else {})
        param = encoded({"func": func, **members})
        self.ask_server("promise.create", id=self.key, timeoutAt=timeout_at, param=param, tags=tags)


def problem(reply: Response) -> tuple[int, str]:
    """Return the status and the detail of a problem document."""
    document = reply.json
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert reply.body.endswith(b"\n")
    assert document["status"] == reply.status and document["title"]
    return reply.status, document["detail"]
