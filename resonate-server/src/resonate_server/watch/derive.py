"""Derives events from a decision: compares each promise's and each task's row before and after it.

Rules do not know that they are watched, so the reason why a task waits again is inferred from its previous state.
"""

from collections.abc import Iterator
from typing import Any

from resonate_server.kernel.model import PutCallback, Task
from resonate_server.protocol.address import group_of
from resonate_server.protocol.payload import Excerpt, Function, step_function
from resonate_server.protocol.records import Promise, PromiseState, TaskState
from resonate_server.protocol.requests import TaskFence, TaskFulfill, TaskRelease, TaskSuspend
from resonate_server.store import Decided
from resonate_server.watch.events import ChainEvent, PromiseCreated, PromiseSettled, TaskNews, What

CONFLICT = 409
CREATED, RELEASED = "created", "released"

WRITES = (TaskFence, TaskFulfill, TaskRelease, TaskSuspend)
"""Requests that only a task's holder may make. Claims are not among them: a late one is normal, as several workers may
be offered a task."""


def events(decided: Decided) -> list[ChainEvent]:
    """Return what has happened: first to promises, then to tasks as a result."""
    rows, changes = decided.rows, decided.decision.changes
    found: list[ChainEvent] = []
    for promise in changes.promises.values():
        if promise.id not in rows.promises:
            found.append(_created(promise, decided.now))
        if promise.state is not PromiseState.PENDING:
            found.append(_settled(promise, rows.tasks.get(promise.id), decided))
    for task in changes.tasks.values():
        before = rows.tasks.get(task.id)
        if before is None or before.state is not task.state or _is_offered_anew(before, task):
            promise = changes.promises.get(task.id) or rows.promises[task.id]
            found += _moved(before, task, chain_of(promise), decided)
    return [*found, *_refused(decided)]


def _is_offered_anew(before: Task, task: Task) -> bool:
    return (task.queued and before.timer_at != task.timer_at) or before.unclaimed != task.unclaimed


def chain_of(promise: Promise) -> str:
    """Return the id of the root of its call tree."""
    return promise.tags.get("resonate:origin") or promise.id


def _created(promise: Promise, now: int) -> PromiseCreated:
    id, tags, param = promise.id, promise.tags, promise.param.data
    parent = tags.get("resonate:parent")
    return PromiseCreated(
        at=now,
        chain=tags.get("resonate:origin") or id,
        id=id,
        parent=None if parent == id else parent,
        func=Function(param) if param else step_function(tags),
        group=group_of(tags.get("resonate:target")),
        timer=tags.get("resonate:timer") == "true",
        timeout_at=promise.timeout_at,
        created_at=promise.created_at,
    )


def _settled(promise: Promise, before: Task | None, decided: Decided) -> PromiseSettled:
    settled_at, value, request = promise.settled_at, promise.value.data, decided.request
    return PromiseSettled(
        at=decided.now,
        chain=chain_of(promise),
        id=promise.id,
        state=promise.state,
        value=Excerpt(value) if value else None,
        created_at=promise.created_at,
        settled_at=settled_at or decided.now,
        pid=None if before is None else before.pid,
        version=0 if before is None else before.version,
        by_worker=isinstance(request, TaskFulfill) and request.id == promise.id,
    )


def _moved(before: Task | None, task: Task, chain: str, decided: Decided) -> Iterator[TaskNews]:
    """Yield what happened to a task that is in another state now, or is offered again."""
    holder = None if before is None else before.pid
    common: Any = {"at": decided.now, "chain": chain, "id": task.id, "version": task.version}
    group = group_of(task.target)
    match task.state:
        case TaskState.PENDING:  # It is new, its attempt came to nothing, or what it awaited has settled.
            reason = _reason(before, task, decided.now)
            if before is not None and before.state is TaskState.ACQUIRED:
                if reason == RELEASED:
                    trouble, why = task.report().trouble, task.reason or ""
                    yield TaskNews(**common, kind=What.RELEASED, pid=holder, trouble=trouble, why=why)
                else:
                    yield TaskNews(**common, kind=What.LOST, pid=holder, reason=reason)
            if before is not None and task.unclaimed > before.unclaimed:
                yield TaskNews(**common, kind=What.UNCLAIMED, group=group, trouble=task.report().trouble)
            if task.queued:  # A timer, or a task that is delayed, waits without an event.
                yield TaskNews(**common, kind=What.QUEUED, group=group, reason=reason)
        case TaskState.ACQUIRED:
            yield TaskNews(**common, kind=What.CLAIMED, group=group, pid=task.pid)
        case TaskState.SUSPENDED:
            yield TaskNews(**common, kind=What.SUSPENDED, pid=holder, on=_awaited(task.id, decided))
        case TaskState.HALTED:
            yield TaskNews(**common, kind=What.HALTED, pid=holder)
        case TaskState.FULFILLED:
            pass  # The event of its promise is enough.


def _reason(before: Task | None, task: Task, now: int) -> str:
    if before is None:
        return CREATED
    if before.state is TaskState.SUSPENDED:
        return "resumed"
    if before.state is TaskState.HALTED:
        return "continued"
    if before.state is TaskState.ACQUIRED:
        return RELEASED if task.lost_at is None else _loss(before, now)
    if before.queued or task.unclaimed:
        return "retry"
    return RELEASED if task.releases else CREATED  # After the pause, or the requested delay.


def _loss(before: Task, now: int) -> str:
    """Return why the task was lost. A lease that had not ended yet was taken back: its holder is gone."""
    return "lease" if before.timer_at is not None and before.timer_at <= now else "gone"


def _awaited(id: str, decided: Decided) -> list[str]:
    links = decided.decision.changes.links
    return [link.awaited for link in links if isinstance(link, PutCallback) and link.awaiter == id]


def _refused(decided: Decided) -> Iterator[ChainEvent]:
    request = decided.request
    if decided.decision.answer.status != CONFLICT or not isinstance(request, WRITES):
        return
    if (promise := decided.rows.promises.get(request.id)) is not None:
        yield TaskNews(
            kind=What.REFUSED,
            at=decided.now,
            chain=chain_of(promise),
            id=request.id,
            version=request.version,
            request=request.kind,
        )
