"""What queries of a store find."""

from msgspec import Struct

from resonate_server.kernel.model import PutCallback, PutListener, Spreading, Task
from resonate_server.protocol.messages import Unblock
from resonate_server.protocol.records import Promise

MAX_COUNTED = 10_000
"""Counting for an :class:`Occupation` stops at this many tasks; viewers need no more."""


class Snapshot(Struct, frozen=True):
    """All rows; each list is in ascending order of ids."""

    promises: list[Promise]
    tasks: list[Task]
    callbacks: list[PutCallback]
    listeners: list[PutListener]
    unblocks: list[Unblock]
    spreading: list[Spreading]


class Place(Struct, frozen=True):
    """The position of a root in the order of creation."""

    created_at: int
    id: str


class Branch(Struct, frozen=True):
    """One promise of a tree. ``awaits``: ids of the unsettled promises that its task waits for, ascending."""

    promise: Promise
    task: Task | None
    awaits: list[str]


class Occupation(Struct, frozen=True):
    """Numbers of tasks. ``queued``: waiting for a worker, by group; ``held``: held under a lease, by process."""

    queued: dict[str, int]
    held: dict[str, int]


class Backlog(Struct, frozen=True):
    """What waits for a group: unclaimed tasks, and ``unblock`` messages that may still be unread. Each is counted up to
    :data:`MAX_COUNTED`.
    """

    tasks: int
    answers: int


class OpenTask(Struct, frozen=True):
    """A task that is claimed or waits to be; ``group`` is empty for an HTTP address.

    ``offered_at``: when a task that has never been claimed was first offered (ms); 0 for others.
    """

    id: str
    version: int
    group: str
    offered_at: int = 0


type Holding = tuple[str, str]
"""Process and task; claims are listed in this order."""


type SettledRoot = tuple[int, str]
"""Time of settlement (ms) and id; the roots of settled trees are deleted in this order, in portions."""

FIRST: SettledRoot = (-1, "")
"""Comes before all roots."""


class Dropped(Struct, frozen=True):
    """``tasks``: how many were deleted with their trees; ``last``: the last root visited, ``None`` if none follow."""

    tasks: int
    last: SettledRoot | None
