"""Who may do what: JWTs and the prefixes they grant (protocol section 6).

A token with ``role`` admin, or with an empty ``prefix``, may do everything. Any other must name a prefix, and then
every
id of a request has to begin with it: not only the main one, because ids also stand in the actions of a task and in what
a schedule will create.
"""

from pathlib import Path
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from msgspec import Struct
from msgspec.structs import replace

from resonate_server.config import Auth
from resonate_server.protocol.answers import Answer, ClaimData, FencedData, PreloadData
from resonate_server.protocol.errors import Forbidden, Unauthorized
from resonate_server.protocol.records import Promise
from resonate_server.protocol.requests import Request

LEEWAY_S = 60
"""Clocks of issuer and server may differ by so much."""

_NOT_VERIFIED = "none"


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
        self._settings = settings
        self._key: Any = None
        self._algorithms: list[str] = []
        if settings.publickey and settings.publickey != _NOT_VERIFIED:
            self._key, self._algorithms = _load_key(Path(settings.publickey))

    def authenticate(self, token: str | None, authorization: str | None) -> Access:
        """What the token permits, given in the envelope's head or as a bearer. Raises Unauthorized or Forbidden."""
        if not self._settings.publickey:
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
            if self._settings.publickey:
                self._claims(_bearer(authorization))
        except Unauthorized:
            return False
        return True

    def _claims(self, token: str | None) -> dict[str, Any]:
        if not token:
            raise Unauthorized("a token is required")
        verified = self._key is not None
        audience = self._settings.aud or None
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key=self._key or "",
                algorithms=self._algorithms or None,
                leeway=LEEWAY_S,
                issuer=self._settings.iss or None,
                audience=audience,
                options={
                    "verify_signature": verified,
                    "require": ["exp"],
                    "verify_exp": True,
                    "verify_nbf": True,
                    "verify_iss": bool(self._settings.iss),
                    "verify_aud": audience is not None,
                },
            )
        except (jwt.InvalidTokenError, ValueError, TypeError, RecursionError) as error:
            raise Unauthorized(f"the token is not valid: {error}") from None
        if audience is not None and not isinstance(claims.get("aud"), list):
            raise Unauthorized("the token is not valid: aud must be an array")
        return claims


def _bearer(authorization: str | None) -> str | None:
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _load_key(path: Path) -> tuple[Any, list[str]]:
    """The key, and the algorithms that fit it: a token must not choose how it is verified."""
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise BadKey(f"cannot read the public key {path}: {error}") from error
    match key:
        case RSAPublicKey():
            return key, ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]
        case EllipticCurvePublicKey() if key.curve.name == "secp256r1":
            return key, ["ES256"]
        case EllipticCurvePublicKey() if key.curve.name == "secp384r1":
            return key, ["ES384"]
        case Ed25519PublicKey():
            return key, ["EdDSA"]
    raise BadKey(f"the public key {path} is of no supported kind: RSA, P-256, P-384 or Ed25519")
