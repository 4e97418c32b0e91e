"""The only way to refuse a request: a status and one sentence for people.

Every status of 400 or more carries exactly one string. No SDK compares the wording, so it is our own.
"""

from typing import ClassVar


class ProtocolError(Exception):
    """Answers a request with an error status instead of data."""

    status: ClassVar[int]

    def __init_subclass__(cls, status: int) -> None:
        cls.status = status

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Malformed(ProtocolError, status=400):
    """The request itself is invalid; a retry would fail, too."""


class Unauthorized(ProtocolError, status=401):
    """No token, or an invalid one."""


class Forbidden(ProtocolError, status=403):
    """The token is valid but does not permit this, or the server offers this kind to nobody."""


class NotFound(ProtocolError, status=404):
    """The promise, task or schedule does not exist."""


class Conflict(ProtocolError, status=409):
    """The task is not in a state, or not at the version, that the request expects."""


class Unprocessable(ProtocolError, status=422):
    """Well formed, but it refers to something unsuitable (missing awaiter, no target)."""


class Unsupported(ProtocolError, status=501):
    """A kind that this server does not know; a newer server may."""


class Unavailable(ProtocolError, status=503):
    """Something that the answer needs does not work now; a retry may succeed."""
