"""What is sent to the page and the terminal: a chain with the life of each of its calls, and the groups of workers."""

from collections.abc import Callable, Iterable
from enum import StrEnum
from itertools import accumulate, takewhile

from msgspec import Struct, field
from msgspec.structs import asdict

from resonate_server.delivery.presence import Member
from resonate_server.protocol.payload import Payload
from resonate_server.protocol.records import PromiseState, Role, TaskState
from resonate_server.store.found import Occupation
from resonate_server.watch.absences import FOREVER, Outage


class Kind(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    SUSPENDED = "suspended"
    GAP = "gap"
    HALTED = "halted"
    TIMER = "timer"
    UNKNOWN = "unknown"


class Phase(Struct, gc=False):
    """What a call did from ``begin`` to ``end`` (ms; ``None``: until now).

    ``attempt``: the latest one, 0 before the first. ``pid``: the worker that runs the call, ran it before a gap, or was
    offered it. ``reason``: why the call waits, runs once more, or lacks a worker; ``trouble``: what is wrong, in words;
    ``why``: the reason given by the worker that released the previous attempt. ``retries``: how often the call was
    begun again, as far as was seen. ``broken``: the phase was cut off. ``known``: its beginning was seen. ``step``: it
    belongs to a step and comes from the call that runs it.
    """

    kind: Kind
    begin: int = field(name="from")
    end: int | None = field(name="to", default=None)
    attempt: int = 0
    pid: str | None = None
    reason: str = ""
    trouble: str = ""
    why: str = ""
    retries: int = 0
    on: list[str] = []
    broken: bool = False
    known: bool = True
    step: bool = False

    @property
    def until(self) -> int:
        return FOREVER if self.end is None else self.end


class TaskView(Struct, frozen=True):
    """``attempt``: the latest one, 0 before the first. ``retry_at``: when the next one may begin, if it has to wait
    until then. ``ttl``: length of the current lease; both in ms. ``unclaimed``: how often in a row the task was sent
    and not claimed; ``why``: the reason given by the worker that released it last."""

    state: TaskState
    attempt: int
    pid: str | None
    retry_at: int | None
    trouble: str
    ttl: int | None = None
    unclaimed: int = 0
    why: str = ""


class PromiseSummary(Struct):
    """A promise without its payloads: a line of the list, if it is a root."""

    id: str
    func: str | None
    group: str | None
    state: PromiseState
    created_at: int
    settled_at: int | None


class PromiseView(PromiseSummary):
    """``phases``: its life, oldest first. ``depth``: levels below the root; ``follows``: whether a sibling follows."""

    role: Role
    parent: str | None
    timeout_at: int
    param: Payload | None
    value: Payload | None
    tags: dict[str, str]
    task: TaskView | None
    awaits: list[str]
    phases: list[Phase] = []
    depth: int = 0
    follows: bool = False


class ChainView(Struct, frozen=True):
    """``at``: the server's time (ms). ``promises``: parents before children, siblings by
    age; ``cut``: there are more. ``outages``: the server's
    during the chain. ``story``: what a fault did to the chain, in sentences."""

    id: str
    at: int
    promises: list[PromiseView]
    cut: bool
    outages: list[Outage]
    story: list[str]


# ── workers ──

MAX_GROUPS = 200
"""Groups that are shown: those with workers first. Their names come from clients."""

MAX_WORKERS = 1_000
"""Workers that are shown. Those that are gone are left out first, then the newest."""

MAX_CHARACTERS = 256 * 1_024
"""Total length of the names of groups, and of those of workers with their groups."""


class WorkerView(Member, frozen=True, gc=False):
    """``held``: number of its tasks; ``None`` if the viewer may not know it."""

    held: int | None


class GroupView(Struct, frozen=True):
    """``waiting``: tasks that wait for a worker of the group; ``None`` if the viewer may not know it."""

    name: str
    waiting: int | None
    workers: list[WorkerView]


def groups(members: Iterable[Member], occupation: Occupation, prefix: str = "") -> list[GroupView]:
    """Return the groups with their workers and the number of waiting tasks, sorted by name. With ``prefix``: only those
    that begin with it, and without numbers, because the tasks may be anybody's."""
    workers: dict[str, list[WorkerView]] = {name: [] for name in occupation.queued if name.startswith(prefix)}
    mine = sorted((each for each in members if each.group.startswith(prefix)), key=_by_arrival)
    for each in _first(mine, MAX_WORKERS, lambda each: len(each.pid) + len(each.group)):
        held = None if prefix else occupation.held.get(each.pid, 0)
        workers.setdefault(each.group, []).append(WorkerView(**asdict(each), held=held))
    shown = _first(sorted(workers, key=lambda name: (not workers[name], name)), MAX_GROUPS, len)
    return [
        GroupView(name, None if prefix else occupation.queued.get(name, 0), workers[name]) for name in sorted(shown)
    ]


def _first[T](items: list[T], most: int, length: Callable[[T], int]) -> list[T]:
    """Return the first ``most`` of ``items``, fewer if their names are long."""
    fit = takewhile(lambda total: total <= MAX_CHARACTERS, accumulate(map(length, items)))
    return [item for item, _ in zip(items[:most], fit, strict=False)]


def _by_arrival(member: Member) -> tuple[bool, int, str]:
    return member.gone_at is not None, member.since, member.pid
