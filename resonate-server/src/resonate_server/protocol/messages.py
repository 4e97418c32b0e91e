"""What the server sends by itself: ``execute`` (run this task) and ``unblock`` (this promise is settled); section 5.1.

Messages may be lost, doubled, late or reordered: an ``execute`` is only a hint to acquire, an ``unblock`` only
repeats a final fact.
"""

import json

import msgspec
from msgspec import Struct

from resonate_server.protocol.records import Promise

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


class OwedUnblock(Struct, frozen=True):
    """``place``: its place in the order in which they came to be owed."""

    place: int
    unblock: Unblock


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
