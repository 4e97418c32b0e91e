"""The messages between servers that share a database. Each may come late, twice or out of order: it is a hint to look
in the store, or information for people.

Ids may be too long for a message: then the others are asked to look at everything (:class:`LookAgain`).
"""

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from resonate_server.delivery.presence import Member
from resonate_server.protocol.address import PollAddress, parse_address
from resonate_server.protocol.records import Promise
from resonate_server.store.sharing import MAX_RING_BYTES


class Hint(Struct, frozen=True, array_like=True, tag=True):
    """Goes to all other servers. ``to``: the number of the one that is to act, if only one is."""


class Offered(Hint, frozen=True):
    """Task ``task_id`` waits at ``version`` for a worker of server ``to``."""

    to: int
    task_id: str
    version: int
    target: str


class Withdrawn(Hint, frozen=True):
    """The task needs no worker at ``version`` or an earlier one."""

    task_id: str
    version: int


class Owed(Hint, frozen=True):
    """The listener at ``address`` is to get a result; without ``to``, from any server that it is connected to. Without
    ``promise``, which may be large, the receiver reads it from the store."""

    promise_id: str
    address: str
    to: int | None = None
    promise: Promise | None = None

    @property
    def listener(self) -> PollAddress:
        address = parse_address(self.address)
        assert isinstance(address, PollAddress)
        return address


class Settled(Hint, frozen=True):
    """These promises are settled: nobody need wait for them any more."""

    promise_ids: list[str]


class Heard(Hint, frozen=True):
    """The process has sent a request, at ``at`` (ms), and may speak for groups that begin with ``prefix``."""

    pid: str
    at: int | None = None
    prefix: str = ""


class Silent(Hint, frozen=True):
    """The worker let a lease lapse."""

    pid: str
    group: str = ""


class Happened(Hint, frozen=True):
    """An event for observers: see :func:`resonate_server.watch.events.encode_for_peers`."""

    event: Raw


class Present(Hint, frozen=True):
    """The workers of server ``of`` as it knows them; ``more``: besides those of its previous message. ``began``: when
    that server started, in ms."""

    of: int
    members: list[Member]
    more: bool
    began: int = 0


class WasReset(Hint, frozen=True):
    """Everything was deleted."""


class LookAgain(Hint, frozen=True):
    """Something happened that does not fit into a message."""


type AnyHint = Offered | Withdrawn | Owed | Settled | Heard | Silent | Happened | Present | WasReset | LookAgain

_decoder = msgspec.json.Decoder(list[AnyHint])


def encode(hint: AnyHint) -> bytes:
    data = msgspec.json.encode(hint)
    if len(data) <= MAX_RING_BYTES:
        return data
    if isinstance(hint, Owed) and hint.promise is not None:
        return encode(replace(hint, promise=None))
    return encode(LookAgain())


def decode(messages: str) -> list[AnyHint]:
    """Raises :class:`msgspec.DecodeError` for hints from a server of another version."""
    return _decoder.decode(messages)
