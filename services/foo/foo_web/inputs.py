"""Parse and validate what clients send with `POST /foo`."""

import re
import secrets
from typing import Annotated

import msgspec
from werkzeug.exceptions import BadRequest
from werkzeug.http import parse_list_header

KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,127}")

type Seconds = Annotated[float, msgspec.Meta(ge=0, le=3600)]


class Delays(msgspec.Struct, forbid_unknown_fields=True):
    """The request body: how long bar pauses or works, in seconds. At most one of the two."""

    pause: Seconds | msgspec.UnsetType = msgspec.UNSET
    running: Seconds | msgspec.UnsetType = msgspec.UNSET

    @property
    def arguments(self) -> tuple[float, float]:
        """The arguments for the function foo."""
        return self.pause or 0, self.running or 0

    def may_join(self, arguments: tuple[float, float]) -> bool:
        """Return whether this may repeat a request with these arguments: it has the same delays, or none."""
        return self == Delays() or self.arguments == arguments


def parse_body(body: bytes) -> Delays:
    """Parse the body as JSON whatever its content type, so that `curl -d` needs no header. It may be empty."""
    try:
        delays = msgspec.json.decode(body.strip() or b"{}", type=Delays)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        wanted = 'a JSON object like {"pause": 10} or {"running": 10}, in seconds'
        raise BadRequest(f"the body must be {wanted}: {error}") from None
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
