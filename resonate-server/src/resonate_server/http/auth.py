"""Authorization: a shared secret, JWTs, and the id prefixes that JWTs grant (protocol section 6).

The shared secret, and a JWT with ``role`` admin or an empty ``prefix``, permit everything. Any other JWT must name a
prefix, and every id in a request must begin with it. That includes the ids in a task's actions, in what a schedule will
create, and in tags.
"""

import logging
from collections.abc import Callable
from hmac import compare_digest
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from resonate_server.config import Auth, WrongSetting
from resonate_server.protocol.answers import Answer, ClaimData, PreloadData
from resonate_server.protocol.errors import Forbidden, Unauthorized
from resonate_server.protocol.requests import Request

logger = logging.getLogger(__name__)

SHORT_SECRET = 16
"""Secrets with fewer characters cause a warning, because they can be guessed by brute force."""

LEEWAY_S = 60
"""Allowed difference between the clocks of a JWT's issuer and of the server."""


class Access(Struct, frozen=True):
    """What a request may touch: everything if ``prefix`` is empty, else ids that begin with it."""

    prefix: str = ""

    def check(self, request: Request) -> None:
        """Raise :class:`Forbidden` unless access to every id in ``request`` is granted."""
        if not self.prefix:
            return
        ids = request.ids
        if ids is None:
            raise Forbidden(f"{request.kind} is not allowed with a token that has a prefix")
        if not all(map(self._covers, ids)):
            raise Forbidden(f"this token is only for ids that begin with {self.prefix!r}")
        if not all(map(self._covers, request.relatives)):
            raise Forbidden(
                f"this token is only for trees whose ids begin with {self.prefix!r}: a tag names another one"
            )

    def check_group(self, group: str) -> None:
        """Raise :class:`Forbidden` unless the group's messages, which show promises and values, may be read."""
        if not self._covers(group):
            raise Forbidden(f"this token is only for groups whose names begin with {self.prefix!r}")

    def redact(self, answer: Answer) -> Answer:
        """Drop preloaded promises that are not granted: tags are free text, so a branch may name someone else's."""
        if self.prefix and isinstance(answer.data, ClaimData | PreloadData):
            granted = [promise for promise in answer.data.preload if self._covers(promise.id)]
            return replace(answer, data=replace(answer.data, preload=granted))
        return answer

    def _covers(self, name: str) -> bool:
        return name.startswith(self.prefix)


EVERYTHING = Access()


class Guard:
    """Verifies tokens. If authentication is not configured, everyone may do everything.

    Raises :class:`~resonate_server.config.WrongSetting` for an unusable key.
    """

    def __init__(self, settings: Auth) -> None:
        self._enabled = settings.enabled
        self._secret = settings.token.encode()
        self._claims = _reader_of_jwts(settings) if settings.publickey else None
        if 0 < len(self._secret) < SHORT_SECRET:
            logger.warning("auth.token has fewer than %d characters and can be guessed", SHORT_SECRET)

    def authenticate(self, token: str | None, authorization: str | None) -> Access:
        """Return what the token, from the envelope's head or a bearer, permits. Raises Unauthorized or Forbidden."""
        if not self._enabled:
            return EVERYTHING
        given = token if token is not None else _bearer(authorization)
        if not given:
            raise Unauthorized("a token is required")
        if self._is_secret(given):
            return EVERYTHING
        if self._claims is None:
            raise Unauthorized("the token is wrong")
        return _granted_by(self._claims(given))

    def _is_secret(self, token: str) -> bool:
        """Compare in constant time. Bytes that could not be decoded in a header are surrogates."""
        return bool(self._secret) and compare_digest(token.encode(errors="surrogatepass"), self._secret)


def _granted_by(claims: dict[str, object]) -> Access:
    if str(claims.get("role", "")).lower() == "admin":
        return EVERYTHING
    prefix = claims.get("prefix")
    if not isinstance(prefix, str):
        raise Forbidden("the token grants neither the role admin nor a prefix")
    return Access(prefix=prefix)


def _bearer(authorization: str | None) -> str | None:
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _reader_of_jwts(settings: Auth) -> Callable[[str], dict[str, Any]]:
    """Return a function that returns the claims of a valid token, or raises :class:`Unauthorized`.

    The libraries are imported only if they are needed: loading them takes a tenth of the server's startup time.
    """
    import jwt

    is_verified = settings.publickey != "none"
    key, algorithms = _load_key(Path(settings.publickey)) if is_verified else ("", None)

    def read(token: str) -> dict[str, Any]:
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key=key,
                algorithms=algorithms,
                leeway=LEEWAY_S,
                issuer=settings.iss or None,
                audience=settings.aud or None,
                options={
                    "verify_signature": is_verified,
                    "require": ["exp"],
                    "verify_exp": True,
                    "verify_nbf": True,
                    "verify_iss": bool(settings.iss),
                    "verify_aud": bool(settings.aud),
                },
            )
        except (jwt.InvalidTokenError, ValueError, TypeError, RecursionError) as error:
            raise Unauthorized(f"the token is not valid: {error}") from None
        if settings.aud and not isinstance(claims.get("aud"), list):
            raise Unauthorized("the token is not valid: aud must be an array")
        return claims

    return read


def _load_key(path: Path) -> tuple[Any, list[str]]:
    """Load the key and determine its algorithms: a token must not choose how it is verified."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise WrongSetting("auth.publickey", f"cannot read the public key {path}: {error}") from error
    match key:
        case rsa.RSAPublicKey():
            return key, ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]
        case ec.EllipticCurvePublicKey() if key.curve.name == "secp256r1":
            return key, ["ES256"]
        case ec.EllipticCurvePublicKey() if key.curve.name == "secp384r1":
            return key, ["ES384"]
        case ed25519.Ed25519PublicKey():
            return key, ["EdDSA"]
    reason = f"the public key {path} is not of a supported kind: RSA, P-256, P-384 or Ed25519"
    raise WrongSetting("auth.publickey", reason)
