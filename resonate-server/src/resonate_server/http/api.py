"""``POST /``: the only endpoint for all request kinds. The HTTP status always equals the status in the answer's head.

Checks are made in the order of protocol section 1.3: envelope, authentication, kind, fields, and only then state.
"""

import asyncio
import logging
import time

from aiohttp import web
from msgspec import Struct

from resonate_server.engine import Engine
from resonate_server.http.auth import EVERYTHING, Guard
from resonate_server.http.bodies import Bodies
from resonate_server.http.connections import Connections, LargeResponse, connection_of
from resonate_server.http.lane import Respond
from resonate_server.metrics import Metrics
from resonate_server.protocol.answers import Answer
from resonate_server.protocol.envelope import (
    decode_request,
    encode_response,
    open_envelope,
    recover,
)
from resonate_server.protocol.errors import Forbidden, Malformed, ProtocolError
from resonate_server.protocol.requests import KINDS
from resonate_server.store.outgoing import LARGE_BYTES

logger = logging.getLogger(__name__)


class Api(Struct, frozen=True):
    """Checks requests and encodes their answers. ``debug`` allows the ``debug.*`` kinds."""

    engine: Engine
    guard: Guard
    metrics: Metrics
    bodies: Bodies
    connections: Connections
    debug: bool

    async def post(self, request: web.Request) -> web.Response:
        """Handle a request that aiohttp has parsed. Its Content-Type is ignored."""
        body, release = await self.bodies.read(request)
        done: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()

        def respond(status: int, answer: bytes) -> None:
            release()
            if not done.done():
                if connection := connection_of(request):
                    connection.expect(len(answer))
                done.set_result((status, answer))

        self.handle(body, request.headers.get("Authorization"), respond)
        del body  # It may be large, and is no longer needed once decoded.
        status, answer = await done
        return LargeResponse(body=answer, status=status, content_type="application/json")

    def handle(self, body: bytes, authorization: str | None, respond: Respond) -> None:
        """Answer a request body. Always calls ``respond``, now or later, whatever happens."""
        exchange = Exchange(self, respond)
        try:
            self._begin(exchange, body, authorization)
        except ProtocolError as error:
            exchange.end(Answer(status=error.status, data=error.message))
        except Exception:
            logger.exception("a request failed")
            exchange.end(Answer(status=500, data="internal error"))

    def _begin(self, exchange: "Exchange", body: bytes, authorization: str | None) -> None:
        try:
            envelope = open_envelope(body)
        except Malformed:
            exchange.kind, exchange.corr_id = recover(body)
            raise
        exchange.kind, exchange.corr_id = envelope.kind, envelope.head.corr_id
        access = self.guard.authenticate(envelope.head.auth, authorization)
        if not self.debug and envelope.kind.startswith("debug."):
            raise Forbidden(f"{envelope.kind} is for servers started with debug = true")
        try:
            checked = decode_request(envelope, self.debug, access.prefix)
        except Malformed as error:
            if self.engine.trace is not None:
                self.engine.trace.refuses(envelope, Answer(status=error.status, data=error.message))
            raise
        access.check(checked.request)
        exchange.access = access
        self.engine.submit(checked, envelope).add_done_callback(exchange.decided)


class Exchange:
    """A request in flight: what is needed to answer it, and where to send the answer."""

    __slots__ = ("_api", "_began", "_respond", "access", "corr_id", "kind")

    def __init__(self, api: Api, respond: Respond) -> None:
        self._api = api
        self._respond = respond
        self._began = time.perf_counter()
        self.kind, self.corr_id = "unknown", "0"
        self.access = EVERYTHING

    def decided(self, done: asyncio.Future[Answer]) -> None:
        """Send the engine's answer."""
        self.end(self.access.redact(done.result()))

    def end(self, answer: Answer) -> None:
        """Write the answer. If a large one has to wait, encode it again later rather than keep its bytes."""
        body = encode_response(self.kind, self.corr_id, answer.status, answer.data)
        if len(body) > LARGE_BYTES and not self._api.connections.has_room():
            self._api.connections.when_room(lambda: self.end(answer))
            return
        kind = self.kind if self.kind in KINDS else "unknown"
        self._api.metrics.request(kind, answer.status, time.perf_counter() - self._began)
        self._respond(answer.status, body)
        if answer.weight:
            self._api.engine.answered(answer)
