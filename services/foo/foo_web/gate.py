"""Who may ask: no page of another site, and nobody who knows foo by a name that is not foo's.

Any page may have its visitor's browser send requests to this machine, and may have a name of its own lead here, too
(DNS rebinding). Browsers tell on both by headers that pages cannot set: Origin, Sec-Fetch-Site and Host.
"""

import ipaddress
import logging
import re
from http import HTTPStatus

from flask import Flask, request

from foo_web.problems import Problem

logger = logging.getLogger(__name__)

_MAX_REPORTED = 100
_MAX_SHOWN = 200
_AUTHORITY = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::[0-9]*)?")


def guard(app: Flask, hosts: str) -> None:
    """Let nothing else reach a view. `hosts`: foo's names beside those of loopback, with commas; `*` is any name."""
    known = {name.strip().lower() for name in f"localhost,{hosts}".split(",") if name.strip()}
    reported: set[str] = set()

    def refuse(status: HTTPStatus, detail: str) -> None:
        if detail not in reported and len(reported) < _MAX_REPORTED:
            reported.add(detail)
            logger.warning("refused with %d, the next time without a word: %s", status, detail)
        raise Problem(status, detail)

    @app.before_request
    def check() -> None:
        if not ("*" in known or _host() in known or _is_loopback(_host())):
            detail = f"the host {_shown('Host')} is not known here; the variable FOO_HOSTS may name it"
            refuse(HTTPStatus.MISDIRECTED_REQUEST, detail)
        if "Origin" in request.headers and not _is_own(request.headers["Origin"].lower()):
            refuse(HTTPStatus.FORBIDDEN, f"pages of the origin {_shown('Origin')} must not ask foo")
        if not (_site() in {"same-origin", "none"} or _is_navigation()):
            refuse(
                HTTPStatus.FORBIDDEN,
                f"pages of other sites must not ask foo (Sec-Fetch-Site: {_shown('Sec-Fetch-Site')})",
            )
        if _is_by_browser() and _has_body() and request.mimetype != "application/json":
            raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the body must be declared as application/json")


def _host() -> str:
    """The name or address in the header Host, without the port; empty if there is none."""
    match = _AUTHORITY.fullmatch(request.headers.get("Host", "").lower())
    return (match[1] or match[2]) if match else ""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_own(origin: str) -> bool:
    """The page came from the host and port that it asks now; `null` came from nowhere."""
    return bool(origin.partition("://")[2]) and origin.partition("://")[2] == request.headers.get("Host", "").lower()


def _site() -> str:
    return request.headers.get("Sec-Fetch-Site", "none")


def _is_navigation() -> bool:
    """A link or an address was followed, in a window of its own: the page that had it sees nothing of the answer."""
    to, by = request.headers.get("Sec-Fetch-Dest"), request.headers.get("Sec-Fetch-Mode")
    return (request.method, to, by) == ("GET", "document", "navigate")


def _is_by_browser() -> bool:
    return any(name == "Origin" or name.startswith("Sec-Fetch-") for name, _ in request.headers)


def _has_body() -> bool:
    return bool(request.content_length) or "Transfer-Encoding" in request.headers


def _shown(header: str) -> str:
    """As it may be told and logged: quoted, printable, and not too long."""
    return ascii(request.headers.get(header, ""))[:_MAX_SHOWN]
