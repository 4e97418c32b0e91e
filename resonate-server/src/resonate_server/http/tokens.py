"""Verification of JWTs (protocol section 6). What they permit is decided elsewhere."""

from pathlib import Path
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from resonate_server.config import Auth, WrongSetting
from resonate_server.protocol.errors import Unauthorized

LEEWAY_S = 60
"""Allowed difference between the clocks of issuer and server."""

_NOT_VERIFIED = "none"


class Tokens:
    """Verifies tokens with the configured key.

    Raises :class:`~resonate_server.config.WrongSetting` if the key is unusable.
    """

    def __init__(self, settings: Auth) -> None:
        self._settings = settings
        self._key: Any = None
        self._algorithms: list[str] = []
        if settings.publickey != _NOT_VERIFIED:
            self._key, self._algorithms = _load_key(Path(settings.publickey))

    def claims(self, token: str) -> dict[str, Any]:
        """Return the claims of the token. Raises :class:`Unauthorized` if it is not valid."""
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


def _load_key(path: Path) -> tuple[Any, list[str]]:
    """Load the key and determine its algorithms: a token must not choose how it is verified."""
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise _unusable(f"cannot read the public key {path}: {error}") from error
    match key:
        case RSAPublicKey():
            return key, ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]
        case EllipticCurvePublicKey() if key.curve.name == "secp256r1":
            return key, ["ES256"]
        case EllipticCurvePublicKey() if key.curve.name == "secp384r1":
            return key, ["ES384"]
        case Ed25519PublicKey():
            return key, ["EdDSA"]
    raise _unusable(f"the public key {path} is not of a supported kind: RSA, P-256, P-384 or Ed25519")


def _unusable(reason: str) -> WrongSetting:
    return WrongSetting("auth.publickey", reason)
