"""CORS headers, for pages of other origins that talk to the server directly (protocol section 6).

Off unless origins are configured.
"""

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

METHODS = "GET, POST, PUT, PATCH, DELETE, OPTIONS"
HEADERS = "origin, content-length, content-type, authorization"
MAX_AGE_S = "3600"


def admits(allowed: list[str], origin: str) -> bool:
    """Return whether ``allowed`` contains ``origin`` or ``*``."""
    return "*" in allowed or origin in allowed


def cors(allowed: list[str]) -> Middleware:
    """Reflect the origins in ``allowed``. The gate has refused all others (:mod:`resonate_server.http.gate`)."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        origin = request.headers.get("Origin", "")
        admitted = bool(origin) and admits(allowed, origin)
        if admitted and request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            return web.Response(status=204, headers=_preflight_headers(origin))
        if admitted:
            request["cors_origin"] = origin
        return await handler(request)

    return middleware


async def add_origin(request: web.Request, response: web.StreamResponse) -> None:
    """Add the header in a signal handler, because a stream's headers are sent before its handler returns."""
    origin = request.get("cors_origin")
    if origin is not None:
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Vary"] = "Origin"


def _preflight_headers(origin: str) -> dict[str, str]:
    return {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Methods": METHODS,
        "Access-Control-Allow-Headers": HEADERS,
        "Access-Control-Max-Age": MAX_AGE_S,
        "Vary": "Origin",
    }
