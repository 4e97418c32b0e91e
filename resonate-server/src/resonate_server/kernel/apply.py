"""The single dispatch point: which rows a request touches, which rule answers it, and what happens as time passes.

Each entry point returns a footprint and a :class:`Rule` for the store: :func:`answering` for a client's request;
:func:`due`, :func:`renewing`, :func:`releasing`, :func:`setting_aside` and :func:`recalling` for internal work.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from resonate_server.kernel import moves, promises, schedules, settlement, tasks
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
)
from resonate_server.kernel.states import MOVES, Move, TaskEvent
from resonate_server.kernel.workspace import Workspace
from resonate_server.protocol import requests
from resonate_server.protocol.address import group_of
from resonate_server.protocol.answers import Answer, Nothing
from resonate_server.protocol.envelope import CheckedRequest
from resonate_server.protocol.errors import ProtocolError
from resonate_server.protocol.messages import Execute
from resonate_server.protocol.records import PromiseState

MAX_DUE = 100
"""Maximum number of due promises, of due tasks and of due schedules handled in one transaction."""

_RULES: dict[type[requests.Request], Callable[[Workspace, Any], Answer]] = {
    requests.PromiseGet: promises.promise_get,
    requests.PromiseCreate: promises.promise_create,
    requests.PromiseSettle: promises.promise_settle,
    requests.PromiseRegisterCallback: promises.promise_register_callback,
    requests.PromiseRegisterListener: promises.promise_register_listener,
    requests.TaskGet: tasks.task_get,
    requests.TaskCreate: tasks.task_create,
    requests.TaskAcquire: tasks.task_acquire,
    requests.TaskFence: tasks.task_fence,
    requests.TaskRelease: tasks.task_release,
    requests.TaskFulfill: tasks.task_fulfill,
    requests.TaskSuspend: tasks.task_suspend,
    requests.TaskHeartbeat: tasks.task_heartbeat,
    requests.TaskHalt: tasks.task_halt,
    requests.TaskContinue: tasks.task_continue,
    requests.ScheduleGet: schedules.schedule_get,
    requests.ScheduleCreate: schedules.schedule_create,
    requests.ScheduleDelete: schedules.schedule_delete,
}


def answering(checked: CheckedRequest, rules: Rules) -> tuple[Footprint, Rule]:
    """Answer ``checked``."""
    touched = footprint(checked.request)
    decide = _seeing_links(touched, partial(apply, checked, rules=rules), rules)
    return touched, Rule(decide, checked.request, checked.debug_time)


def due(
    rules: Rules, request: requests.Request | None = None, at: int | None = None, not_after: int | None = None
) -> tuple[Footprint, Rule]:
    """Do one batch of the work that is due. The data of the answer tells whether anything changed.

    After ``not_after`` (ms) nothing is done, and the data is ``None``: leases that seem over may be those of workers
    whose heartbeats could not be recorded.
    """

    def decide(rows: Rows, now: int) -> Decision | Footprint | LinkFootprint:
        if not_after is not None and now > not_after:
            return Workspace(rows, now, rules).decide(Answer(status=200, data=None))
        touched = due_footprint(rows.due, now, rules)
        if touched not in rows.asked:
            return touched
        return _seeing_links(touched, lambda rows, now: tick(rows.due, rows, now, rules), rules)(rows, now)

    return Footprint(due=MAX_DUE), Rule(decide, request, at)


def renewing(task_ids: tuple[str, ...], rules: Rules, lost_ms: int) -> tuple[Footprint, Rule]:
    """Have the leases of those of ``task_ids`` that are held last longer by ``lost_ms``, the time in which no heartbeat
    could be recorded; at most, they start again."""

    def renew(work: Workspace, task: Task) -> None:
        moves.extend(work, task, lost_ms)

    return _moving(task_ids, TaskEvent.HEARTBEAT, Move.EXTEND, renew, rules)


def releasing(group: str, pid: str, task_ids: tuple[str, ...], rules: Rules) -> tuple[Footprint, Rule]:
    """Take back those of ``task_ids`` that are for ``group`` and that ``pid`` still holds: it is gone from there, so do
    not wait for its leases to end."""

    def release(work: Workspace, task: Task) -> None:
        if task.pid == pid and group_of(task.target) == group:
            moves.take_back(work, task)

    return _moving(task_ids, TaskEvent.HOLDER_GONE, Move.REQUEUE, release, rules)


def setting_aside(executes: list[Execute], rules: Rules) -> tuple[Footprint, Rule]:
    """Set aside tasks that a worker was offered and did not claim, if they are still queued at the offered version."""
    offered = {(execute.task_id, execute.version) for execute in executes}

    def set_aside(work: Workspace, task: Task) -> None:
        if task.queued and (task.id, task.version) in offered:
            moves.set_aside(work, task)

    task_ids = tuple(execute.task_id for execute in executes)
    return _moving(task_ids, TaskEvent.PASSED_OVER, Move.SET_ASIDE, set_aside, rules)


def recalling(task_ids: tuple[str, ...], rules: Rules) -> tuple[Footprint, Rule]:
    """End the pauses of tasks that were set aside: a new worker may be able to claim them."""

    def recall(work: Workspace, task: Task) -> None:
        if not task.queued:
            moves.queue(work, task)

    return _moving(task_ids, TaskEvent.RETRY_DUE, Move.RESEND, recall, rules)


def _moving(
    task_ids: tuple[str, ...], event: TaskEvent, move: Move, act: Callable[[Workspace, Task], None], rules: Rules
) -> tuple[Footprint, Rule]:
    """Run ``act`` without a request for each task on which ``event`` has the effect ``move``, after settling the
    promises that are past their deadline."""

    def decide(rows: Rows, now: int) -> Decision:
        work = Workspace(rows, now, rules)
        settlement.touch(work, task_ids)
        for task in filter(None, map(work.task, task_ids)):
            if MOVES[event].get(task.state) is move:
                act(work, task)
        return work.decide(Answer(status=200, data=Nothing()))

    touched = Footprint(ids=task_ids)
    return touched, Rule(_seeing_links(touched, decide, rules))


def _seeing_links(
    touched: Footprint, decide: Callable[[Rows, int], Decision], rules: Rules
) -> Callable[[Rows, int], Decision | LinkFootprint]:
    """Wrap ``decide`` so that the awaiters and listeners of promises about to settle are loaded first."""

    def decide_with_links(rows: Rows, now: int) -> Decision | LinkFootprint:
        links = link_footprint(touched, rows, now, rules)
        return links if links.spreading and links not in rows.asked else decide(rows, now)

    return decide_with_links


def footprint(request: requests.Request) -> Footprint:
    """Return the rows to load before :func:`apply` may run; those of :func:`link_footprint` follow."""
    ids = request.ids or ()
    match request:  # the most frequent first
        case requests.TaskAcquire(id=id):
            return Footprint(ids=ids, shown=ids, preload_for=id)
        case requests.TaskFulfill(id=id) | requests.PromiseSettle(id=id):
            return Footprint(ids=ids, shown=ids, settles=id)
        case requests.TaskSuspend(id=id):
            return Footprint(ids=ids, preload_for=id)
        case requests.TaskFence(id=id, action=requests.FenceCreate(data=create)):
            return Footprint(ids=ids, shown=(create.id,))
        case requests.TaskFence(id=id, action=requests.FenceSettle(data=settle)):
            return Footprint(ids=ids, shown=(settle.id,), settles=settle.id)
        case requests.TaskCreate(action=action):
            branch = action.data.tags.get("resonate:branch")
            return Footprint(ids=ids, shown=ids, preload_for=action.data.id, branch=branch)
        case requests.PromiseGet() | requests.PromiseCreate() | requests.PromiseRegisterListener():
            return Footprint(ids=ids, shown=ids)
        case requests.PromiseRegisterCallback(awaited=awaited):
            return Footprint(ids=ids, shown=(awaited,))
        case requests.ScheduleGet(id=id) | requests.ScheduleCreate(id=id) | requests.ScheduleDelete(id=id):
            return Footprint(schedule=id)
    return Footprint(ids=ids)


def due_footprint(due: Due, now: int, rules: Rules) -> Footprint:
    """Return the rows to load before :func:`tick` may run; those of :func:`link_footprint` follow."""
    runs = [schedules.next_run(schedule, now, rules).next_promise_id for schedule in due.schedules]
    spreading = [each.promise_id for each in due.spreading]
    ids = tuple(dict.fromkeys([*due.promises, *due.tasks, *runs, *spreading]))
    return Footprint(ids=ids, spreading=due.spreading)


def link_footprint(footprint: Footprint, rows: Rows, now: int, rules: Rules) -> LinkFootprint:
    """Given the rows of ``footprint``, return the awaiters and listeners of promises that are about to settle."""
    settling = [
        Spreading(promise_id=promise.id)
        for promise in map(rows.promises.get, footprint.ids)
        if promise is not None
        and promise.state is PromiseState.PENDING
        and (promise.id == footprint.settles or settlement.is_expired(promise, now))
    ]
    return LinkFootprint((*settling, *footprint.spreading), rules.notify_batch_size)


def apply(checked: CheckedRequest, rows: Rows, now: int, *, rules: Rules) -> Decision:
    """Decide ``checked`` at time ``now`` (ms), given the rows of its footprint.

    A refusal is a decision, too: promises that turned out to be expired stay settled.
    """
    work = Workspace(rows, now, rules, checked.corr_id)
    try:
        answer = _RULES[type(checked.request)](work, checked.request)
    except ProtocolError as error:
        answer = Answer(status=error.status, data=error.message)
    return work.decide(answer)


def tick(due: Due, rows: Rows, now: int, rules: Rules) -> Decision:
    """Do the work due at ``now``: settle expired promises, run schedules, fire task timers, propagate settlements.

    Checks again whether each item is due.
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
    return work.decide(Answer(status=200, data=work.has_changed))


def _fire_timer(work: Workspace, task: Task) -> None:
    if MOVES[TaskEvent.RETRY_DUE].get(task.state) is Move.RESEND:
        moves.queue(work, task)
    elif MOVES[TaskEvent.LEASE_DUE].get(task.state) is Move.REQUEUE:
        moves.take_back(work, task)
