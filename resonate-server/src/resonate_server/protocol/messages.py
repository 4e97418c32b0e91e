"""Messages that the server pushes: ``execute`` (run this task) and ``unblock`` (this promise is settled); section 5.1.

Messages may be lost, duplicated, late or reordered: an ``execute`` is only a hint to acquire the task, and an
``unblock`` only repeats a final fact.
"""

import json

import msgspec
from msgspec import Struct

from resonate_server.protocol.records import Promise

type UnblockKey = tuple[str, str]
"""Promise and address."""


class Execute(Struct, frozen=True, gc=False):
    """Task ``task_id`` waits at ``version`` for a worker at ``target``."""

    task_id: str
    version: int
    target: str


class Unblock(Struct, frozen=True, gc=False):
    """The settled ``promise``, for the listener at ``address``."""

    promise: Promise
    address: str

    @property
    def key(self) -> UnblockKey:
        """There is one ``unblock`` per promise and address."""
        return self.promise.id, self.address


class OwedUnblock(Struct, frozen=True, gc=False):
    """An undelivered ``unblock``. ``place``: its position in the order of creation."""

    place: int
    unblock: Unblock


type Message = Execute | Unblock


def encode_message(message: Message, server_url: str) -> bytes:
    """Return the message as one line of ASCII JSON.

    ASCII, because the Python SDKs also split lines at characters such as U+2028, and drop a network chunk that ends
    inside a multi-byte character (section 5.3).
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
