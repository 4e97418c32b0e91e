"""Refuse requests from pages of other sites, and requests for host names that are not foo's.

Any page can have its visitor's browser send requests to this machine, and can point a host name of its own here (DNS
rebinding). Browsers reveal both in headers that pages cannot set: Origin, Sec-Fetch-Site and Host.
"""

import ipaddress
import re

from flask import Flask, request
from werkzeug.exceptions import Forbidden, HTTPException, UnsupportedMediaType

_MAX_SHOWN = 200
_AUTHORITY = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::[0-9]*)?")


class MisdirectedRequest(HTTPException):
    code = 421


def guard(app: Flask, hosts: str) -> None:
    """Check requests before they reach a view. `hosts`: names of foo besides loopback's, comma-separated; `*`: any."""
    known = {name.strip().lower() for name in f"localhost,{hosts}".split(",") if name.strip()}

    @app.before_request
    def check() -> None:
        if (refusal := _refusal(known)) is not None:
            raise refusal


def _refusal(known: set[str]) -> HTTPException | None:
    headers = request.headers
    host, origin, site = headers.get("Host", "").lower(), headers.get("Origin"), headers.get("Sec-Fetch-Site", "none")
    if not ("*" in known or _is_known(host, known)):
        return MisdirectedRequest(f"the host {_shown(host)} is unknown; the variable FOO_HOSTS can allow it")
    if origin is not None and not (host and origin.lower().partition("://")[2] == host):  # "null" has no host
        return Forbidden(f"pages of the origin {_shown(origin)} may not call foo")
    # Following a link to foo is harmless: the page with the link cannot read the document that opens.
    to, by = headers.get("Sec-Fetch-Dest"), headers.get("Sec-Fetch-Mode")
    if site not in {"same-origin", "none"} and (request.method, to, by) != ("GET", "document", "navigate"):
        return Forbidden(f"pages of other sites may not call foo (Sec-Fetch-Site: {_shown(site)})")
    is_by_browser = any(name == "Origin" or name.startswith("Sec-Fetch-") for name, _ in headers)
    if is_by_browser and request.content_length and request.mimetype != "application/json":
        return UnsupportedMediaType("the body must have the type application/json")
    return None


def _is_known(authority: str, known: set[str]) -> bool:
    """`authority`: a name or an address, optionally with a port."""
    match = _AUTHORITY.fullmatch(authority)
    host = (match[1] or match[2]) if match else ""
    try:
        return host in known or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _shown(header: str) -> str:
    """Make a header safe to show and to log: quoted, printable, and not too long."""
    return ascii(header)[:_MAX_SHOWN]
