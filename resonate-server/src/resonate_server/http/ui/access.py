"""Access control of the page's API, and its error answers: a status and one sentence as JSON."""

from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Handler

from resonate_server.engine import ReadFailed
from resonate_server.http.auth import Access, Guard
from resonate_server.http.connections import LargeResponse
from resonate_server.protocol.errors import ProtocolError
from resonate_server.watch.events import encoder

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",  # a page that opens this one cannot steer it
}
"""Headers of every answer below ``/ui/``."""

type Protected = Callable[[web.Request, Access], Awaitable[web.StreamResponse]]


def json(data: object, status: int = 200) -> web.Response:
    headers = {"Cache-Control": "no-store"}
    return LargeResponse(body=encoder.encode(data), status=status, content_type="application/json", headers=headers)


def protected(guard: Guard, handler: Protected) -> Handler:
    """Wrap ``handler`` so that it requires a valid token and receives what the token permits."""

    async def check(request: web.Request) -> web.StreamResponse:
        return await handler(request, guard.authenticate(None, request.headers.get("Authorization")))

    return check


@web.middleware
async def tell_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except ProtocolError as error:
        return json({"error": error.message}, error.status)
    except web.HTTPError as error:
        error.text = encoder.encode({"error": (error.text or error.reason).strip()}).decode()
        error.content_type = "application/json"
        raise
    except ReadFailed:
        return json({"error": "the store could not be read; the server's log says why"}, 503)


async def add_headers(_: web.Request, response: web.StreamResponse) -> None:
    """Add the headers in a signal handler, because a stream's headers are sent before its handler returns."""
    for name, text in HEADERS.items():
        response.headers[name] = text
