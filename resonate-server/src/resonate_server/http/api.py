"""``POST /``: the one endpoint for every request kind. The HTTP status always equals the status in the answer's head.

The checks and their order are those of protocol section 1.3: envelope, authentication, kind, fields, and only then
the state.
"""

import time

from aiohttp import web

from resonate_server.engine import Engine
from resonate_server.http.auth import Guard
from resonate_server.metrics import Metrics
from resonate_server.protocol.answers import Answer
from resonate_server.protocol.envelope import Call, Envelope, Refusal, decode_call, encode_response, open_envelope
from resonate_server.protocol.errors import Forbidden, ProtocolError
from resonate_server.protocol.requests import KINDS


class Api:
    """Turns request bodies into calls and answers into responses. ``debug`` allows the ``debug.*`` kinds."""

    def __init__(self, engine: Engine, guard: Guard, metrics: Metrics, debug: bool) -> None:
        self._engine = engine
        self._guard = guard
        self._metrics = metrics
        self._debug = debug

    async def post(self, request: web.Request) -> web.Response:
        """Content-Type is not looked at; a body over the limit is answered 413 by the framework."""
        began = time.perf_counter()
        envelope = open_envelope(await request.read())
        if isinstance(envelope, Refusal):
            return self._respond(envelope.kind, envelope.corr_id, Answer(status=400, data=envelope.message), began)
        answer = await self._answer(envelope, request.headers.get("Authorization"))
        return self._respond(envelope.kind, envelope.head.corr_id, answer, began)

    async def _answer(self, envelope: Envelope, authorization: str | None) -> Answer:
        try:
            access = self._guard.authenticate(envelope.head.auth, authorization)
            if envelope.kind.startswith("debug.") and not self._debug:
                raise Forbidden(f"{envelope.kind} is for servers started with debug = true")
            call = decode_call(envelope)
            access.check(call.request)
        except ProtocolError as error:
            return Answer(status=error.status, data=error.message)
        return access.redact(await self._engine.submit(self._without_debug_time(call)))

    def _without_debug_time(self, call: Call) -> Call:
        return call if self._debug else Call(corr_id=call.corr_id, request=call.request)

    def _respond(self, kind: str, corr_id: str, answer: Answer, began: float) -> web.Response:
        self._metrics.request(kind if kind in KINDS else "unknown", answer.status, time.perf_counter() - began)
        body = encode_response(kind, corr_id, answer.status, answer.data)
        return web.Response(body=body, status=answer.status, content_type="application/json")
