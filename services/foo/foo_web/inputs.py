"""Which requests foo accepts, and what `POST /foo` may ask for.

Any page can have its visitor's browser send requests to this machine, and can point a host name of its own here (DNS
rebinding). Browsers reveal both in headers that pages cannot set: Origin, Sec-Fetch-Site and Host.
"""

import ipaddress
import re
import secrets
from collections.abc import Set as AbstractSet
from typing import Annotated

import msgspec
from flask import request
from werkzeug.exceptions import BadRequest, Forbidden, HTTPException, UnsupportedMediaType
from werkzeug.http import parse_list_header

KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,127}")
_AUTHORITY = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::[0-9]*)?")
_MAX_SHOWN = 200

type Seconds = Annotated[float, msgspec.Meta(ge=0, le=3600)]


class MisdirectedRequest(HTTPException):
    code = 421


class Delays(msgspec.Struct, forbid_unknown_fields=True):
    """The request body: how long bar pauses or works, in seconds. At most one of the two."""

    pause: Seconds | msgspec.UnsetType = msgspec.UNSET
    running: Seconds | msgspec.UnsetType = msgspec.UNSET

    @property
    def arguments(self) -> tuple[float, float]:
        return self.pause or 0, self.running or 0


def parse_hosts(names: str) -> set[str]:
    """Return the host names in a comma-separated list, and loopback's. `*` stands for any."""
    return {name.strip().lower() for name in f"localhost,{names}".split(",") if name.strip()}


def check_host_and_origin(known: AbstractSet[str]) -> None:
    """Refuse the current request if it is for none of these hosts, or by a page of another site. Raises HTTP errors."""
    headers = request.headers
    host, origin, site = headers.get("Host", "").lower(), headers.get("Origin"), headers.get("Sec-Fetch-Site", "none")
    if not ("*" in known or _is_known(host, known)):
        raise MisdirectedRequest(f"the host {_shown(host)} is unknown; the variable FOO_HOSTS can allow it")
    if origin is not None and not (host and origin.lower().partition("://")[2] == host):  # "null" has no host
        raise Forbidden(f"pages of the origin {_shown(origin)} may not call foo")
    # Following a link to foo is harmless: the page with the link cannot read the document that opens.
    to, by = headers.get("Sec-Fetch-Dest"), headers.get("Sec-Fetch-Mode")
    if site not in {"same-origin", "none"} and (request.method, to, by) != ("GET", "document", "navigate"):
        raise Forbidden(f"pages of other sites may not call foo (Sec-Fetch-Site: {_shown(site)})")
    is_by_browser = any(name == "Origin" or name.startswith("Sec-Fetch-") for name, _ in headers)
    if is_by_browser and request.content_length and request.mimetype != "application/json":
        raise UnsupportedMediaType("the body must have the type application/json")


def _is_known(authority: str, known: AbstractSet[str]) -> bool:
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


def parse_json[T](type_: type[T], wanted: str) -> T:
    """Parse the body whatever its content type, so that `curl -d` needs no header. It may be empty."""
    try:
        return msgspec.json.decode(request.get_data().strip() or b"{}", type=type_)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body must {wanted}: {error}") from None


def parse_delays() -> Delays:
    delays = parse_json(Delays, 'be a JSON object like {"pause": 10} or {"running": 10}, in seconds')
    if delays.pause is not msgspec.UNSET and delays.running is not msgspec.UNSET:
        raise BadRequest("the body must have either pause or running, not both")
    return delays


def parse_key(header: str | None) -> str:
    """Return the chain's id: the Idempotency-Key, plain or as a quoted string, or a new id if there is no key."""
    if header is None:
        return f"foo-{secrets.token_hex(8)}"
    key = re.sub(r'^"(.*)"$', r"\1", header.strip())
    if not KEY.fullmatch(key):
        raise BadRequest(
            "an Idempotency-Key has 1 to 128 characters: letters, digits and . _ ~ -, a letter or digit first"
            f"{'; a colon separates the ids of a chain' if ':' in key else ''}"
        )
    return key


def parse_preference(header: str) -> tuple[float | None, str]:
    """Return for how many seconds the client waits (None: as long as it takes), and the preferences that were applied.

    Unknown and malformed ones are ignored, as RFC 7240 requires. If one is repeated, the first counts.
    """
    given: dict[str, str] = {}
    for preference in parse_list_header(header.lower()):
        name, _, value = preference.partition(";")[0].partition("=")
        given.setdefault(name.strip(), value.strip().strip('"'))
    wait = given.get("wait", "")
    has_wait, is_async = re.fullmatch("[0-9]{1,9}", wait) is not None, "respond-async" in given
    applied = ", ".join(["respond-async"] * is_async + [f"wait={wait}"] * has_wait)
    return float(wait) if has_wait else 0 if is_async else None, applied
