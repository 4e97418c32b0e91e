"""What the rules work on and what they decide, as data: rows in, a decision out.

A store fills :class:`Rows` from a :class:`Footprint`, asks a :class:`Rule`, and writes the :class:`Changes` of its
decision; nothing here knows how. All times are milliseconds since the Unix epoch.
"""

from collections.abc import Callable
from typing import Any

from msgspec import UNSET, Struct, field
from msgspec.structs import replace

from resonate_server.protocol.answers import Answer
from resonate_server.protocol.messages import Execute, Message
from resonate_server.protocol.records import Promise, Schedule, TaskRecord, TaskState, Value
from resonate_server.protocol.requests import Request


class Task(Struct, frozen=True):
    """The unit of delivery: who runs a promise's function, or what that waits for.

    ``timer_at``: when this task next needs attention by itself; which kind of timer it is follows from the state
    (pending: dispatch again; acquired: the lease ends). ``None`` for no timer.
    ``queued``: an ``execute`` for this version is owed to some worker. The task row itself is the durable queue
    entry, so no message can be lost; a delayed task is pending without being queued.
    ``claim``: correlation id of the request that acquired it, so that the same request sent again gets the same answer;
    ``None`` for one that may come twice.
    ``lost_at``: when the last lease was lost, until the next claim.
    ``releases``: claims in a row that ended by release, with nothing achieved in between. ``reason``: of the last one,
    as the worker gave it.
    ``unclaimed``: times in a row that a worker was told of it and did not claim it.
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
        """The message that offers it to a worker."""
        return Execute(task_id=self.id, version=self.version, target=self.target)

    def report(self) -> TaskRecord:
        """The record with what is known of its troubles, for those who ask what became of it."""
        if self.state is not TaskState.PENDING:
            return self.record()
        return replace(
            self.record(),
            unclaimed=self.unclaimed or UNSET,
            releases=self.releases or UNSET,
            reason=self.reason or UNSET,
        )

    def record(self) -> TaskRecord:
        """The task as clients see it."""
        return TaskRecord(
            id=self.id,
            state=self.state,
            version=self.version,
            resumes=self.resumes,
            ttl=UNSET if self.ttl is None else self.ttl,
            pid=UNSET if self.pid is None else self.pid,
        )


class Rules(Struct, frozen=True):
    """The figures that the rules leave open. Durations in ms."""

    retry_timeout_ms: int = 30_000
    """A pending task nobody claimed is dispatched again after this long."""
    release_pause_ms: int = 1_000
    """Pause before a task that was released twice in a row is dispatched again; doubles with each further release."""
    release_pause_max_ms: int = 30_000
    unclaimed_pause_ms: int = 5_000
    """Pause before a task that was handed out and not claimed is dispatched again; doubles likewise."""
    unclaimed_pause_max_ms: int = 30_000
    told_at_once: int = 200
    """So many awaiters and listeners learn of settlements in one transaction; the others follow by and by."""
    catch_up_runs: int = 1
    """So many of the runs that a schedule has missed are made up for, the latest ones."""


# --- reading --------------------------------------------------------------------------------------------------------


class Unread(Value, frozen=True, kw_only=True, omit_defaults=False):
    """In the place of a payload that nobody needed to see: ``size`` bytes of JSON, which stay in the store.

    It cannot be encoded, so that it is never sent or stored by mistake.
    """

    size: int
    headers: Any = object()


class Spreading(Struct, frozen=True):
    """A settlement of which not everybody has been told; awaiters up to ``after``, in the order of ids, have."""

    promise_id: str
    after: str = ""


class Footprint(Struct, frozen=True):
    """What a request touches and therefore must be loaded before its rule runs: promise and task of each of ``ids``.

    ``shown``: those of ``ids`` whose promise an answer may show, and whose payloads are therefore read.
    ``settles``: the one of ``ids`` that the request itself may settle.
    ``spreading``: settlements that are to be told of, as far as there is room.
    ``preload_for``: also the preload candidates of that task; ``branch`` names its branch if its promise may be new.
    ``due``: so many of each kind whose time has come. ``leased``: all tasks that somebody holds, with their promises.
    """

    ids: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    settles: str | None = None
    spreading: tuple[Spreading, ...] = ()
    preload_for: str | None = None
    branch: str | None = None
    schedule: str | None = None
    due: int = 0
    leased: bool = False


class LinkFootprint(Struct, frozen=True):
    """What must be loaded besides, which only the rows of a :class:`Footprint` tell.

    ``spreading``: of each, who waits for it, with the promises and tasks of awaiters.
    ``limit``: so many callbacks and listeners at most, in the order of ``spreading``.
    """

    spreading: tuple[Spreading, ...] = ()
    limit: int = 1_000


class Due(Struct, frozen=True):
    """Ids of promises past their deadline and of tasks whose timer is due, and the schedules to run, oldest first.

    Settlements that are still spreading are always due, the one whose last turn was longest ago first.
    """

    promises: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    schedules: tuple[Schedule, ...] = ()
    spreading: tuple[Spreading, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.promises or self.tasks or self.schedules or self.spreading)


class Rows(Struct):
    """A snapshot of what footprints name; what is missing does not exist."""

    promises: dict[str, Promise] = field(default_factory=dict)
    tasks: dict[str, Task] = field(default_factory=dict)
    awaiters: dict[str, list[str]] = field(default_factory=dict)
    """awaited id → ids of those to be woken, ascending unless these are all."""
    listeners: dict[str, list[str]] = field(default_factory=dict)
    """awaited id → addresses."""
    complete: set[str] = field(default_factory=set)
    """Ids of which all awaiters and listeners are here."""
    preload: list[Promise] = field(default_factory=list)
    schedules: dict[str, Schedule] = field(default_factory=dict)
    due: Due = field(default_factory=Due)
    leased: tuple[str, ...] = ()
    asked: list[Footprint | LinkFootprint] = field(default_factory=list)
    """What was loaded, in this order."""


# --- deciding -------------------------------------------------------------------------------------------------------


class PutCallback(Struct, frozen=True):
    """``awaiter`` waits for ``awaited``."""

    awaited: str
    awaiter: str


class DropCallback(Struct, frozen=True):
    """``awaiter`` has been told that ``awaited`` is settled."""

    awaited: str
    awaiter: str


class DropCallbacks(Struct, frozen=True):
    """``awaiter`` waits for nothing any more."""

    awaiter: str


class PutListener(Struct, frozen=True):
    awaited: str
    address: str


class DropListener(Struct, frozen=True):
    awaited: str
    address: str


class PutSpreading(Struct, frozen=True):
    """Insert or replace: the settlement has had its turn at ``turn_at`` (ms), and goes on."""

    spreading: Spreading
    turn_at: int


class DropSpreading(Struct, frozen=True):
    """Everybody has been told."""

    promise_id: str


type LinkChange = PutCallback | DropCallback | DropCallbacks | PutListener | DropListener | PutSpreading | DropSpreading


class LeaseLost(Struct, frozen=True):
    """``pid`` held the task and was not heard of in time, or its stream broke and it did not come back."""

    task_id: str
    pid: str


class ClaimNotice(Struct, frozen=True):
    """``waited_ms`` from creation to this first claim.

    ``recovery_ms`` from the loss of the last lease; else ``None``.
    """

    waited_ms: int | None
    recovery_ms: int | None


class SettlementNotice(Struct, frozen=True):
    """``pending_ms`` from creation to settlement."""

    pending_ms: int


class ScheduleFired(Struct, frozen=True):
    """A schedule has created a promise."""


class HandedOutInVain(Struct, frozen=True):
    """Nothing came of handing out ``task``, twice as often as when that was last told."""

    task: Task


class RunsSkipped(Struct, frozen=True):
    """Of the runs that a schedule has missed, those ``since`` the first and before ``until`` (ms) will not be made."""

    schedule_id: str
    since: int
    until: int


class ScheduledForNobody(Struct, frozen=True):
    """The promises of a new schedule have no target, so nobody will run them."""

    schedule_id: str


type Notice = (
    HandedOutInVain | LeaseLost | ClaimNotice | SettlementNotice | ScheduleFired | RunsSkipped | ScheduledForNobody
)
"""What operators want to know of; no rule depends on it."""


class Withdraw(Struct, frozen=True):
    """Nobody needs the queued ``execute`` of this task at this version any more."""

    task_id: str
    version: int


class Changes(Struct):
    """Rows to write; ``links`` apply in order.

    New rows count as a whole. Of known ones counts what can change: state, value and time of settlement of a promise,
    all but the target of a task, the times of the runs of a schedule (``None``: deleted).
    """

    promises: dict[str, Promise] = field(default_factory=dict)
    tasks: dict[str, Task] = field(default_factory=dict)
    links: list[LinkChange] = field(default_factory=list)
    schedules: dict[str, Schedule | None] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.promises or self.tasks or self.links or self.schedules)


class Decision(Struct):
    """What a rule decided: the answer, the rows to write, and what to tell delivery once they are written."""

    answer: Answer
    changes: Changes
    messages: list[Message | Withdraw]
    notices: list[Notice]


class Rule(Struct, frozen=True):
    """What is asked of rows: ``decide(rows, now)`` is pure, so it may be asked again with more or with newer rows.

    Instead of a decision it may say what it must see besides, if that is not among ``rows.asked``.
    ``request``: who asks; ``None`` for what happens by itself. ``at``: decide as of then (ms) and not of now.
    """

    decide: Callable[[Rows, int], Decision | Footprint | LinkFootprint]
    request: Request | None = None
    at: int | None = None
