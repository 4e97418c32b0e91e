"""The data that rules read and the decisions they return. No rules and no storage here.

A store loads :class:`Rows` for a :class:`Footprint`, calls a :class:`Rule`, and writes the :class:`Changes` of its
decision. All times are milliseconds since the Unix epoch. None of this can be part of a reference cycle, so the garbage
collector need not look at it (``gc=False``), which costs a loaded server CPU; so it is with what the protocol defines.
"""

from collections.abc import Callable
from typing import Any

from msgspec import UNSET, Struct, field
from msgspec.structs import replace

from resonate_server.protocol.answers import Answer
from resonate_server.protocol.messages import Execute, Message
from resonate_server.protocol.records import Promise, Schedule, TaskRecord, TaskState, Value
from resonate_server.protocol.requests import Request


class Task(Struct, frozen=True, gc=False):
    """The unit of delivery: it tracks which worker runs a promise's function, or what the function waits for.

    ``timer_at``: when the task's timer fires; ``None`` for no timer. The state determines its meaning (pending:
    dispatch again; acquired: the lease ends).
    ``queued``: an ``execute`` for this version is owed to some worker. The task row itself is the durable queue
    entry, so no message can be lost. A delayed task is pending but not queued.
    ``claim``: correlation id of the request that acquired the task, so that a retry of it gets the same answer;
    ``None`` if the id may not be unique.
    ``lost_at``: when the last lease was lost; cleared by the next claim.
    ``releases``: number of consecutive claims that ended in a release without progress. ``reason``: the worker's
    reason for the last one.
    ``unclaimed``: number of consecutive times that a worker was offered the task and did not claim it.
    """

    id: str
    target: str
    state: TaskState
    version: int = 0
    resumes: int = 0
    ttl: int | None = None
    pid: str | None = None
    claim: str | None = None
    timer_at: int | None = None
    queued: bool = False
    releases: int = 0
    lost_at: int | None = None
    unclaimed: int = 0
    reason: str | None = None

    def execute(self) -> Execute:
        """Return the message that offers the task to a worker."""
        return Execute(task_id=self.id, version=self.version, target=self.target)

    def report(self) -> TaskRecord:
        """Return the record for ``task.get``: while pending, it includes the counts of failed offers and releases."""
        if self.state is not TaskState.PENDING:
            return self.record()
        return replace(
            self.record(),
            unclaimed=self.unclaimed or UNSET,
            releases=self.releases or UNSET,
            reason=self.reason or UNSET,
        )

    def record(self) -> TaskRecord:
        """Return the task as clients see it."""
        return TaskRecord(
            id=self.id,
            state=self.state,
            version=self.version,
            resumes=self.resumes,
            ttl=UNSET if self.ttl is None else self.ttl,
            pid=UNSET if self.pid is None else self.pid,
        )


class Rules(Struct, frozen=True, gc=False):
    """Configurable parameters of the rules. Durations in ms."""

    retry_timeout_ms: int = 30_000
    """Time after which a pending task that nobody claimed is dispatched again."""
    release_pause_ms: int = 1_000
    """Backoff after the second release in a row; doubles with each further release."""
    release_pause_max_ms: int = 30_000
    unclaimed_pause_ms: int = 5_000
    """Backoff after a task was offered and not claimed; doubles each further time."""
    unclaimed_pause_max_ms: int = 30_000
    notify_batch_size: int = 200
    """Maximum number of awaiters and listeners notified of settlements per transaction; later ones do the rest."""
    catch_up_runs: int = 1
    """Maximum number of missed runs that a schedule catches up on: the latest ones."""


# --- reading --------------------------------------------------------------------------------------------------------


class Unread(Value, frozen=True, kw_only=True, omit_defaults=False):
    """Placeholder for a payload of ``size`` bytes of JSON that was not loaded from the store.

    It cannot be encoded, so it is never sent or stored by mistake.
    """

    size: int
    headers: Any = object()


class Spreading(Struct, frozen=True, gc=False):
    """A settlement that is not yet fully propagated. Awaiters with ids up to ``after`` have been notified."""

    promise_id: str
    after: str = ""


class Footprint(Struct, frozen=True, gc=False):
    """The rows to load before a rule runs: the promise and the task of each of ``ids``, and those named below.

    ``shown``: those of ``ids`` whose promises the answer may show; their payloads are loaded, too.
    ``settles``: the one of ``ids`` that the request itself may settle.
    ``spreading``: settlements to propagate further, within the limit of the :class:`LinkFootprint`.
    ``preload_for``: a task whose preload candidates to load; ``branch`` is its branch, in case its promise is new.
    ``due``: how many due rows of each kind to load.
    """

    ids: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    settles: str | None = None
    spreading: tuple[Spreading, ...] = ()
    preload_for: str | None = None
    branch: str | None = None
    schedule: str | None = None
    due: int = 0


class LinkFootprint(Struct, frozen=True, gc=False):
    """The further rows to load, known only once the rows of a :class:`Footprint` are loaded.

    ``spreading``: settlements whose awaiters (with their promises and tasks) and listeners to load.
    ``limit``: maximum number of awaiters and listeners in total, in the order of ``spreading``.
    """

    spreading: tuple[Spreading, ...] = ()
    limit: int = 1_000


class Due(Struct, frozen=True, gc=False):
    """Promises past their deadline, tasks whose timer is due and schedules to run, oldest first.

    Settlements that are still spreading are always due, the least recently processed first.
    """

    promises: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    schedules: tuple[Schedule, ...] = ()
    spreading: tuple[Spreading, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.promises or self.tasks or self.schedules or self.spreading)


class Rows(Struct, gc=False):
    """A snapshot of the rows that the footprints name. A row that is missing does not exist."""

    promises: dict[str, Promise] = field(default_factory=dict)
    tasks: dict[str, Task] = field(default_factory=dict)
    awaiters: dict[str, list[str]] = field(default_factory=dict)
    """awaited id → ids of its awaiters, ascending unless all of them are here."""
    listeners: dict[str, list[str]] = field(default_factory=dict)
    """awaited id → addresses."""
    complete: set[str] = field(default_factory=set)
    """Awaited ids whose awaiters and listeners are all here."""
    preload: list[Promise] = field(default_factory=list)
    schedules: dict[str, Schedule] = field(default_factory=dict)
    due: Due = field(default_factory=Due)
    asked: list[Footprint | LinkFootprint] = field(default_factory=list)
    """The footprints that were loaded, in this order."""


# --- deciding -------------------------------------------------------------------------------------------------------


class PutCallback(Struct, frozen=True, gc=False):
    """``awaiter`` waits for ``awaited``."""

    awaited: str
    awaiter: str


class DropCallback(Struct, frozen=True, gc=False):
    """``awaiter`` has been notified that ``awaited`` is settled."""

    awaited: str
    awaiter: str


class DropCallbacks(Struct, frozen=True, gc=False):
    """``awaiter`` no longer waits for anything."""

    awaiter: str


class PutListener(Struct, frozen=True, gc=False):
    awaited: str
    address: str


class DropListener(Struct, frozen=True, gc=False):
    awaited: str
    address: str


class PutSpreading(Struct, frozen=True, gc=False):
    """Insert or replace: the settlement was last processed at ``turn_at`` (ms), and is not done."""

    spreading: Spreading
    turn_at: int


class DropSpreading(Struct, frozen=True, gc=False):
    """All awaiters and listeners have been notified."""

    promise_id: str


type LinkChange = PutCallback | DropCallback | DropCallbacks | PutListener | DropListener | PutSpreading | DropSpreading


class Withdraw(Struct, frozen=True, gc=False):
    """The queued ``execute`` of this task at this version is obsolete."""

    task_id: str
    version: int


class Changes(Struct, gc=False):
    """Rows to write; ``links`` apply in order. ``callers``: of new promises that name no parent, the task that created
    them.

    New rows are written whole. For existing rows only the mutable columns are: a promise's state, value and settlement
    time; everything but a task's target; a schedule's run times (``None``: deleted).
    """

    promises: dict[str, Promise] = field(default_factory=dict)
    tasks: dict[str, Task] = field(default_factory=dict)
    links: list[LinkChange] = field(default_factory=list)
    schedules: dict[str, Schedule | None] = field(default_factory=dict)
    callers: dict[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.promises or self.tasks or self.links or self.schedules)


class Decision(Struct, gc=False):
    """The outcome of a rule: the answer, the rows to write, and the messages to send after the commit."""

    answer: Answer
    changes: Changes
    messages: list[Message | Withdraw]


class Rule(Struct, frozen=True, gc=False):
    """``decide(rows, now)`` is pure, so the store may call it again with more or newer rows.

    It may return a footprint that is not among ``rows.asked`` instead of a decision, to have further rows loaded.
    ``request``: the client's request; ``None`` for internal work. ``at``: decide as of this time (ms) instead of now.
    """

    decide: Callable[[Rows, int], Decision | Footprint | LinkFootprint]
    request: Request | None = None
    at: int | None = None
