"""What servers on one database ring to one another. Any of it may come late, twice or in another order: it is a hint to
look at what the store says, or tells people something.

Ids may be longer than a message: then the others are asked to look at everything (:class:`LookAgain`).
"""

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from resonate_server.delivery.presence import Member
from resonate_server.protocol.address import PollAddress, parse_address
from resonate_server.protocol.records import Promise
from resonate_server.store.sharing import MAX_RING_BYTES


class Hint(Struct, frozen=True, array_like=True, tag=True):
    """To all others. ``to``: the number of the one that it is for, where only one is to act."""


class Offered(Hint, frozen=True):
    """Task ``task_id`` waits at ``version`` for a worker of that server."""

    to: int
    task_id: str
    version: int
    target: str


class Withdrawn(Hint, frozen=True):
    """Nobody needs to be told of the task at ``version``, or at a former one."""

    task_id: str
    version: int


class Owed(Hint, frozen=True):
    """The listener at ``address`` is to be told of a settled promise; without ``to`` by any server that it is connected
    to. Without ``promise``, which may be large, it is to be read."""

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
    """Whoever waits for one of these promises need not any more."""

    promise_ids: list[str]


class Heard(Hint, frozen=True):
    """The process has sent a request, at ``at`` (ms)."""

    pid: str
    at: int | None = None


class Silent(Hint, frozen=True):
    """The process let a lease lapse."""

    pid: str


class Happened(Hint, frozen=True):
    """Something for those who watch: see :func:`resonate_server.watch.events.for_others`."""

    event: Raw


class Present(Hint, frozen=True):
    """The workers of server ``of`` as it knows them; with ``more``, besides those of the former message.
    ``began``: when that server did, in ms."""

    of: int
    members: list[Member]
    more: bool
    began: int = 0


class WasReset(Hint, frozen=True):
    """Everything was deleted."""


class LookAgain(Hint, frozen=True):
    """There is something that cannot be told."""


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
    """Raises :class:`msgspec.DecodeError` for those of a server of another version."""
    return _decoder.decode(messages)
