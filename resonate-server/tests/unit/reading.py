"""Read a request body up to the point where state is needed, with every refusal as a value. No assertions in here."""

from msgspec import Struct

from resonate_server.protocol.envelope import CheckedRequest, decode_request, open_envelope, recover
from resonate_server.protocol.errors import Malformed


class Refused(Struct, frozen=True):
    kind: str
    corr_id: str
    message: str


def read(body: bytes) -> CheckedRequest | Refused:
    """Read a body as the server does: first what all kinds have in common, then the members of its kind."""
    try:
        return decode_request(open_envelope(body))
    except Malformed as error:
        return Refused(*recover(body), error.message)
