"""Flask as an ASGI application: views may be coroutines, so a request that waits costs a task, not a thread.

Everything else that Flask calls (before or after a view, or for an error) is a plain function. Like a plain view, it
runs on the event loop: while it blocks, no other request is answered.
"""

import asyncio
import contextlib
import io
import logging
import time
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any, override

import msgspec
from flask import Flask, Response, g, request
from werkzeug.exceptions import BadGateway, ServiceUnavailable

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 16 * 1024
MAX_ANSWER_BYTES = 64 * 1024
MAX_AT_WORK = 1024
"""Requests at a time, including waiting ones. Health checks are always answered."""
# How long a client may take to receive its answer and, if its request was not read to the end, to disconnect.
LEAVE_SECONDS = 2

type Receive = Callable[[], Awaitable[dict[str, Any]]]
type Send = Callable[[dict[str, Any]], Awaitable[None]]


class AsyncFlask(Flask):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
        self.at_work: set[asyncio.Task[Response]] = set()
        self._is_ending = False

    async def reject_all(self) -> None:
        """Answer all waiting requests, and all that arrive from now on, with 503 and Retry-After."""
        self._is_ending = True
        for answering in self.at_work:
            answering.cancel()
        if self.at_work:
            await asyncio.wait(self.at_work, timeout=LEAVE_SECONDS)

    @override
    def async_to_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Leave a coroutine view as it is; `_result` awaits it: test_a_request_is_answered_with_the_result."""
        return func

    @override
    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:  # type: ignore[override]
        """Serve one request. Cancelled when its client leaves."""
        if scope["type"] != "http":
            logger.info("WebSocket %.128s  id=-  status=403  seconds=0.000", scope["path"])
            await send({"type": "websocket.close"})
            return
        environ, is_read = await _environ(scope, receive)
        answering = asyncio.create_task(self._answer(environ))
        self.at_work.add(answering)
        answering.add_done_callback(self.at_work.discard)
        response = await answering
        chunks, _, _ = response.get_wsgi_response(environ)
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_SECONDS):
                await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
                await send({"type": "http.response.body", "body": b"".join(chunks)})
                while not is_read:  # closing the connection now could lose the answer
                    is_read = (await receive())["type"] == "http.disconnect"

    async def _answer(self, environ: dict[str, Any]) -> Response:
        """Do what `Flask.wsgi_app` does, but await the view, and log the request."""
        began = time.monotonic()
        with self.request_context(environ):
            try:
                response = self.finalize_request(await self._result())
            except Exception as error:
                response = self.handle_exception(error)
            if request.path != "/health" or 400 <= response.status_code < 500:
                # 128 characters: the longest id that a chain can have.
                line = "%.128s %.128s  id=%.128s  status=%d  seconds=%.3f"
                seconds, id = time.monotonic() - began, g.get("chain_id", "-")
                logger.info(line, request.method, request.path, id, response.status_code, seconds)
            return response

    async def _result(self) -> Any:
        try:
            if self._is_ending:
                raise asyncio.CancelledError
            if len(self.at_work) > MAX_AT_WORK and request.path != "/health":
                raise ServiceUnavailable("foo is overloaded", retry_after=1)
            result = self.preprocess_request() or self.dispatch_request()
            return await result if isawaitable(result) else result
        except asyncio.CancelledError:
            if not self._is_ending:
                logger.info("the client of %.128s has left; the chain continues", g.get("chain_id", request.path))
                raise
            ending = "foo is shutting down; chains already started continue"
            return self.handle_user_exception(ServiceUnavailable(ending, retry_after=1))
        except Exception as error:
            return self.handle_user_exception(error)


def as_json(answer: Any, status: int = 200) -> Response:
    document = msgspec.json.encode(answer)
    if len(document) > MAX_ANSWER_BYTES:
        raise BadGateway(f"the result is too large to be shown: {len(document)} bytes")
    return Response(document + b"\n", status, content_type="application/json")


async def _environ(scope: dict[str, Any], receive: Receive) -> tuple[dict[str, Any], bool]:
    """Return the WSGI environment, and whether the whole body was read: reading stops once it is too large."""
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1").upper().replace("-", "_"), value.decode("latin-1")
        headers[key] = f"{headers[key]},{text}" if key in headers else text
    headers.pop("TRANSFER_ENCODING", None)
    length, body, is_read = int(headers.pop("CONTENT_LENGTH", "0")), b"", False
    while not is_read and max(length, len(body)) <= MAX_BODY_BYTES:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise asyncio.CancelledError
        body += message["body"]
        is_read = not message["more_body"]
    path: str = scope["path"]
    if path.lower().startswith("http://"):  # RFC 9112, 3.2.2: such a target names the host, whatever the header says
        headers["HOST"], _, path = path[len("http://") :].partition("/")
        path = f"/{path}"
    environ = {
        "REQUEST_METHOD": scope["method"],
        "PATH_INFO": path.encode().decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "CONTENT_LENGTH": str(max(length, len(body))),
        "CONTENT_TYPE": headers.pop("CONTENT_TYPE", ""),
        "SERVER_NAME": scope["server"][0],
        "SERVER_PORT": str(scope["server"][1]),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
    }
    return environ | {f"HTTP_{name}": text for name, text in headers.items()}, is_read
