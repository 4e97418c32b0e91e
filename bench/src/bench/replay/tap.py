"""A tap between the services and a server: passes everything on, and remembers requests, answers and messages in order.

Runs in a thread of this process. What is remembered is what `bench record` makes its template of.
"""

import asyncio
import threading
import time
from typing import Any, Self

import aiohttp
import msgspec
from aiohttp import web
from harness.basics import free_port
from msgspec import Struct

STOP_SECONDS = 5


class Exchange(Struct):
    """A request and its answer (JSON), or a message to a worker; times in seconds, from the tap's clock."""

    sent_at: float
    answered_at: float
    request: Any
    answer: Any = None
    is_message: bool = False


class Tap:
    """Listens on a port of its own and passes on to ``server_url``."""

    def __init__(self, server_url: str) -> None:
        self._server_url = server_url.rstrip("/")
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self.exchanges: list[Exchange] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(STOP_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    async def _listen(self) -> None:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None))
        app = web.Application()
        app.router.add_post("/", self._pass_request)
        app.router.add_get("/poll/{group}/{id}", self._pass_stream)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()

    async def _close(self) -> None:
        await self._runner.cleanup()
        await self._session.close()

    async def _pass_request(self, request: web.Request) -> web.Response:
        body = await request.read()
        sent_at = time.perf_counter()
        async with self._session.post(f"{self._server_url}/", data=body, headers=_json_headers()) as response:
            answer = await response.read()
        exchange = Exchange(sent_at, time.perf_counter(), msgspec.json.decode(body), msgspec.json.decode(answer))
        self.exchanges.append(exchange)
        return web.Response(body=answer, status=response.status, headers=_json_headers())

    async def _pass_stream(self, request: web.Request) -> web.StreamResponse:
        passed = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        async with self._session.get(f"{self._server_url}{request.path}") as response:
            await passed.prepare(request)
            async for line in response.content:
                if line.startswith(b"data: "):
                    now = time.perf_counter()
                    message = msgspec.json.decode(line.removeprefix(b"data: "))
                    self.exchanges.append(Exchange(now, now, message, is_message=True))
                await passed.write(line)
        return passed


def _json_headers() -> dict[str, str]:
    return {"Content-Type": "application/json"}
