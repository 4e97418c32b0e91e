"""From a decision to events: what has become of each promise and task, told by its row before and its row after.

Rules do not know that they are watched: why a task waits again follows from the state that it comes from.
"""

from collections.abc import Iterator

from msgspec import UNSET

from resonate_server.engine.observer import Decided
from resonate_server.kernel.model import PutCallback, Rows, Task
from resonate_server.protocol.address import PollAddress, parse_address
from resonate_server.protocol.errors import Malformed
from resonate_server.protocol.records import Promise, PromiseState, TaskState
from resonate_server.protocol.requests import Request, TaskFence, TaskFulfill, TaskRelease, TaskSuspend
from resonate_server.watch.events import (
    ChainEvent,
    PromiseCreated,
    PromiseSettled,
    TaskClaimed,
    TaskHalted,
    TaskLost,
    TaskQueued,
    TaskRefused,
    TaskReleased,
    TaskSuspended,
)
from resonate_server.watch.payload import Function, excerpt

CONFLICT = 409

WRITES = (TaskFence, TaskFulfill, TaskRelease, TaskSuspend)
"""What only the holder of a task may do. That a claim comes too late is nothing special: several are told."""


def events(decided: Decided) -> list[ChainEvent]:
    """What has happened: first to promises, then what became of tasks for that reason."""
    rows, changes, now = decided.rows, decided.decision.changes, decided.now
    found: list[ChainEvent] = []
    for promise in changes.promises.values():
        if promise.id not in rows.promises:
            found.append(_created(promise, now))
        if promise.state is not PromiseState.PENDING:
            found.append(_settled(promise, now))
    for task in changes.tasks.values():
        before = rows.tasks.get(task.id)
        if before is None or before.state is not task.state or before.queued is not task.queued or task.queued:
            promise = changes.promises.get(task.id) or rows.promises[task.id]
            found += _moved(before, task, chain_of(promise), decided)
    if decided.decision.answer.status == CONFLICT and isinstance(decided.request, WRITES):
        found += _refused(decided.request, rows, now)
    return found


def chain_of(promise: Promise) -> str:
    """Id of the root of its call tree."""
    return promise.tags.get("resonate:origin") or promise.id


def group_of(target: str | None) -> str | None:
    """The group of workers that a task is for; the URL of one that is told by HTTP."""
    if target is None:
        return None
    if target.startswith("poll://any@") and "/" not in target[11:] and "%" not in target:
        return target[11:]  # What nearly all are, without parsing.
    try:
        address = parse_address(target)
    except Malformed:
        return target
    return address.group if isinstance(address, PollAddress) else address.url


def _created(promise: Promise, now: int) -> PromiseCreated:
    parent, param = promise.parent, excerpt(promise.param)
    return PromiseCreated(
        0,
        now,
        chain_of(promise),
        promise.id,
        None if parent == promise.id else parent,
        None if param is None else Function(param),
        group_of(promise.target),
        promise.is_timer,
        promise.timeout_at,
        promise.created_at,
    )


def _settled(promise: Promise, now: int) -> PromiseSettled:
    settled_at = now if promise.settled_at is UNSET else promise.settled_at
    value = excerpt(promise.value)
    return PromiseSettled(0, now, chain_of(promise), promise.id, promise.state, value, promise.created_at, settled_at)


def _moved(before: Task | None, task: Task, chain: str, decided: Decided) -> Iterator[ChainEvent]:
    now = decided.now
    match task.state:
        case TaskState.PENDING:
            yield from _returned(before, task, chain, now)
            if task.queued and not _is_unchanged(before, task):
                yield TaskQueued(
                    0, now, chain, task.id, group_of(task.target), task.version, _reason(before, task, now)
                )
        case TaskState.ACQUIRED:
            yield TaskClaimed(0, now, chain, task.id, group_of(task.target), task.pid, task.version)
        case TaskState.SUSPENDED:
            pid = None if before is None else before.pid
            yield TaskSuspended(0, now, chain, task.id, pid, task.version, _awaited(task.id, decided))
        case TaskState.HALTED:
            yield TaskHalted(0, now, chain, task.id, None if before is None else before.pid, task.version)


def _returned(before: Task | None, task: Task, chain: str, now: int) -> Iterator[ChainEvent]:
    """The end of an attempt that came to nothing."""
    if before is None or before.state is not TaskState.ACQUIRED:
        return
    if task.lost_at is None:
        yield TaskReleased(0, now, chain, task.id, before.pid, before.version)
    else:
        yield TaskLost(0, now, chain, task.id, before.pid, before.version, _loss(before, now))


def _is_unchanged(before: Task | None, task: Task) -> bool:
    """Queued as it was: it is only told that something it awaits is settled."""
    return before is not None and before.queued and before.timer_at == task.timer_at


def _reason(before: Task | None, task: Task, now: int) -> str:
    match None if before is None else before.state:
        case TaskState.ACQUIRED:
            assert before is not None
            return "released" if task.lost_at is None else _loss(before, now)
        case TaskState.SUSPENDED:
            return "resumed"
        case TaskState.HALTED:
            return "continued"
    if before is not None and before.queued:
        return "retry"
    return "released" if task.releases else "created"  # At once, or after the delay that was asked for.


def _loss(before: Task, now: int) -> str:
    """A lease that has not ended yet was taken back, because its holder is gone."""
    return "lease" if before.timer_at is not None and before.timer_at <= now else "gone"


def _awaited(id: str, decided: Decided) -> list[str]:
    links = decided.decision.changes.links
    awaited = [link.awaited for link in links if isinstance(link, PutCallback) and link.awaiter == id]
    known = (each for each, awaiters in decided.rows.callbacks.items() if id in awaiters)
    return list(dict.fromkeys([*awaited, *known]))


def _refused(request: Request, rows: Rows, now: int) -> Iterator[ChainEvent]:
    assert isinstance(request, WRITES)
    promise = rows.promises.get(request.id)
    if promise is not None:
        yield TaskRefused(0, now, chain_of(promise), request.id, request.version, request.kind)
