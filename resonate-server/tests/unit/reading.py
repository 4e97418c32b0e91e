"""Read a request body up to the point where state is needed, with every refusal as a value. No assertions in here."""

from resonate_server.protocol.envelope import CheckedRequest, UnreadableRequest, decode_request, open_envelope
from resonate_server.protocol.errors import Malformed


def read(body: bytes) -> CheckedRequest | UnreadableRequest:
    """Read a body as the server does: first what all kinds have in common, then the members of its kind."""
    envelope = open_envelope(body)
    if isinstance(envelope, UnreadableRequest):
        return envelope
    try:
        return decode_request(envelope)
    except Malformed as error:
        return UnreadableRequest(kind=envelope.kind, corr_id=envelope.head.corr_id, message=error.message)
