"""Reading a request body up to the state, with every refusal as a value. No assertions in here."""

from resonate_server.protocol.envelope import CheckedRequest, UnreadableRequest, decode_request, open_envelope
from resonate_server.protocol.errors import Malformed


def read(body: bytes) -> CheckedRequest | UnreadableRequest:
    """As the server does: first what concerns every kind, then the members of the kind."""
    envelope = open_envelope(body)
    if isinstance(envelope, UnreadableRequest):
        return envelope
    try:
        return decode_request(envelope)
    except Malformed as error:
        return UnreadableRequest(kind=envelope.kind, corr_id=envelope.head.corr_id, message=error.message)
