"""Who may do what: JWTs and the prefixes they grant (protocol section 6).

A token with ``role`` admin, or with an empty ``prefix``, may do everything. Any other must name a prefix, and then
every
id of a request has to begin with it: not only the main one, because ids also stand in the actions of a task and in what
a schedule will create.
"""

from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from resonate_server.config import Auth
from resonate_server.protocol.answers import Answer, ClaimData, FencedData, PreloadData
from resonate_server.protocol.errors import Forbidden, Unauthorized
from resonate_server.protocol.records import Promise
from resonate_server.protocol.requests import Request

if TYPE_CHECKING:
    from resonate_server.http.tokens import Tokens


class BadKey(Exception):
    """The configured public key cannot be used."""


class Access(Struct, frozen=True):
    """What a request may touch: everything (``prefix`` empty), or ids that begin with ``prefix``."""

    prefix: str = ""

    def check(self, request: Request) -> None:
        """Raise :class:`Forbidden` unless every id in ``request`` is granted."""
        if not self.prefix:
            return
        ids = request.ids
        if ids is None:
            raise Forbidden(f"{request.kind} is not for tokens with a prefix")
        if not all(id.startswith(self.prefix) for id in ids):
            raise Forbidden(f"this token is for ids that begin with {self.prefix!r}")

    def redact(self, answer: Answer) -> Answer:
        """Without preloaded promises of others: tags are free text, so a branch may name somebody else's."""
        if self.prefix and isinstance(answer.data, ClaimData | FencedData | PreloadData):
            return replace(answer, data=replace(answer.data, preload=self._granted(answer.data.preload)))
        return answer

    def _granted(self, promises: list[Promise]) -> list[Promise]:
        return [promise for promise in promises if promise.id.startswith(self.prefix)]


class Guard:
    """Verifies tokens; without a configured key everybody may do everything.

    Raises :class:`BadKey` for an unusable key.
    """

    def __init__(self, settings: Auth) -> None:
        self._tokens = _tokens(settings) if settings.publickey else None

    @property
    def is_on(self) -> bool:
        """Whether tokens are needed."""
        return self._tokens is not None

    def authenticate(self, token: str | None, authorization: str | None) -> Access:
        """What the token permits, given in the envelope's head or as a bearer. Raises Unauthorized or Forbidden."""
        if self._tokens is None:
            return Access()
        claims = self._claims(token if token is not None else _bearer(authorization))
        if str(claims.get("role", "")).lower() == "admin":
            return Access()
        prefix = claims.get("prefix")
        if not isinstance(prefix, str):
            raise Forbidden("the token grants neither the role admin nor a prefix")
        return Access(prefix=prefix)

    def admits(self, authorization: str | None) -> bool:
        """Whether the bearer of ``authorization`` may open a stream: any valid token will do."""
        try:
            if self._tokens is not None:
                self._claims(_bearer(authorization))
        except Unauthorized:
            return False
        return True

    def _claims(self, token: str | None) -> dict[str, Any]:
        if not token:
            raise Unauthorized("a token is required")
        assert self._tokens is not None, "whoever asks has seen that tokens are configured"
        return self._tokens.claims(token)


def _bearer(authorization: str | None) -> str | None:
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _tokens(settings: Auth) -> "Tokens":
    """Loaded only where it is needed: cryptography takes a tenth of the time that the server needs to start."""
    from resonate_server.http.tokens import Tokens

    return Tokens(settings)
