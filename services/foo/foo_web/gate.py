"""Who may ask: no page of another site, and nobody who knows foo by a name that is not foo's.

Any page may have its visitor's browser send requests to this machine, and may have a name of its own lead here, too
(DNS rebinding). Browsers tell on both by headers that pages cannot set: Origin, Sec-Fetch-Site and Host.
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
    """Let nothing else reach a view. `hosts`: foo's names beside those of loopback, with commas; `*` is any name."""
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
    if origin is not None and not (host and origin.lower().partition("://")[2] == host):  # "null" came from nowhere
        return Forbidden(f"pages of the origin {_shown(origin)} may not call foo")
    # A link that is followed opens a window of its own: the page that had it sees nothing of the answer.
    to, by = headers.get("Sec-Fetch-Dest"), headers.get("Sec-Fetch-Mode")
    if site not in {"same-origin", "none"} and (request.method, to, by) != ("GET", "document", "navigate"):
        return Forbidden(f"pages of other sites may not call foo (Sec-Fetch-Site: {_shown(site)})")
    is_by_browser = any(name == "Origin" or name.startswith("Sec-Fetch-") for name, _ in headers)
    if is_by_browser and request.content_length and request.mimetype != "application/json":
        return UnsupportedMediaType("the body must have the type application/json")
    return None


def _is_known(authority: str, known: set[str]) -> bool:
    """`authority`: a name or an address, perhaps with a port."""
    match = _AUTHORITY.fullmatch(authority)
    host = (match[1] or match[2]) if match else ""
    try:
        return host in known or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _shown(header: str) -> str:
    """As it may be told and logged: quoted, printable, and not too long."""
    return ascii(header)[:_MAX_SHOWN]
