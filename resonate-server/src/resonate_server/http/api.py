"""``POST /``: the one endpoint for every request kind. The HTTP status always equals the status in the answer's
head."""

from aiohttp import web

from resonate_server.engine import Engine
from resonate_server.protocol.envelope import Call, decode_call, encode_response


class Api:
    """Turns request bodies into calls and answers into responses."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def post(self, request: web.Request) -> web.Response:
        """Content-Type is not looked at; a body over the limit is answered 413 by the framework."""
        call = decode_call(await request.read())
        if isinstance(call, Call):
            answer = await self._engine.submit(call)
            return _response(call.request.kind, call.corr_id, answer.status, answer.data)
        return _response(call.kind, call.corr_id, 400, call.message)


def _response(kind: str, corr_id: str, status: int, data: object) -> web.Response:
    body = encode_response(kind, corr_id, status, data)
    return web.Response(body=body, status=status, content_type="application/json")
