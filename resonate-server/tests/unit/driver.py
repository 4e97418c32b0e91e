"""Drives a kernel on a store under a hand-moved clock, and shorthands for requests. No assertions in here."""

from collections.abc import Callable

from msgspec.structs import replace
from unit.rows import transaction

from resonate_server import kernel
from resonate_server.engine.reports import lost_leases
from resonate_server.kernel.model import (
    Decision,
    Due,
    Footprint,
    LinkFootprint,
    Rows,
    Rule,
    Rules,
    Spreading,
    Task,
    Withdraw,
)
from resonate_server.protocol.answers import Answer
from resonate_server.protocol.envelope import CheckedRequest
from resonate_server.protocol.messages import Execute, Message, Unblock
from resonate_server.protocol.records import EMPTY, Promise, PromiseState, Value
from resonate_server.protocol.requests import (
    Action,
    FenceCreate,
    FenceSettle,
    PromiseCreate,
    PromiseGet,
    PromiseRegisterCallback,
    PromiseRegisterListener,
    PromiseSettle,
    Request,
    SuspendAction,
    TaskAcquire,
    TaskContinue,
    TaskCreate,
    TaskFence,
    TaskFulfill,
    TaskGet,
    TaskHalt,
    TaskHeartbeat,
    TaskRef,
    TaskRelease,
    TaskSuspend,
)
from resonate_server.store import Decided
from resonate_server.store.sqlite import IN_MEMORY, Database

START = 1_700_000_000_000
"""The time at which every test begins, in ms since the epoch."""

SECOND, HOUR = 1_000, 3_600_000
FAR = START + 24 * HOUR
"""A deadline that no test reaches by accident."""

TARGET = "poll://any@workers"
RETRY = 30 * SECOND
LEASE = 10 * SECOND
PID, OTHER_PID = "pid-1", "pid-2"
CORR_ID = "corr-id"


def value(data: str) -> Value:
    return Value(data=data)


def promise_create(
    id: str, *, target: str | None = TARGET, timeout_at: int = FAR, param: Value = EMPTY, **tags: str
) -> PromiseCreate:
    """``tags`` omit ``resonate:``. A promise without a target may be awaited unless ``external`` says otherwise."""
    named = {f"resonate:{name}": text for name, text in tags.items()}
    if target is not None:
        named["resonate:target"] = target
    else:
        named.setdefault("resonate:external", "true")
    return PromiseCreate(id=id, timeout_at=timeout_at, param=param, tags=named)


def promise_settle(id: str, state: PromiseState = PromiseState.RESOLVED, result: Value = EMPTY) -> PromiseSettle:
    return PromiseSettle(id=id, state=state, value=result)


def task_acquire(id: str, version: int = 0, pid: str = PID, ttl: int = LEASE) -> TaskAcquire:
    return TaskAcquire(id=id, version=version, pid=pid, ttl=ttl)


def task_suspend(id: str, version: int, *awaited: str, patience: int = 0) -> TaskSuspend:
    actions = [Action(data=SuspendAction(awaited=name, awaiter=id)) for name in awaited]
    return TaskSuspend(id=id, version=version, actions=actions, patience=patience)


class Driver:
    """A kernel on a store, one transaction per request; ``now`` moves only by hand."""

    def __init__(self, store: Database | None = None, rules: Rules | None = None) -> None:
        self.store: Database = store or Database(IN_MEMORY)
        self.rules = rules or Rules(retry_timeout_ms=RETRY)
        self.now = START
        self.sent: list[Message | Withdraw] = []
        self.decided: list[Decided] = []

    def call(self, request: Request, corr_id: str = CORR_ID) -> Answer:
        """Load, decide, write; messages are not stored."""
        asked = CheckedRequest(corr_id=corr_id, request=request)
        return self.decide(*kernel.answering(asked, self.rules)).answer

    def tick(self, due: Due | None = None) -> None:
        """Do what is due now, or what ``due`` says is due."""
        footprint, rule = kernel.due(self.rules)
        if due is None:
            self.decide(replace(footprint, due=1_000), rule)
        else:
            self.decide(Footprint(), replace(rule, decide=_claiming(due, rule)))

    def set_aside(self, id: str, version: int) -> None:
        """A worker was offered the task and has not claimed it."""
        self.decide(*kernel.setting_aside([Execute(task_id=id, version=version, target="")], self.rules))

    def recall(self, group: str) -> None:
        """A worker of the group has connected."""
        self.decide(*kernel.recalling(tuple(self.store.set_aside_tasks(group, 1_000)), self.rules))

    def release_leases(self, pid: str) -> None:
        """Take back what ``pid`` holds: it is gone."""
        self.decide(*kernel.releasing("workers", pid, tuple(self.store.held_tasks(pid)), self.rules))

    def decide(self, footprint: Footprint, rule: Rule) -> Decision:
        with transaction(self.store):
            decided = self.store.decide(footprint, rule, self.now)
        self.sent += decided.decision.messages
        self.decided.append(decided)
        return decided.decision

    def wait(self, ms: int) -> None:
        """Pass time and then do everything that is due by then, as after a busy second."""
        self.now += ms
        self.tick()

    # --- what can be seen -------------------------------------------------------------------------------------------

    def promise(self, id: str) -> Promise:
        """Return the row as stored, untouched by lazy expiry. ``KeyError`` if there is none."""
        return self._load(id).promises[id]

    def task(self, id: str) -> Task:
        """Return the row of the task. ``KeyError`` if there is none."""
        return self._load(id).tasks[id]

    def _load(self, id: str) -> Rows:
        with transaction(self.store):
            return self.store.load(Footprint(ids=(id,), shown=(id,)))

    def callbacks(self, awaited: str) -> set[str]:
        """Return the tasks to be woken when ``awaited`` settles."""
        return set(self._links(awaited).awaiters[awaited])

    def listeners(self, awaited: str) -> list[str]:
        return sorted(self._links(awaited).listeners[awaited])

    def _links(self, awaited: str) -> Rows:
        rows = Rows()
        with transaction(self.store):
            self.store.load_links(rows, LinkFootprint(spreading=(Spreading(awaited),)))
        return rows

    def take_executes(self) -> list[tuple[str, int]]:
        """Return (task, version) of each ``execute`` since the last call."""
        return [(message.task_id, message.version) for message in self._take(Execute)]

    def take_unblocks(self) -> list[Unblock]:
        return self._take(Unblock)

    def leases_lost(self) -> list[str]:
        """Return the tasks that lost their leases since :meth:`forget_messages`."""
        return [task.id for decided in self.decided for task in lost_leases(decided)]

    def take_withdrawn(self) -> list[str]:
        return [message.task_id for message in self._take(Withdraw)]

    def _take[M](self, kind: type[M]) -> list[M]:
        taken: list[M] = [message for message in self.sent if isinstance(message, kind)]
        self.sent = [message for message in self.sent if not isinstance(message, kind)]
        return taken

    def forget_messages(self) -> None:
        """Drop the messages sent so far: the test is not about them."""
        self.sent.clear()
        self.decided.clear()

    # --- promise.* --------------------------------------------------------------------------------------------------

    def create(
        self, id: str, *, target: str | None = TARGET, timeout_at: int = FAR, param: Value = EMPTY, **tags: str
    ) -> Answer:
        return self.call(promise_create(id, target=target, timeout_at=timeout_at, param=param, **tags))

    def get(self, id: str) -> Answer:
        return self.call(PromiseGet(id=id))

    def settle(self, id: str, state: PromiseState = PromiseState.RESOLVED, result: Value = EMPTY) -> Answer:
        return self.call(promise_settle(id, state, result))

    def register_callback(self, awaited: str, awaiter: str) -> Answer:
        return self.call(PromiseRegisterCallback(awaited=awaited, awaiter=awaiter))

    def register_listener(self, awaited: str, address: str) -> Answer:
        return self.call(PromiseRegisterListener(awaited=awaited, address=address))

    # --- task.* -----------------------------------------------------------------------------------------------------

    def get_task(self, id: str) -> Answer:
        return self.call(TaskGet(id=id))

    def create_task(self, create: PromiseCreate, *, pid: str = PID, ttl: int = LEASE, corr_id: str = CORR_ID) -> Answer:
        return self.call(TaskCreate(pid=pid, ttl=ttl, action=Action(data=create)), corr_id)

    def acquire(self, id: str, version: int = 0, *, pid: str = PID, ttl: int = LEASE, corr_id: str = CORR_ID) -> Answer:
        return self.call(task_acquire(id, version, pid, ttl), corr_id)

    def release(self, id: str, version: int, reason: str | None = None) -> Answer:
        return self.call(TaskRelease(id=id, version=version, reason=reason))

    def fulfill(
        self, id: str, version: int, state: PromiseState = PromiseState.RESOLVED, result: Value = EMPTY
    ) -> Answer:
        return self.call(TaskFulfill(id=id, version=version, action=Action(data=promise_settle(id, state, result))))

    def suspend(self, id: str, version: int, *awaited: str) -> Answer:
        return self.call(task_suspend(id, version, *awaited))

    def fence(self, id: str, version: int, request: PromiseCreate | PromiseSettle) -> Answer:
        action = FenceCreate(data=request) if isinstance(request, PromiseCreate) else FenceSettle(data=request)
        return self.call(TaskFence(id=id, version=version, action=action))

    def heartbeat(self, *refs: tuple[str, int], pid: str = PID) -> Answer:
        return self.call(TaskHeartbeat(pid=pid, tasks=[TaskRef(id=id, version=version) for id, version in refs]))

    def halt(self, id: str) -> Answer:
        return self.call(TaskHalt(id=id))

    def continue_(self, id: str) -> Answer:
        return self.call(TaskContinue(id=id))

    # --- states to begin from ---------------------------------------------------------------------------------------

    def pending(self, id: str) -> None:
        """Task ``id`` waits for a worker, at version 0."""
        self.create(id)
        self.forget_messages()

    def acquired(self, id: str, *, ttl: int = LEASE, pid: str = PID) -> None:
        """Task ``id`` is held by ``pid``, at version 1."""
        self.create(id)
        self.acquire(id, 0, ttl=ttl, pid=pid)
        self.forget_messages()

    def suspended(self, id: str, *awaited: str) -> None:
        """Task ``id`` waits for ``awaited``, created if missing, at version 1."""
        self.acquired(id)
        for name in awaited:
            self.create(name, target=None)
        self.suspend(id, 1, *awaited)
        self.forget_messages()

    def halted(self, id: str) -> None:
        """Task ``id`` is halted by an operator, at version 0."""
        self.create(id)
        self.halt(id)
        self.forget_messages()

    def fulfilled(self, id: str) -> None:
        """Task ``id`` is fulfilled, at version 0."""
        self.create(id)
        self.settle(id)
        self.forget_messages()


def _claiming(due: Due, rule: Rule) -> Callable[[Rows, int], Decision | Footprint | LinkFootprint]:
    def decide(rows: Rows, now: int) -> Decision | Footprint | LinkFootprint:
        rows.due = due
        return rule.decide(rows, now)

    return decide
