"""Delivery addresses: ``poll://any@group[/id]``, ``poll://uni@group/id``, ``http(s)://…`` (protocol section 2.4).

Parsed by hand, because group and id are case-sensitive and the standard library lower-cases host names.
"""

from functools import lru_cache
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from resonate_server.protocol.errors import Malformed


class PollAddress(Struct, frozen=True, gc=False):
    """A member of a group of connected workers.

    ``exact``: only the member ``id`` will do. Otherwise ``id`` is a preference, and any member may serve.
    """

    group: str
    id: str
    exact: bool

    @property
    def member(self) -> str | None:
        """The only member that may receive messages for this address; empty if any may, ``None`` if none can."""
        return (self.id or None) if self.exact else ""


class PushAddress(Struct, frozen=True, gc=False):
    """An HTTP endpoint that takes messages as POST bodies."""

    url: str


type Address = PollAddress | PushAddress


MAX_KNOWN, MAX_KNOWN_CHARACTERS = 256, 512
"""How many parsed addresses are kept, and how long they may be. There are few, and each is parsed many times."""


def check_address(text: str) -> None:
    """Raise :class:`Malformed` unless ``text`` is an address that this server can deliver to."""
    address = parse_address(text)
    if isinstance(address, PushAddress) and not _is_url(address.url):
        raise Malformed(f"not a URL with a host and a valid port: {_shown(text)}")


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return bool(parts.hostname) and parts.port != 0 and not any(map(str.isspace, parts.netloc))
    except ValueError:
        return False


def parse_address(text: str) -> Address:
    """Parse ``text``. Raises :class:`Malformed` for anything but an address, but does not check a URL: addresses that
    are stored already may be older than that check."""
    return _parse_known(text) if len(text) <= MAX_KNOWN_CHARACTERS else _parse(text)


def _parse(text: str) -> Address:
    scheme, separator, rest = text.partition("://")
    match scheme.lower() if separator else "":
        case "poll":
            return _parse_poll(text, rest)
        case "http" | "https":
            return PushAddress(url=text)
    raise Malformed(
        f"not an address: {_shown(text)} (expected poll://any@group, poll://uni@group/id or http(s)://host)"
    )


_parse_known = lru_cache(MAX_KNOWN)(_parse)


def group_of(target: str | None) -> str | None:
    """Return the group of workers that a task is for; for a push address, its URL."""
    if target is None:
        return None
    try:
        address = parse_address(target)
    except Malformed:
        return target
    return address.group if isinstance(address, PollAddress) else address.url


def _parse_poll(text: str, rest: str) -> PollAddress:
    authority, _, path = rest.partition("/")
    cast, at, group = authority.partition("@")
    if not at or cast not in ("any", "uni") or not group or "@" in group:
        raise Malformed(f"not a poll address: {_shown(text)} (expected poll://any@group or poll://uni@group/id)")
    return PollAddress(group=unquote(group), id=unquote(path), exact=cast == "uni")


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
