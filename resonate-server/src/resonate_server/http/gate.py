"""The gate in front of all routes: it decides whether to let a request in. It judges by method, path and headers alone,
so that no body of a refused request is read.

The browser of a user can reach a server on the same machine, and so can any page that is open in it. But a browser says
which page makes a request, and no page can change that. So the gate refuses pages of other origins, and nobody else:
programs do not send these headers.

* ``Host``: a page whose host name was pointed at this server (DNS rebinding) looks same-origin to the browser. But its
  requests carry that name, which is not one of ours. If the request target names the host (``POST
  http://localhost:8001/``), the target counts instead (RFC 9112 section 3.2.2).
* ``Origin``: sent with everything except GETs whose answer the page cannot read.
* ``Sec-Fetch-Site``: sent with those as well, if the browser trusts the connection (loopback or TLS). ``same-site`` is
  not trusted: it may be another port of this machine.
* ``User-Agent``: that of a browser suffices for a refusal where a GET has an effect: opening a worker's stream takes
  tasks, and a backup copies the database, one at a time.
"""

import logging
import re
from collections.abc import Collection, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from msgspec import Struct

from resonate_server.config import ServerSettings
from resonate_server.metrics import Metrics
from resonate_server.protocol.envelope import encode_response

logger = logging.getLogger(__name__)

type Headers = Mapping[str, str]
"""Keyed by lower-case name. Repeated fields are joined by commas, and so match no value expected here."""


class Refusal(Struct, frozen=True):
    """``reason``: label for metrics. ``message``: text for the client, which may name a setting that helps."""

    status: int
    reason: str
    message: str


MALFORMED_HOST = Refusal(400, "host", "the Host header is malformed")
UNKNOWN_HOST = Refusal(
    421,
    "host",
    "the request names another host; RESONATE_SERVER__HOSTS can add names of this server",
)
FOREIGN_ORIGIN = Refusal(
    403,
    "origin",
    "pages of this origin may not send requests; RESONATE_SERVER__CORS__ALLOW_ORIGINS can allow them, and a proxy must "
    "pass Host on",
)
FOREIGN_SITE = Refusal(
    403, "site", "pages of other sites may only link to /ui/; RESONATE_SERVER__CORS__ALLOW_ORIGINS can allow more"
)
UNDECLARED_BODY = Refusal(415, "content_type", "a page must send its body as application/json")


# ── names ──

ANY = "*"

EVERYWHERE = ("", "0.0.0.0", "::")  # noqa: S104
"""Wildcard bind addresses. They are not accepted as host names: browsers can reach this machine by them, and do not say
which page asks then."""

_AUTHORITY = re.compile(
    r"(?:\[(?P<v6>[0-9a-f:.]+)\]|(?P<name>[0-9a-z_-]+(?:\.[0-9a-z_-]+)*)\.?)(?::[0-9]*)?", re.IGNORECASE | re.ASCII
)


def host_of(authority: str) -> str | None:
    """Return the normalized name or address in the value of a ``Host`` header; ``None`` if it is malformed."""
    found = _AUTHORITY.fullmatch(authority)
    if found is None:
        return None
    if found["v6"] is None:
        return found["name"].lower()
    address = _address(found["v6"])
    return str(address) if isinstance(address, IPv6Address) else None


def is_loopback(host: str) -> bool:
    """Return whether the normalized ``host`` always means this machine.

    Subdomains of ``localhost`` do not: some resolvers look them up in the network.
    """
    address = _address(host)
    return host in ("localhost", "::1") or (isinstance(address, IPv4Address) and address.is_loopback)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _names(server: ServerSettings) -> set[str | None]:
    """Return the names of this server other than loopback."""
    listens_on = [] if server.bind in EVERYWHERE else [server.bind]
    in_messages = server.public_url.partition("://")[2].partition("/")[0]
    return {_compared(given) for given in (*listens_on, in_messages, *server.hosts)}


def _compared(given: str) -> str | None:
    """Normalize a host from the settings, where an IPv6 address needs no brackets."""
    address = _address(given)
    return str(address) if address else host_of(given)


def admits(allowed: list[str], origin: str) -> bool:
    """Return whether ``allowed`` contains ``origin`` or ``*``. What is not ASCII could not be reflected."""
    return origin.isascii() and ("*" in allowed or origin in allowed)


# ── judging requests ──

EFFECTS = ("/poll/", "/backup")
"""Paths, or their beginnings, where a GET has an effect."""

_JSON = re.compile(r"application/(?:[a-z0-9._-]+\+)?json\s*(?:;|$)", re.IGNORECASE | re.ASCII)


class Gate:
    """Judges requests. ``pages``: paths that any site may link to."""

    def __init__(self, server: ServerSettings, pages: Collection[str] = ()) -> None:
        self._any_host = ANY in server.hosts
        self._names = _names(server)
        self._origins = server.cors.allow_origins
        self._pages = pages

    def judge(self, method: str, path: str, headers: Headers) -> Refusal | None:
        """Return the reason to refuse the request, or ``None`` to let it in."""
        return self._judge_host(headers) or self._judge_sender(method, path, headers) or _judge_body(headers)

    def names_this_server(self, authority: str) -> bool:
        """Return whether ``authority``, the value of a ``Host`` header, names this server."""
        host = host_of(authority)
        return host is not None and (self._any_host or host in self._names or is_loopback(host))

    def _judge_host(self, headers: Headers) -> Refusal | None:
        """A request without ``Host`` is HTTP/1.0, so not from a browser; aiohttp requires the header in HTTP/1.1."""
        authority = headers.get("host")
        if authority is None or self.names_this_server(authority):
            return None
        return MALFORMED_HOST if host_of(authority) is None else UNKNOWN_HOST

    def _judge_sender(self, method: str, path: str, headers: Headers) -> Refusal | None:
        origin = headers.get("origin")
        if origin is not None and admits(self._origins, origin):
            return None
        if origin is not None and not _is_own(origin, headers) and not _reads_as_our_page(method, path, headers):
            return FOREIGN_ORIGIN
        if path.startswith(EFFECTS) and _hides_its_page(headers):
            return FOREIGN_SITE
        if headers.get("sec-fetch-site", "none") in ("same-origin", "none"):
            return None
        links_here = origin is None and method == "GET" and path in self._pages and _fills_a_tab(headers)
        return None if links_here else FOREIGN_SITE


def _is_own(origin: str, headers: Headers) -> bool:
    """Accept either scheme, because a proxy may terminate TLS."""
    host = headers.get("host", "").lower()
    return host != "" and origin.lower() in (f"http://{host}", f"https://{host}")


def _reads_as_our_page(method: str, path: str, headers: Headers) -> bool:
    """Behind a proxy that changes ``Host``, the page's scripts name an origin that is not ours. Only a browser says
    ``same-origin``, and it sends its other GETs without an ``Origin``."""
    is_read = method == "GET" and not path.startswith(EFFECTS)
    return is_read and headers.get("sec-fetch-site") == "same-origin"


def _hides_its_page(headers: Headers) -> bool:
    """On an untrusted connection, a browser's GET has neither of these headers, but it still has its ``User-Agent``."""
    says_nothing = "origin" not in headers and "sec-fetch-site" not in headers
    return says_nothing and headers.get("user-agent", "").startswith("Mozilla/")


def _fills_a_tab(headers: Headers) -> bool:
    """Return whether the answer will be a page of its own, not a frame, script or image that another page can use."""
    return headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"


def _judge_body(headers: Headers) -> Refusal | None:
    """Require JSON: what a page can send without a preflight (a form, text) is never declared as JSON."""
    is_of_browser = any(name == "origin" or name.startswith("sec-fetch-") for name in headers)
    has_body = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
    declares_json = _JSON.match(headers.get("content-type", "")) is not None
    return UNDECLARED_BODY if is_of_browser and has_body and not declares_json else None


# ── the middleware ──

_ABSOLUTE = re.compile(r"[a-z][a-z0-9+.-]*://(?P<authority>[^/?#]*)", re.IGNORECASE | re.ASCII)
"""A request target in absolute form, which names the host."""

MAX_LOGGED = 100
"""Maximum number of distinct refusals that are logged, so that a client cannot fill the log by making up more."""

MAX_SHOWN = 200
"""Maximum number of characters of a header value in the log."""


def gated(gate: Gate, metrics: Metrics) -> Middleware:
    """Make the middleware that has ``gate`` judge every request before any other code sees it."""
    journal = Journal()

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        headers = {name.lower(): ", ".join(request.headers.getall(name)) for name in request.headers}
        if absolute := _ABSOLUTE.match(request.raw_path):
            headers["host"] = absolute["authority"]
        refusal = gate.judge(request.method, request.path, headers)
        if refusal is None:
            return await handler(request)
        metrics.refused.labels(refusal.reason).inc()
        journal.log(refusal, headers)
        return _answer(request, refusal)

    return middleware


class Journal:
    """Logs a refusal once for each reason, host and origin."""

    def __init__(self) -> None:
        self._logged: set[tuple[str, ...]] = set()

    def log(self, refusal: Refusal, headers: Headers) -> None:
        kind = (refusal.reason, *(headers.get(name, "")[:MAX_SHOWN] for name in ("host", "origin")))
        if kind in self._logged or len(self._logged) > MAX_LOGGED:
            return
        self._logged.add(kind)
        if len(self._logged) > MAX_LOGGED:
            logger.warning(
                "refused requests of %d kinds; further kinds are only counted (resonate_refused_total)", MAX_LOGGED
            )
        else:
            logger.warning("refused a request for host %a from origin %a: %s", *kind[1:], refusal.message)


def _answer(request: web.Request, refusal: Refusal) -> web.Response:
    """Format the refusal like other errors of the route."""
    if (request.method, request.path) == ("POST", "/"):
        body = encode_response("unknown", "0", refusal.status, refusal.message)
        return web.Response(status=refusal.status, body=body, content_type="application/json")
    return web.json_response({"error": refusal.message}, status=refusal.status)


# ── pages of other origins that are allowed to send requests (CORS, protocol section 6); none unless configured ──

PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, POST, PUT, PATCH, DELETE, OPTIONS",
    "Access-Control-Allow-Headers": "origin, content-length, content-type, authorization",
    "Access-Control-Max-Age": "3600",
    "Vary": "Origin",
}


def cors(allowed: list[str]) -> Middleware:
    """Reflect the origins in ``allowed``. The gate has refused all others."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        origin = request.headers.get("Origin", "")
        admitted = bool(origin) and admits(allowed, origin)
        if admitted and request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            return web.Response(status=204, headers=PREFLIGHT | {"Access-Control-Allow-Origin": origin})
        if admitted:
            request["cors_origin"] = origin
        return await handler(request)

    return middleware


async def add_origin(request: web.Request, response: web.StreamResponse) -> None:
    """Add the header in a signal handler, because a stream's headers are sent before its handler returns."""
    origin = request.get("cors_origin")
    if origin is not None:
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers.add("Vary", "Origin")
