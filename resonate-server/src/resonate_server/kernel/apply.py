"""The one dispatch point: which rows a request touches, which rule answers it, and what happens when time passes."""

from collections.abc import Callable, Iterable
from typing import Any

from resonate_server.kernel import moves, promises, schedules, settlement, tasks
from resonate_server.kernel.model import Decision, Due, Footprint, LinkFootprint, Rows, Rules, Spreading, Task
from resonate_server.kernel.states import MOVES, Event, Move
from resonate_server.kernel.workspace import Workspace
from resonate_server.protocol.answers import Answer, Nothing
from resonate_server.protocol.envelope import Call
from resonate_server.protocol.errors import ProtocolError
from resonate_server.protocol.messages import Execute
from resonate_server.protocol.records import PromiseState
from resonate_server.protocol.requests import (
    FenceCreate,
    FenceSettle,
    PromiseCreate,
    PromiseGet,
    PromiseRegisterCallback,
    PromiseRegisterListener,
    PromiseSettle,
    Request,
    ScheduleCreate,
    ScheduleDelete,
    ScheduleGet,
    TaskAcquire,
    TaskContinue,
    TaskCreate,
    TaskFence,
    TaskFulfill,
    TaskGet,
    TaskHalt,
    TaskHeartbeat,
    TaskRelease,
    TaskSuspend,
)

_RULES: dict[type[Request], Callable[[Workspace, Any], Answer]] = {
    PromiseGet: promises.promise_get,
    PromiseCreate: promises.promise_create,
    PromiseSettle: promises.promise_settle,
    PromiseRegisterCallback: promises.promise_register_callback,
    PromiseRegisterListener: promises.promise_register_listener,
    TaskGet: tasks.task_get,
    TaskCreate: tasks.task_create,
    TaskAcquire: tasks.task_acquire,
    TaskFence: tasks.task_fence,
    TaskRelease: tasks.task_release,
    TaskFulfill: tasks.task_fulfill,
    TaskSuspend: tasks.task_suspend,
    TaskHeartbeat: tasks.task_heartbeat,
    TaskHalt: tasks.task_halt,
    TaskContinue: tasks.task_continue,
    ScheduleGet: schedules.schedule_get,
    ScheduleCreate: schedules.schedule_create,
    ScheduleDelete: schedules.schedule_delete,
}


def footprint(request: Request) -> Footprint:
    """What must be loaded before :func:`apply` may run; then comes what :func:`link_footprint` tells."""
    ids = request.ids or ()
    match request:
        case ScheduleGet(id=id) | ScheduleCreate(id=id) | ScheduleDelete(id=id):
            return Footprint(schedule=id)
        case TaskCreate(action=action):
            branch = action.data.tags.get("resonate:branch")
            return Footprint(ids=ids, shown=ids, preload_for=action.data.id, branch=branch)
        case TaskAcquire(id=id):
            return Footprint(ids=ids, shown=ids, preload_for=id)
        case TaskSuspend(id=id):
            return Footprint(ids=ids, preload_for=id)
        case TaskFence(id=id, action=FenceCreate(data=create)):
            return Footprint(ids=ids, shown=(create.id,), preload_for=id)
        case TaskFence(id=id, action=FenceSettle(data=settle)):
            return Footprint(ids=ids, shown=(settle.id,), settles=settle.id, preload_for=id)
        case PromiseGet() | PromiseCreate():
            return Footprint(ids=ids, shown=ids)
        case PromiseSettle(id=id) | TaskFulfill(id=id):
            return Footprint(ids=ids, shown=ids, settles=id)
        case PromiseRegisterListener():
            return Footprint(ids=ids, shown=ids)
        case PromiseRegisterCallback(awaited=awaited, awaiter=awaiter):
            return Footprint(ids=ids, shown=(awaited,), callback=(awaited, awaiter))
    return Footprint(ids=ids)


def due_footprint(due: Due, now: int, rules: Rules) -> Footprint:
    """What must be loaded before :func:`tick` may run; then comes what :func:`link_footprint` tells."""
    runs = [schedules.next_run(schedule, now, rules).next_promise_id for schedule in due.schedules]
    spreading = [each.promise_id for each in due.spreading]
    ids = tuple(dict.fromkeys([*due.promises, *due.tasks, *runs, *spreading]))
    return Footprint(ids=ids, spreading=due.spreading)


def link_footprint(footprint: Footprint, rows: Rows, now: int) -> LinkFootprint:
    """What must be loaded besides, given the rows of ``footprint``: who waits for what is about to be settled."""
    settling = [
        Spreading(promise_id=promise.id)
        for promise in map(rows.promises.get, footprint.ids)
        if promise is not None
        and promise.state is PromiseState.PENDING
        and (promise.id == footprint.settles or settlement.is_expired(promise, now))
    ]
    callback = footprint.callback
    if callback is not None:
        awaited = rows.promises.get(callback[0])
        if awaited is None or awaited.state is PromiseState.PENDING:
            callback = None
    return LinkFootprint(spreading=(*settling, *footprint.spreading), callback=callback)


def apply(call: Call, rows: Rows, now: int, rules: Rules) -> Decision:
    """Decide ``call`` at time ``now`` (ms), given the rows of its footprint.

    A refusal is a decision too: deadlines that it ran into stay settled.
    """
    work = Workspace(rows, now, rules, call.corr_id)
    try:
        answer = _RULES[type(call.request)](work, call.request)
    except ProtocolError as error:
        answer = Answer(status=error.status, data=error.message)
    return work.decide(answer)


def tick(due: Due, rows: Rows, now: int, rules: Rules) -> Decision:
    """Do what is due at ``now``: settle expired promises, run schedules, dispatch again, end leases, tell on.

    Dueness is checked again here.
    """
    work = Workspace(rows, now, rules)
    settlement.touch(work, [*due.promises, *due.tasks])
    for schedule in due.schedules:
        schedules.fire(work, schedule)
    for id in due.tasks:
        task = work.task(id)
        if task is not None and task.timer_at is not None and now >= task.timer_at:
            _fire_timer(work, task)
    for spreading in due.spreading:
        settlement.spread(work, spreading)
    return work.decide(Answer(status=200, data=Nothing()))


def release_leases(pid: str, task_ids: Iterable[str], rows: Rows, now: int, rules: Rules) -> Decision:
    """Take back what ``pid`` still holds of ``task_ids``: it is gone, and nobody need wait for its leases to end."""
    work = Workspace(rows, now, rules)
    settlement.touch(work, task_ids)
    for id in task_ids:
        task = work.task(id)
        if task is not None and task.pid == pid and MOVES[Event.HOLDER_GONE].get(task.state) is Move.REQUEUE:
            moves.take_back(work, task)
    return work.decide(Answer(status=200, data=Nothing()))


def set_aside(executes: Iterable[Execute], rows: Rows, now: int, rules: Rules) -> Decision:
    """A worker was told of these tasks and has not claimed them; it concerns those that still wait at that version."""
    work = Workspace(rows, now, rules)
    settlement.touch(work, [execute.task_id for execute in executes])
    for execute in executes:
        task = work.task(execute.task_id)
        if task is None or not task.queued or task.version != execute.version:
            continue
        if MOVES[Event.PASSED_OVER].get(task.state) is Move.SET_ASIDE:
            moves.set_aside(work, task)
    return work.decide(Answer(status=200, data=Nothing()))


def recall(task_ids: Iterable[str], rows: Rows, now: int, rules: Rules) -> Decision:
    """End the pauses of tasks that were set aside: a worker has come that may be able to claim them."""
    work = Workspace(rows, now, rules)
    settlement.touch(work, task_ids)
    for id in task_ids:
        task = work.task(id)
        if task is not None and not task.queued and MOVES[Event.RETRY_DUE].get(task.state) is Move.RESEND:
            moves.queue(work, task)
    return work.decide(Answer(status=200, data=Nothing()))


def renew_leases(task_ids: Iterable[str], rows: Rows, now: int, rules: Rules) -> Decision:
    """Begin the leases of ``task_ids`` anew: nobody's heartbeats could be heard while the server was away."""
    work = Workspace(rows, now, rules)
    for id in task_ids:
        task = work.task(id)
        if task is not None and MOVES[Event.HEARTBEAT][task.state] is Move.EXTEND:
            moves.extend(work, task)
    return work.decide(Answer(status=200, data=Nothing()))


def _fire_timer(work: Workspace, task: Task) -> None:
    if MOVES[Event.RETRY_DUE].get(task.state) is Move.RESEND:
        moves.queue(work, task)
    elif MOVES[Event.LEASE_DUE].get(task.state) is Move.REQUEUE:
        moves.take_back(work, task)
