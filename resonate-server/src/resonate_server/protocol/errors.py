"""The one way a request is refused: a status and one sentence for people.

No SDK compares the wording, so sentences are ours; every status above 399 carries exactly one string.
"""


class ProtocolError(Exception):
    """A request that is answered with an error status instead of data."""

    status = 500

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Malformed(ProtocolError):
    """400: the request itself is wrong; sending it again changes nothing."""

    status = 400


class Unsupported(ProtocolError):
    """501: a kind that this server does not know; a newer one may."""

    status = 501


class Unauthorized(ProtocolError):
    """401: no token, or none that is valid."""

    status = 401


class Forbidden(ProtocolError):
    """403: a valid token that does not permit this, or a kind that this server does not offer to anybody."""

    status = 403


class NotFound(ProtocolError):
    """404: the promise or task it names does not exist."""

    status = 404


class Conflict(ProtocolError):
    """409: the task is not in a state, or not at the version, that the request expects."""

    status = 409


class Unprocessable(ProtocolError):
    """422: well formed, but what it refers to cannot take part (missing awaiter, no target)."""

    status = 422
