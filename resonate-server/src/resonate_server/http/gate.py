"""The gate before every route: whether a request may come in at all. Judged by method, path and headers alone, so that
nothing of a refused request is read, let alone done.

A server on somebody's machine is reached by that person's browser, too, and so by any page that is open in it. But a
browser says whose page asks, and no page can have it say otherwise. So a page of another origin is refused, and
nobody else is: programs do not send these headers.

* ``Host``: a page whose name was made to point here (DNS rebinding) is of our origin to its browser. It still calls us
  by that name, which is not one of ours. A target that names the host itself (``POST http://localhost:8001/``) counts
  instead (RFC 9112 section 3.2.2).
* ``Origin``: comes with everything but GETs that the page cannot read.
* ``Sec-Fetch-Site``: comes with those as well, where the browser trusts the connection: on loopback, or over TLS.
  ``same-site`` is no friend: another port of this machine.
* ``User-Agent``: of a browser, is enough where a GET has an effect: who opens a worker's stream is handed tasks.
"""

import logging
import re
from collections.abc import Collection, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from msgspec import Struct

from resonate_server.config import ServerSettings
from resonate_server.http.cors import admits
from resonate_server.metrics import Metrics
from resonate_server.protocol.envelope import encode_response

logger = logging.getLogger(__name__)

type Headers = Mapping[str, str]
"""By names in lower case. A field that came twice has its values joined by commas, and fits nothing expected here."""


class Refusal(Struct, frozen=True):
    """``reason``: how it is counted. ``message``: what the client is told, and its user may set."""

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
    403, "origin", "pages of this origin may not send requests; RESONATE_SERVER__CORS__ALLOW_ORIGINS can allow them"
)
FOREIGN_SITE = Refusal(
    403, "site", "pages of other sites may only link to /ui/; RESONATE_SERVER__CORS__ALLOW_ORIGINS can allow more"
)
UNDECLARED_BODY = Refusal(415, "content_type", "a page must send its body as application/json")


# ── names ──

ANY = "*"

EVERYWHERE = ("", "0.0.0.0", "::")  # noqa: S104
"""To listen on. None is a name to be called by: browsers reach this machine by them, and do not say whose page asks."""

_AUTHORITY = re.compile(
    r"(?:\[(?P<v6>[0-9a-f:.]+)\]|(?P<name>[0-9a-z_-]+(?:\.[0-9a-z_-]+)*)\.?)(?::[0-9]*)?", re.IGNORECASE | re.ASCII
)


def host_of(authority: str) -> str | None:
    """The name or address in the value of a ``Host``, as it is compared; ``None`` if there is none."""
    found = _AUTHORITY.fullmatch(authority)
    if found is None:
        return None
    if found["v6"] is None:
        return found["name"].lower()
    address = _address(found["v6"])
    return str(address) if isinstance(address, IPv6Address) else None


def is_loopback(host: str) -> bool:
    """Whether ``host``, as it is compared, is this machine by everybody's rules.

    Names below ``localhost`` are not: some resolvers ask the network for them.
    """
    address = _address(host)
    return host in ("localhost", "::1") or (isinstance(address, IPv4Address) and address.is_loopback)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _names(server: ServerSettings) -> set[str | None]:
    """All that others may call this server by, besides loopback."""
    listens_on = [] if server.bind in EVERYWHERE else [server.bind]
    in_messages = server.public_url.partition("://")[2].partition("/")[0]
    return {_compared(given) for given in (*listens_on, in_messages, *server.other_hosts)}


def _compared(given: str) -> str | None:
    """In settings an IPv6 address needs no brackets."""
    address = _address(given)
    return str(address) if address else host_of(given)


# ── the judgement ──

STREAMS = "/poll/"
"""Below it a GET has an effect."""

_JSON = re.compile(r"application/(?:[a-z0-9._-]+\+)?json\s*(?:;|$)", re.IGNORECASE | re.ASCII)


class Gate:
    """``pages``: paths to which any site may link."""

    def __init__(self, server: ServerSettings, pages: Collection[str] = ()) -> None:
        self._any_host = ANY in server.other_hosts
        self._names = _names(server)
        self._origins = server.cors.origins
        self._pages = pages

    def judge(self, method: str, path: str, headers: Headers) -> Refusal | None:
        """``None`` for what may come in."""
        return self._judge_host(headers) or self._judge_sender(method, path, headers) or _judge_body(headers)

    def goes_by(self, authority: str) -> bool:
        """Whether a ``Host`` may say so."""
        host = host_of(authority)
        return host is not None and (self._any_host or host in self._names or is_loopback(host))

    def _judge_host(self, headers: Headers) -> Refusal | None:
        """Without a ``Host`` it is HTTP/1.0 and no browser; in HTTP/1.1 aiohttp insists on one."""
        authority = headers.get("host")
        if authority is None or self.goes_by(authority):
            return None
        return MALFORMED_HOST if host_of(authority) is None else UNKNOWN_HOST

    def _judge_sender(self, method: str, path: str, headers: Headers) -> Refusal | None:
        origin = headers.get("origin")
        if origin is not None and admits(self._origins, origin):
            return None
        if origin is not None and not _is_own(origin, headers):
            return FOREIGN_ORIGIN
        if path.startswith(STREAMS) and _hides_its_page(headers):
            return FOREIGN_SITE
        if headers.get("sec-fetch-site", "none") in ("same-origin", "none"):
            return None
        links_here = origin is None and method == "GET" and path in self._pages and _fills_a_tab(headers)
        return None if links_here else FOREIGN_SITE


def _is_own(origin: str, headers: Headers) -> bool:
    """The scheme is not known: there may be a proxy that speaks TLS."""
    host = headers.get("host", "").lower()
    return host != "" and origin.lower() in (f"http://{host}", f"https://{host}")


def _hides_its_page(headers: Headers) -> bool:
    """A browser that does not trust the connection says nothing with a GET, but it does say what it is."""
    says_nothing = "origin" not in headers and "sec-fetch-site" not in headers
    return says_nothing and headers.get("user-agent", "").startswith("Mozilla/")


def _fills_a_tab(headers: Headers) -> bool:
    """It is for a person to see, and the page that led there cannot look into it: no frame, no script, no image."""
    return headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"


def _judge_body(headers: Headers) -> Refusal | None:
    """What a page can send without asking before (a form, text) is never JSON by its declaration."""
    is_of_browser = any(name == "origin" or name.startswith("sec-fetch-") for name in headers)
    has_body = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
    return UNDECLARED_BODY if is_of_browser and has_body and not _declares_json(headers) else None


def _declares_json(headers: Headers) -> bool:
    return _JSON.match(headers.get("content-type", "")) is not None


# ── before the routes of aiohttp ──

_ABSOLUTE = re.compile(r"[a-z][a-z0-9+.-]*://(?P<authority>[^/?#]*)", re.IGNORECASE | re.ASCII)
"""A request target that names the host."""

MAX_LOGGED = 100
"""Kinds of refusals that are logged; whoever makes up more of them shall not fill the log."""

MAX_SHOWN = 200
"""Characters of a value in the log."""


def gated(gate: Gate, metrics: Metrics) -> Middleware:
    """Has ``gate`` judge every request, before anything else looks at it."""
    journal = Journal()

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        headers = {name.lower(): ", ".join(request.headers.getall(name)) for name in request.headers}
        if absolute := _ABSOLUTE.match(request.raw_path):
            headers["host"] = absolute["authority"]
        refusal = gate.judge(request.method, request.path, headers)
        if refusal is None:
            return await handler(request)
        metrics.refused(refusal.reason)
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
    """As the route's other errors look."""
    if (request.method, request.path) == ("POST", "/"):
        body = encode_response("unknown", "0", refusal.status, refusal.message)
        return web.Response(status=refusal.status, body=body, content_type="application/json")
    return web.json_response({"error": refusal.message}, status=refusal.status)
