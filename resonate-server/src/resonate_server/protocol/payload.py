"""Payloads for reading. The server never looks inside; by the SDKs' convention they are base64 of JSON.

An excerpt is all that is kept of one, so that a payload of megabytes takes no more room than a small one.
"""

import re
from base64 import b64decode
from typing import Any

import msgspec
from msgspec import UNSET, Struct

from resonate_server.protocol.records import Tags, Value

MAX_TEXT = 4_096
"""Characters that are shown of a payload."""

MAX_FUNCTION = 200
"""Characters of the name of a step's function."""

HEAD, TAIL = 8_192, 1_024
"""Characters of its encoded form that are kept of the beginning and of the end of a longer one. Multiples of 4, so
that base64 can be decoded from there."""

NOT_JSON = (msgspec.DecodeError, UnicodeError, RecursionError)
"""What decoding JSON raises for bytes or text that are none of the wanted shape, or nested without end."""

_FUNCTION = re.compile(rb'"func":\s*"((?:[^"\\]|\\.)*)"')


class Payload(Struct, frozen=True):
    """``text`` is cut if ``cut``; ``bytes``: length of the whole."""

    text: str
    cut: bool
    bytes: int


class Excerpt:
    """What is kept of a payload: all of it (``head``), or of a long one its beginning and its end."""

    __slots__ = ("head", "size", "tail")

    def __init__(self, data: str) -> None:
        self.size = size = len(data)
        if size <= HEAD + TAIL:
            self.head, self.tail = data, ""
        else:
            self.head, self.tail = data[:HEAD], data[-TAIL:]

    @property
    def weight(self) -> int:
        """Characters that are kept."""
        return len(self.head) + len(self.tail)


class Function(Excerpt):
    """Parameters of a call, of which only the function's name is wanted."""

    __slots__ = ()


def excerpt(value: Value) -> Excerpt | None:
    """``None`` for a value without data."""
    return None if value.data is UNSET or not value.data else Excerpt(value.data)


def readable(excerpt: Excerpt | None, limit: int = MAX_TEXT) -> Payload | None:
    """The payload as text: decoded if it is base64 of text, else as it is."""
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
    """The function that a promise with these parameters calls."""
    if excerpt is None:
        return None
    if not excerpt.tail:
        return _called(_bytes(excerpt.head))
    return _found(_bytes(excerpt.head)) or _found(_bytes(excerpt.tail))


def step_function(tags: Tags) -> str | None:
    """The function of a step, which runs inside its caller and has no parameters: workers name it in a tag."""
    name = tags.get("worker:function")
    return name[:MAX_FUNCTION] if name else None


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
    """In a piece of the JSON, which cannot be parsed as a whole."""
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
    for cut in range(4):  # The last character may have been cut in the middle.
        try:
            return raw[: len(raw) - cut].decode()
        except UnicodeDecodeError:
            continue
    return None


def _decoded_size(excerpt: Excerpt) -> int:
    padding = (excerpt.tail or excerpt.head)[-2:].count("=")
    return excerpt.size * 3 // 4 - padding


def _unescaped(text: str) -> str:
    r"""JSON without ``\u`` escapes, which nobody can read."""
    if "\\u" not in text:
        return text
    try:
        return msgspec.json.encode(msgspec.json.decode(text)).decode()
    except NOT_JSON:
        return text
