"""The events of the live page as they appear on the wire, and how they are encoded.

Payloads are kept as excerpts and decoded only when an event is encoded. The ring assigns ``seq``. ``chain`` is the id
of the root; times are in ms since the epoch.
"""

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import astuple, replace

from resonate_server.protocol.payload import Excerpt, Function, Payload, function_name, readable
from resonate_server.protocol.records import PromiseState


class Event(Struct, tag_field="kind", gc=False):
    """Something that happened."""

    seq: int
    at: int

    def weight(self) -> int:
        """Return how many characters are kept with it. All come from clients, and each text may have thousands."""
        weight = 0
        for kept in astuple(self):
            if (characters := _CHARACTERS.get(type(kept))) is not None:
                weight += characters(kept)
        return weight


_CHARACTERS: dict[type, Callable[[Any], int]] = {
    str: len,
    list: lambda ids: sum(map(len, ids)),
    Excerpt: lambda excerpt: excerpt.weight,
    Function: lambda function: function.weight,
    Payload: lambda payload: len(payload.text),
}


class ChainEvent(Event, gc=False):
    """Something that happened to the promise ``id``, or to its task."""

    chain: str | None
    id: str


class PromiseCreated(ChainEvent, tag="promise.created", gc=False):
    parent: str | None
    func: Function | str | None
    group: str | None
    timer: bool
    timeout_at: int
    created_at: int


class PromiseSettled(ChainEvent, tag="promise.settled", gc=False):
    """``pid``: the worker that held the task, in attempt ``version``; ``by_worker``: whether that worker settled it."""

    state: PromiseState
    value: Excerpt | Payload | None
    created_at: int
    settled_at: int
    pid: str | None = None
    version: int = 0
    by_worker: bool = False


class TaskQueued(ChainEvent, tag="task.queued", gc=False):
    """The task waits for a worker; its next attempt is ``version`` + 1."""

    group: str | None
    version: int
    reason: str


class TaskSent(ChainEvent, tag="task.sent", gc=False):
    """A worker was sent the task; the sender does not know its chain."""

    group: str
    pid: str
    version: int


class TaskClaimed(ChainEvent, tag="task.claimed", gc=False):
    """Attempt ``version`` runs."""

    group: str | None
    pid: str | None
    version: int


class TaskSuspended(ChainEvent, tag="task.suspended", gc=False):
    pid: str | None
    version: int
    on: list[str]


class TaskLost(ChainEvent, tag="task.lost", gc=False):
    """The attempt was broken off."""

    pid: str | None
    version: int
    reason: str


class TaskReleased(ChainEvent, tag="task.released", gc=False):
    """``trouble``: what is wrong with a task that keeps coming back; ``why``: the reason that its worker gave."""

    pid: str | None
    version: int
    trouble: str
    why: str = ""


class TaskUnclaimed(ChainEvent, tag="task.unclaimed", gc=False):
    """A worker was sent the task and did not claim it; it is offered again after a pause."""

    group: str | None
    version: int
    trouble: str


class TaskHalted(ChainEvent, tag="task.halted", gc=False):
    pid: str | None
    version: int


class TaskRefused(ChainEvent, tag="task.refused", gc=False):
    """A write by an attempt that no longer holds the task; ``request`` is its kind."""

    version: int
    request: str


class ServerBack(Event, tag="server.back", gc=False):
    """This server is running again, after an outage that began at ``since``."""

    since: int


class EventsMissed(Event, tag="server.missed", gc=False):
    """Events of other servers may have been lost: what is shown must be read again."""


class WorkerEvent(Event, gc=False):
    """Something that a worker did."""

    group: str
    pid: str


class WorkerConnected(WorkerEvent, tag="worker.connected", gc=False):
    """``again``: it is back after this server ended its stream as planned."""

    again: bool


class WorkerLeft(WorkerEvent, tag="worker.left", gc=False):
    planned: bool


class WorkerSilent(WorkerEvent, tag="worker.silent", gc=False):
    """It let a lease lapse."""


class WorkerGone(WorkerEvent, tag="worker.gone", gc=False):
    pass


class WorkerHeard(WorkerEvent, tag="worker.heard", gc=False):
    pass


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

_KINDS: dict[str, type[Event]] = {
    str(kind.__struct_config__.tag): kind
    for parent in (Event, ChainEvent, WorkerEvent)
    for kind in parent.__subclasses__()
    if kind not in (ChainEvent, WorkerEvent)
}


def encode_for_peers(event: Event) -> bytes:
    if isinstance(event, PromiseSettled) and isinstance(event.value, Excerpt):
        event = replace(event, value=readable(event.value, SHORT_TEXT))
    return encoder.encode(event)


def decode_from_peer(data: bytes | msgspec.Raw) -> Event:
    """Decode an event of another server. Raises :class:`ValueError` for one that this version does not know."""
    try:
        fields = msgspec.json.decode(data)
        kind = _KINDS[fields.pop("kind")]
        if kind is PromiseSettled:
            fields["state"] = PromiseState(fields["state"])
            fields["value"] = fields["value"] and Payload(**fields["value"])
        return kind(**fields)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"unknown event: {error}") from None
