"""``GET /poll/{group}/{id}``: a worker's stream of messages as server-sent events (protocol section 5.3).

The SDKs' parsers require LF line ends, one ``data:`` line per message, ASCII, and a clean end of the stream well before
the 300 s after which their HTTP client abandons a response for good.
"""

import asyncio
import random
from collections.abc import Callable

from aiohttp import ClientConnectionError, web

from resonate_server.config import Settings
from resonate_server.delivery import Hub, Pledge, WorkerStream
from resonate_server.http.auth import Guard
from resonate_server.http.connections import begin_stream
from resonate_server.protocol.messages import Message, encode_message
from resonate_server.protocol.requests import MAX_ID_CHARACTERS

STREAM_S = 240.0
"""Maximum age of a stream; the worker then reconnects a second later."""

STREAM_JITTER_S = 30.0
"""The ends of streams that began together are spread over this time before :data:`STREAM_S`."""

KEEP_ALIVE_S = 10.0
"""After this long without a message, a comment is written, so that a dead peer is noticed."""

RECONNECT_WITHIN = "Resonate-Reconnect-Within"
"""Request header: the worker promises to reconnect within this many ms if its stream breaks while it is alive. SDKs,
which promise nothing, get the default grace period."""

HEARTBEAT_WITHIN = "Resonate-Heartbeat-Within"
"""Request header: while it is alive, the worker sends a request of its own at least once in this many ms. The answer
repeats the header if the server monitors that; the worker can spare other servers such frequent signs of life."""

WRITE_WITHIN = "Resonate-Write-Within"
"""Response header of a server that may be one of several: while it is alive, it writes to the stream at least once in
this many ms, so that a worker can leave a hung server for another one. A single server does not send the header,
because no other could take its place."""

WRITE_WITHIN_MS = 6_000
KEEP_ALIVE_AMONG_OTHERS_S = 1.5

LEAST_MS, MAX_DIGITS = 100, 6


class Streams:
    """Serves all streams; refuses new ones above the configured limit."""

    def __init__(self, hub: Hub, guard: Guard, settings: Settings, now: Callable[[], int]) -> None:
        """``now`` returns the server's time in ms."""
        self._hub = hub
        self._guard = guard
        self._now = now
        self._server_url = settings.server.public_url
        self._may_have_others = settings.storage.is_postgres
        self._keep_alive_s = KEEP_ALIVE_AMONG_OTHERS_S if self._may_have_others else KEEP_ALIVE_S
        self._max_connections = settings.transports.http_poll.max_connections

    async def get(self, request: web.Request) -> web.StreamResponse:
        group, id = _name(request, "group"), _name(request, "id")
        access = self._guard.authenticate(None, request.headers.get("Authorization"))
        access.check_group(group)
        if self._hub.streams >= self._max_connections:
            return web.Response(status=503, text=f"more than {self._max_connections} streams\n")
        pledge = _pledge(request)
        headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
        if pledge.heartbeat_within is not None:
            headers[HEARTBEAT_WITHIN] = str(pledge.heartbeat_within)
        if self._may_have_others:
            headers[WRITE_WITHIN] = str(WRITE_WITHIN_MS)
        response = await begin_stream(request, headers)
        stream = self._hub.connect(group, id, pledge, access.prefix)
        ended_by_us = False
        try:
            await self._serve(response, stream)
            ended_by_us = True
        except ClientConnectionError:
            pass  # The peer is gone; tasks that it was offered but did not claim go to others.
        finally:
            self._hub.disconnect(stream, planned=ended_by_us)
        return response

    async def _serve(self, response: web.StreamResponse, stream: WorkerStream) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + STREAM_S - random.uniform(0, STREAM_JITTER_S)
        await response.write(self._comment())
        while not stream.closed and (remaining := end - loop.time()) > 0:
            messages = await stream.wait(min(self._keep_alive_s, remaining))
            await response.write(self._comment() + self._frames(messages))

    def _comment(self) -> bytes:
        """Workers of this demo read the server's time from comments; others ignore them."""
        return b": time %d\n\n" % self._now()

    def _frames(self, messages: list[Message]) -> bytes:
        return b"".join(b"data: %b\n\n" % encode_message(message, self._server_url) for message in messages)


def _name(request: web.Request, part: str) -> str:
    """Return a name from the path. No address has a longer one, and all that see the workers are told it."""
    name = request.match_info[part]
    if len(name) > MAX_ID_CHARACTERS:
        raise web.HTTPBadRequest(text=f"the {part} has more than {MAX_ID_CHARACTERS} characters\n")
    return name


def _pledge(request: web.Request) -> Pledge:
    return Pledge(*(_ms(request.headers.get(name, "")) for name in (RECONNECT_WITHIN, HEARTBEAT_WITHIN)))


def _ms(promised: str) -> int | None:
    """Return ``None`` if there is no promise, or none that can be kept."""
    is_number = len(promised) <= MAX_DIGITS and promised.isascii() and promised.isdigit()
    return int(promised) if is_number and int(promised) >= LEAST_MS else None
