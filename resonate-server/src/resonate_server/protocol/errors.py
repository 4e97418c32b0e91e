"""The only way to refuse a request: a status and one sentence for people.

Every status of 400 or more carries exactly one string. No SDK compares the wording, so it is our own.
"""


class ProtocolError(Exception):
    """Answers a request with an error status instead of data."""

    status = 500

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Malformed(ProtocolError):
    """400: the request itself is invalid; a retry would fail, too."""

    status = 400


class Unsupported(ProtocolError):
    """501: a kind that this server does not know; a newer server may."""

    status = 501


class Unauthorized(ProtocolError):
    """401: no token, or an invalid one."""

    status = 401


class Forbidden(ProtocolError):
    """403: the token is valid but does not permit this, or the server offers this kind to nobody."""

    status = 403


class NotFound(ProtocolError):
    """404: the promise, task or schedule does not exist."""

    status = 404


class Conflict(ProtocolError):
    """409: the task is not in a state, or not at the version, that the request expects."""

    status = 409


class Unavailable(ProtocolError):
    """503: something that the answer needs does not work now; a retry may succeed."""

    status = 503


class Unprocessable(ProtocolError):
    """422: well formed, but it refers to something unsuitable (missing awaiter, no target)."""

    status = 422
