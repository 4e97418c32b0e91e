"""The events of the live page as they appear on the wire, and how they are encoded.

Payloads are kept as excerpts and decoded only when an event is encoded. The ring assigns ``seq``. ``chain`` is the id
of the root; times are in ms since the epoch.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import astuple, replace

from resonate_server.protocol.payload import Excerpt, Function, Payload, function_name, readable
from resonate_server.protocol.records import PromiseState


class What(StrEnum):
    """What has happened: the member ``kind`` of an event."""

    CREATED = "promise.created"
    SETTLED = "promise.settled"
    QUEUED = "task.queued"  # it waits for a worker; its next attempt is `version` + 1
    SENT = "task.sent"  # to a worker, by one who does not know its chain
    CLAIMED = "task.claimed"  # attempt `version` runs
    SUSPENDED = "task.suspended"
    LOST = "task.lost"  # the attempt was broken off
    RELEASED = "task.released"  # by its worker
    UNCLAIMED = "task.unclaimed"  # by the worker that was sent it; it is offered again after a pause
    HALTED = "task.halted"
    REFUSED = "task.refused"  # a write by an attempt that no longer holds the task
    SERVER_BACK = "server.back"
    EVENTS_MISSED = "server.missed"  # events of other servers may have been lost: what is shown must be read again
    CONNECTED = "worker.connected"
    LEFT = "worker.left"
    SILENT = "worker.silent"  # it let a lease lapse
    GONE = "worker.gone"
    HEARD = "worker.heard"


class Event(Struct, gc=False, kw_only=True):
    """Something that happened."""

    kind: What
    seq: int = 0
    at: int

    def weight(self) -> int:
        """Return how many characters are kept with it. All come from clients, and each text may have thousands."""
        weight = 0
        for kept in astuple(self):
            if kept and (characters := _CHARACTERS.get(type(kept))) is not None:
                weight += characters(kept)
        return weight


_CHARACTERS: dict[type, Callable[[Any], int]] = {
    str: len,
    list: lambda ids: sum(map(len, ids)),
    Excerpt: lambda excerpt: excerpt.weight,
    Function: lambda function: function.weight,
    Payload: lambda payload: len(payload.text),
}


class ChainEvent(Event, gc=False, kw_only=True):
    """Something that happened to the promise ``id``, or to its task."""

    chain: str | None
    id: str


class PromiseCreated(ChainEvent, gc=False, kw_only=True):
    kind: What = What.CREATED
    parent: str | None
    func: Function | str | None
    group: str | None
    timer: bool
    timeout_at: int
    created_at: int


class PromiseSettled(ChainEvent, gc=False, kw_only=True):
    """``pid``: the worker that held the task, in attempt ``version``; ``by_worker``: whether that worker settled it."""

    kind: What = What.SETTLED
    state: PromiseState
    value: Excerpt | Payload | None
    created_at: int
    settled_at: int
    pid: str | None = None
    version: int = 0
    by_worker: bool = False


class TaskNews(ChainEvent, gc=False, kw_only=True, omit_defaults=True):
    """Something that happened to a task in its attempt ``version``. ``pid``: the worker that has it, had it or was sent
    it.

    ``reason``: why it is queued or lost. ``trouble``: what is wrong with a task that keeps coming back; ``why``: the
    reason that its worker gave. ``on``: what it awaits. ``request``: the kind of the write that was refused.
    """

    version: int
    group: str | None = None
    pid: str | None = None
    reason: str = ""
    trouble: str = ""
    why: str = ""
    on: list[str] = []
    request: str = ""


class ServerBack(Event, gc=False, kw_only=True):
    """This server is running again, after an outage that began at ``since``."""

    kind: What = What.SERVER_BACK
    since: int


class WorkerEvent(Event, gc=False, kw_only=True):
    """Something that a worker did. ``planned``: this server had ended its stream."""

    group: str
    pid: str
    planned: bool = False


def _for_the_wire(kept: Any) -> str | Payload | None:
    match kept:
        case Function():
            return function_name(kept)
        case Excerpt():
            return readable(kept)
    raise TypeError(type(kept))


encoder = msgspec.json.Encoder(enc_hook=_for_the_wire)
"""Encodes everything that is sent to the page."""

SHORT_TEXT = 256
"""Characters of a payload that are sent to other servers."""

_CLASSES: dict[str, type[Event]] = {"task": TaskNews, "worker": WorkerEvent, "server": ServerBack}
_OF_PROMISES: dict[What, type[Event]] = {What.CREATED: PromiseCreated, What.SETTLED: PromiseSettled}


def encode_for_peers(event: Event) -> bytes:
    if isinstance(event, PromiseSettled) and isinstance(event.value, Excerpt):
        event = replace(event, value=readable(event.value, SHORT_TEXT))
    return encoder.encode(event)


def decode_from_peer(data: bytes | msgspec.Raw) -> Event:
    """Decode an event of another server. Raises :class:`ValueError` for one that this version does not know."""
    try:
        fields = msgspec.json.decode(data)
        kind = fields["kind"] = What(fields["kind"])
        if kind is What.SETTLED:
            fields["state"] = PromiseState(fields["state"])
            fields["value"] = fields["value"] and Payload(**fields["value"])
        return (_OF_PROMISES.get(kind) or _CLASSES[kind.partition(".")[0]])(**fields)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"unknown event: {error}") from None
