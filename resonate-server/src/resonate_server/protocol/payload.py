"""Payloads as readable text. No rule looks inside a payload; by the SDKs' convention it is base64 of JSON.

Only an excerpt of a payload is kept, so that megabytes take little more memory than a small one.
"""

import re
from base64 import b64decode
from typing import Any

import msgspec
from msgspec import UNSET, Struct

from resonate_server.protocol.records import Promise, Tags, Value

MAX_TEXT = 4_096
"""Maximum number of characters shown of a payload."""

MAX_FUNCTION = 200
"""Maximum number of characters of a step's function name."""

HEAD, TAIL = 8_192, 1_024
"""Characters of the encoded form that are kept from the beginning and the end of a longer payload. Multiples of 4, so
that both parts can be decoded as base64."""

NOT_JSON = (msgspec.DecodeError, UnicodeError, RecursionError)
"""What JSON decoding raises for invalid input, input of another shape, or input nested too deeply."""

_FUNCTION = re.compile(rb'"func":\s*"((?:[^"\\]|\\.)*)"')


class Payload(Struct, frozen=True, gc=False):
    """``cut``: whether ``text`` was cut; ``bytes``: size of the whole payload."""

    text: str
    cut: bool
    bytes: int


class Excerpt:
    """The part of a payload that is kept: all of it (``head``), or its beginning and end if it is long."""

    __slots__ = ("head", "size", "tail")

    def __init__(self, data: str) -> None:
        self.size = size = len(data)
        if size <= HEAD + TAIL:
            self.head, self.tail = data, ""
        else:
            self.head, self.tail = data[:HEAD], data[-TAIL:]

    @property
    def weight(self) -> int:
        """Number of characters kept."""
        return len(self.head) + len(self.tail)


class Function(Excerpt):
    """Parameters of a call of which only the function name is needed."""

    __slots__ = ()


def excerpt(value: Value) -> Excerpt | None:
    """Return ``None`` for a value without data."""
    return None if value.data is UNSET or not value.data else Excerpt(value.data)


def readable(excerpt: Excerpt | None, limit: int = MAX_TEXT) -> Payload | None:
    """Return the payload as text: decoded if it is base64 of text, else unchanged."""
    if excerpt is None:
        return None
    decoded = _decoded(excerpt.head)
    if decoded is None:
        text, size = excerpt.head, excerpt.size
    else:
        text, size = decoded, _decoded_size(excerpt)
    whole = not excerpt.tail
    if whole and decoded is not None:
        text = _unescaped(text)
    return Payload(text=text[:limit], cut=not whole or len(text) > limit, bytes=size)


def function_name(excerpt: Excerpt | None) -> str | None:
    """Return the name of the function that a promise with these parameters calls."""
    if excerpt is None:
        return None
    if not excerpt.tail:
        return _called(_bytes(excerpt.head))
    return _found(_bytes(excerpt.head)) or _found(_bytes(excerpt.tail))


def step_function(tags: Tags) -> str | None:
    """Return the function of a step. A step runs inside its caller and has no parameters; workers name it in a tag."""
    name = tags.get("worker:function")
    return name[:MAX_FUNCTION] if name else None


def function_of(promise: Promise) -> str | None:
    """Return the name of the function that a call or a step runs."""
    return function_name(excerpt(promise.param)) or step_function(promise.tags)


class _Invocation(Struct):
    func: Any = None


_calls = msgspec.json.Decoder(_Invocation)


def _called(data: bytes | None) -> str | None:
    try:
        name = None if data is None else _calls.decode(data).func
    except NOT_JSON:
        return None
    return name[:MAX_TEXT] if isinstance(name, str) else None


def _found(data: bytes | None) -> str | None:
    """Find the name in a fragment of JSON, which cannot be parsed."""
    match = _FUNCTION.search(data or b"")
    try:
        return None if match is None else msgspec.json.decode(b'"%b"' % match[1], type=str)
    except NOT_JSON:
        return None


def _bytes(data: str) -> bytes | None:
    try:
        return b64decode(data, validate=True)
    except ValueError:
        return None


def _decoded(data: str) -> str | None:
    raw = _bytes(data)
    if raw is None:
        return None
    for cut in range(4):  # The cut may have split the last character.
        try:
            return raw[: len(raw) - cut].decode()
        except UnicodeDecodeError:
            continue
    return None


def _decoded_size(excerpt: Excerpt) -> int:
    padding = (excerpt.tail or excerpt.head)[-2:].count("=")
    return excerpt.size * 3 // 4 - padding


def _unescaped(text: str) -> str:
    r"""Return JSON without ``\u`` escapes, which nobody can read."""
    if "\\u" not in text:
        return text
    try:
        return msgspec.json.encode(msgspec.json.decode(text)).decode()
    except NOT_JSON:
        return text
