"""The envelope around every request and answer: ``{kind, head, data}`` (sections 1.2 and 1.3).

Decoding is strict first. If that fails, it tolerates what loosely typed clients write: integral floats count as
integers, and ``null`` members as absent.
"""

from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType, field

from resonate_server.protocol.errors import Malformed, Unsupported
from resonate_server.protocol.requests import KINDS, MAX_ID_CHARACTERS, Millis, Request

VERSION = "2026-04-01"
"""The only protocol version so far, although official builds that share it differ."""


class RequestHead(Struct, frozen=True, gc=False):
    """The members of a request's head that the server reads; it ignores all others."""

    corr_id: str = field(name="corrId")
    version: str
    auth: str | None = None
    debug_time: Millis | UnsetType = field(name="resonate:debug_time", default=UNSET)


class ResponseHead(Struct, frozen=True, gc=False):
    corr_id: str = field(name="corrId")
    status: int
    version: str = VERSION


class ResponseEnvelope(Struct, frozen=True, gc=False):
    """``data`` is an object if ``status`` is below 400, else one sentence."""

    kind: str
    head: ResponseHead
    data: Any


class Envelope(Struct, frozen=True, gc=False):
    """A request that was checked, except for the members of its ``data``."""

    kind: str
    head: RequestHead
    data: Raw


class CheckedRequest(Struct, frozen=True, gc=False):
    """A request that passed all stateless checks.

    ``debug_time`` (ms) replaces the clock where that is allowed. ``prefix``: of the groups for whose workers the sender
    may speak.
    """

    corr_id: str
    request: Request
    debug_time: int | None = None
    prefix: str = ""


_FREE_FORM = {"tags", "headers", "promiseTags"}
"""Members with client-defined keys: none of these keys counts as optional."""

_OPTIONAL = _FREE_FORM | {"param", "promiseParam", "value", "data", "state", "limit", "cursor"}
"""Members for which ``null`` counts as absent. (A required one of the same name is then missing, as it should be.)"""

_envelopes = msgspec.json.Decoder(Envelope)
_encoder = msgspec.json.Encoder()
_requests = {kind: msgspec.json.Decoder(request) for kind, request in KINDS.items()}


def open_envelope(body: bytes) -> Envelope:
    """Decode a request body and make the checks common to all kinds.

    Raises :class:`Malformed` for the first check that fails, in the order of section 1.3. :func:`recover` then says
    what the answer is for.
    """
    envelope = _decode(_envelopes, body)
    if not envelope.kind:
        raise Malformed("kind must not be empty")
    if not bytes(envelope.data).lstrip().startswith(b"{"):
        raise Malformed("data must be an object")
    if envelope.head.version != VERSION:
        raise Malformed(f"head.version must be {VERSION}")
    return envelope


def recover(body: bytes) -> tuple[str, str]:
    """Return kind and correlation id of a malformed request, if they can be read: a client needs them to match the
    answer to its request."""
    kind, corr_id = "unknown", "0"
    try:
        raw = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raw = None
    if isinstance(raw, dict):
        head = raw.get("head")
        kind = _text_or(raw.get("kind"), kind)
        corr_id = _text_or(head.get("corrId"), corr_id) if isinstance(head, dict) else corr_id
    return kind, corr_id


def decode_request(envelope: Envelope, with_debug_time: bool = True, prefix: str = "") -> CheckedRequest:
    """Decode ``data`` for the request's kind. Without ``with_debug_time`` the clock counts, whatever the head says.

    Raises :class:`Malformed` or :class:`Unsupported`.
    """
    decoder = _requests.get(envelope.kind)
    if decoder is None:
        raise Unsupported(f"unknown kind {envelope.kind[:80]!r}")
    request = _decode(decoder, envelope.data)
    time = envelope.head.debug_time
    debug_time = time if with_debug_time and time is not UNSET else None
    return CheckedRequest(envelope.head.corr_id, request, debug_time, prefix)


def encode_response(kind: str, corr_id: str, status: int, data: object) -> bytes:
    """Encode an answer. Its HTTP status must be ``status``, too."""
    return _encoder.encode(ResponseEnvelope(kind, ResponseHead(corr_id, status), data))


def _decode[T](decoder: msgspec.json.Decoder[T], body: bytes | Raw) -> T:
    try:
        try:
            return decoder.decode(body)
        except msgspec.ValidationError:
            loose = _tolerate(msgspec.json.decode(body))
            return decoder.decode(msgspec.json.encode(loose))
    except msgspec.ValidationError as error:
        raise Malformed(_readable(str(error))) from None
    except (msgspec.MsgspecError, UnicodeError, OverflowError) as error:
        raise Malformed(f"not valid JSON: {error}") from None
    except RecursionError:
        raise Malformed("not acceptable JSON: nested too deeply") from None


def _tolerate(value: Any) -> Any:
    """Return ``value`` without null optional members, and with integral floats as integers."""
    match value:
        case dict():
            return {
                key: member if key in _FREE_FORM else _tolerate(member)
                for key, member in value.items()
                if not (member is None and key in _OPTIONAL)
            }
        case list():
            return [_tolerate(item) for item in value]
        case float() if value.is_integer() and abs(value) < 2**63:
            return int(value)
    return value


def _readable(message: str) -> str:
    """Name the violated rule where the library only names the regex or length that enforces it."""
    _, found, path = message.partition(" - at `")
    where = f" - at `{path}" if found else ""
    if "matching regex" in message:
        return f"an id must not contain control characters{where}"
    if f"length <= {MAX_ID_CHARACTERS}" in message:
        return f"an id has at most {MAX_ID_CHARACTERS} characters{where}"
    return message


def _text_or(value: Any, default: str) -> str:
    return value if isinstance(value, str) else default
