"""What the server sends by itself: ``execute`` (run this task) and ``unblock`` (this promise is settled); section 5.1.

Messages may be lost, doubled, late or reordered: an ``execute`` is only a hint to acquire, an ``unblock`` only
repeats a final fact.
"""

import json

import msgspec
from msgspec import UNSET, Struct

from resonate_server.protocol.records import Promise, Value

type UnblockKey = tuple[str, str]
"""Promise and address."""


class Execute(Struct, frozen=True):
    """Task ``task_id`` waits at ``version`` for whoever answers at ``target``."""

    task_id: str
    version: int
    target: str


class Unblock(Struct, frozen=True):
    """The settled ``promise``, for the listener at ``address``."""

    promise: Promise
    address: str

    @property
    def key(self) -> UnblockKey:
        """There is one of them per promise and address."""
        return self.promise.id, self.address

    @property
    def weight(self) -> int:
        """Bytes of memory that it takes, about."""
        promise = self.promise
        texts = (promise.id, self.address, *promise.tags, *promise.tags.values())
        return OVERHEAD_BYTES + sum(map(_size, texts)) + _value_size(promise.param) + _value_size(promise.value)


class OwedUnblock(Struct, frozen=True):
    """``place``: its place in the order in which they came to be owed."""

    place: int
    unblock: Unblock


OVERHEAD_BYTES = 1_024
"""Of a message, beside its texts."""


def _value_size(value: Value) -> int:
    headers = () if value.headers is UNSET else (*value.headers, *value.headers.values())
    return sum(map(_size, headers)) + (0 if value.data is UNSET else _size(value.data))


def _size(text: str) -> int:
    return len(text) if text.isascii() else 4 * len(text)


type Message = Execute | Unblock


def encode_message(message: Message, server_url: str) -> bytes:
    """The message as one line of ASCII JSON.

    ASCII, because the Python SDKs also split lines at U+2028 and its like, and drop a network chunk that ends inside
    a multi-byte character (section 5.3).
    """
    match message:
        case Execute(task_id=task_id, version=version):
            task = {"task": {"id": task_id, "version": version}}
            body = {"kind": "execute", "head": {"serverUrl": server_url}, "data": task}
        case Unblock(promise=promise):
            body = {"kind": "unblock", "head": {}, "data": {"promise": promise}}
    encoded = msgspec.json.encode(body)
    if encoded.isascii():
        return encoded
    return json.dumps(msgspec.json.decode(encoded), ensure_ascii=True, separators=(",", ":")).encode("ascii")
