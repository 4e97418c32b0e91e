"""What a client may send with `POST /foo`, and what is wrong with it if it may not."""

import re
import secrets
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated

import msgspec

from foo_web.problems import Problem

KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,127}")

type Seconds = Annotated[float, msgspec.Meta(ge=0, le=3600)]


class Spend(msgspec.Struct, forbid_unknown_fields=True):
    """The request body: how bar spends its time, in seconds. One of the two at most."""

    pause: Seconds | msgspec.UnsetType = msgspec.UNSET
    running: Seconds | msgspec.UnsetType = msgspec.UNSET

    @property
    def arguments(self) -> tuple[float, float]:
        """Of the function foo."""
        return self.pause or 0, self.running or 0

    @property
    def seconds(self) -> float:
        """How long the chain takes at least."""
        return sum(self.arguments)

    def may_join(self, arguments: tuple[float, float]) -> bool:
        """Whether this is a repetition of a request with these arguments: it says the same, or nothing."""
        return self == Spend() or self.arguments == arguments


@dataclass(frozen=True)
class Preference:
    """How long the client waits for the result (seconds; None = as long as it takes), as by RFC 7240."""

    wait: float | None = None
    applied: str = ""


def parse_body(body: bytes) -> Spend:
    """The body is JSON whatever its content type says, so that `curl -d` needs no header; it may be empty."""
    if not body.strip():
        return Spend()
    try:
        spend = msgspec.json.decode(body, type=Spend)
    except msgspec.ValidationError as error:
        raise _bad_request(
            f'the body must be a JSON object like {{"pause": 10}} or {{"running": 10}}, in seconds: {error}'
        ) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise _bad_request(f'the body must be JSON like {{"pause": 10}}: {error}') from None
    if spend.pause is not msgspec.UNSET and spend.running is not msgspec.UNSET:
        raise _bad_request("the body must have either pause or running, not both")
    return spend


def parse_key(header: str | None) -> str:
    """The chain's id: the Idempotency-Key, plain or as a quoted string, or a new one if there is none."""
    if header is None:
        return f"foo-{secrets.token_hex(8)}"
    key = header.strip()
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if not is_key(key):
        raise _bad_request(
            "an Idempotency-Key has 1 to 128 characters: letters, digits and . _ ~ -, a letter or digit first"
            f"{'; a colon separates the ids of a chain' if ':' in key else ''}"
        )
    return key


def is_key(text: str) -> bool:
    return KEY.fullmatch(text) is not None


def parse_preference(header: str | None) -> Preference:
    """Preferences that are unknown, malformed or repeated are ignored, as the RFC asks for."""
    preferences: dict[str, str] = {}
    for part in (header or "").split(","):
        name, _, value = part.split(";")[0].partition("=")
        preferences.setdefault(name.strip().lower(), value.strip().strip('"'))
    wait = preferences.get("wait", "")
    wanted = {
        "respond-async": "respond-async" in preferences,
        f"wait={wait}": re.fullmatch(r"[0-9]{1,9}", wait) is not None,
    }
    applied = [name for name, given in wanted.items() if given]
    if not applied:
        return Preference()
    return Preference(float(wait) if wanted[f"wait={wait}"] else 0, ", ".join(applied))


def _bad_request(detail: str) -> Problem:
    return Problem(HTTPStatus.BAD_REQUEST, detail)
