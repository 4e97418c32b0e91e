"""The rules of ``task.*`` (protocol section 3.2), one function per kind."""

from resonate_server.kernel import moves, promises, settlement
from resonate_server.kernel.model import PutCallback, Task
from resonate_server.kernel.sizes import fitting, is_read
from resonate_server.kernel.states import Move, TaskEvent
from resonate_server.kernel.workspace import Workspace
from resonate_server.protocol.answers import (
    Answer,
    ClaimData,
    FencedData,
    Nothing,
    PreloadData,
    PromiseData,
    TaskData,
)
from resonate_server.protocol.envelope import ResponseEnvelope, ResponseHead
from resonate_server.protocol.errors import NotFound, Unprocessable
from resonate_server.protocol.records import Promise, PromiseState, TaskState
from resonate_server.protocol.requests import (
    FenceCreate,
    FenceSettle,
    PromiseCreate,
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

_DONE = Answer(status=200, data=Nothing())


def task_get(work: Workspace, request: TaskGet) -> Answer:
    settlement.touch(work, [request.id])
    return Answer(status=200, data=TaskData(task=work.task_or_404(request.id).report()))


def task_create(work: Workspace, request: TaskCreate) -> Answer:
    """Create a promise whose task the caller acquires at once, instead of having it delivered to a worker."""
    create = request.action.data
    claim = moves.Claim(pid=request.pid, ttl=request.ttl, id=work.corr_id)
    settlement.touch(work, [create.id])
    promise = work.promise(create.id)
    if promise is None:
        return _create_and_acquire(work, create, claim)
    task = work.task(promise.id)
    if task is None:
        raise Unprocessable(f"promise {promise.id} exists without a target: it has no task")
    if moves.is_repeated(task, claim, task.version - 1):
        return _acquired(work, task, promise)
    if moves.move_for(TaskEvent.CREATE, task) is Move.CLAIM:
        return _acquired(work, moves.acquire(work, task, claim), promise)
    return _without_preload(task, promise)


def _create_and_acquire(work: Workspace, create: PromiseCreate, claim: moves.Claim) -> Answer:
    """Create the promise, and its task already acquired, without an ``execute``: the caller runs it."""
    promise = promises.create(work, create)
    if promise.state is not PromiseState.PENDING:
        promises.create_task(work, promise)
        return _without_preload(work.task_or_404(promise.id), promise)
    task = Task(id=promise.id, target=promise.target or "", state=TaskState.PENDING)
    return _acquired(work, moves.acquire(work, task, claim), promise)


def task_acquire(work: Workspace, request: TaskAcquire) -> Answer:
    """Compare-and-swap on (pending, version): of several workers that were offered the task, one gets it."""
    claim = moves.Claim(pid=request.pid, ttl=request.ttl, id=work.corr_id)
    settlement.touch(work, [request.id])
    task = work.task_or_404(request.id)
    if not moves.is_repeated(task, claim, request.version):
        moves.require(Move.CLAIM, TaskEvent.ACQUIRE, task, request.version)
        task = moves.acquire(work, task, claim)
    return _acquired(work, task, work.promise_or_404(request.id))


def task_release(work: Workspace, request: TaskRelease) -> Answer:
    settlement.touch(work, [request.id])
    task = work.task_or_404(request.id)
    moves.require(Move.REQUEUE, TaskEvent.RELEASE, task, request.version)
    moves.release(work, task, request.reason)
    return _DONE


def task_fulfill(work: Workspace, request: TaskFulfill) -> Answer:
    """Settle the task's own promise. If it has expired meanwhile, the touch has fulfilled the task: 409."""
    settlement.touch(work, [request.id])
    task = work.task_or_404(request.id)
    moves.require(Move.FINISH, TaskEvent.FULFILL, task, request.version)
    settle = request.action.data
    promise = settlement.settle(work, work.promise_or_404(request.id), settle.state, settle.value)
    return Answer(status=200, data=PromiseData(promise=promise))


def task_suspend(work: Workspace, request: TaskSuspend) -> Answer:
    """Suspend until one of ``awaited`` settles. If one is settled already, answer 300, and the worker continues."""
    settlement.touch(work, [request.id, *request.awaited])
    task = work.task_or_404(request.id)
    moves.require(Move.PARK, TaskEvent.SUSPEND, task, request.version)
    own = work.promise_or_404(request.id)
    awaited = [_awaited_or_422(work, own, id) for id in request.awaited]
    if any(promise.state is not PromiseState.PENDING for promise in awaited):
        moves.forget_resumes(work, task)
        return Answer(status=300, data=PreloadData(preload=_preload(work, task.id)))
    for promise in awaited:
        work.link(PutCallback(awaited=promise.id, awaiter=task.id))
    moves.park(work, task)
    return _DONE


def _awaited_or_422(work: Workspace, own: Promise, id: str) -> Promise:
    promise = work.promise(id)
    if promise is None:
        raise Unprocessable(f"awaited promise {id} does not exist")
    promises.require_awaitable(promise)
    promises.require_in_reach(own, promise)
    return promise


def task_fence(work: Workspace, request: TaskFence) -> Answer:
    """Run a promise request only while the caller still holds the task."""
    settlement.touch(work, [request.id, request.action.data.id])
    task = work.task_or_404(request.id)
    moves.require(Move.KEEP, TaskEvent.FENCE, task, request.version)
    existing = work.promise(request.action.data.id)
    if existing is not None:
        promises.require_in_reach(work.promise_or_404(request.id), existing)
    inner = _apply_fenced(work, request.action)
    made = work.promise(request.action.data.id)
    if existing is None and made is not None and not made.is_below:
        work.put_caller(made.id, request.id)
    head = ResponseHead(corr_id=work.corr_id, status=inner.status)
    action = ResponseEnvelope(kind=request.action.data.kind, head=head, data=inner.data)
    return Answer(status=200, data=FencedData(action=action))


def _apply_fenced(work: Workspace, action: FenceCreate | FenceSettle) -> Answer:
    match action:
        case FenceCreate(data=create):
            return promises.promise_create(work, create)
        case FenceSettle(data=settle):
            try:
                return promises.promise_settle(work, settle)
            except NotFound as error:
                return Answer(status=error.status, data=error.message)


def task_heartbeat(work: Workspace, request: TaskHeartbeat) -> Answer:
    """Extend the leases that the process still holds; silently ignore all other tasks it names."""
    for ref in request.tasks:
        _beat(work, ref, request.pid)
    return _DONE


def _beat(work: Workspace, ref: TaskRef, pid: str) -> None:
    task, promise = work.task(ref.id), work.promise(ref.id)
    if task is None or promise is None or task.pid != pid or task.version != ref.version:
        return
    if settlement.is_expired(promise, work.now):
        return
    if moves.move_for(TaskEvent.HEARTBEAT, task) is Move.EXTEND:
        moves.extend(work, task)


def task_halt(work: Workspace, request: TaskHalt) -> Answer:
    settlement.touch(work, [request.id])
    task = work.task_or_404(request.id)
    if moves.move_for(TaskEvent.HALT, task) is Move.HALT:
        moves.halt(work, task)
    return _DONE


def task_continue(work: Workspace, request: TaskContinue) -> Answer:
    settlement.touch(work, [request.id])
    task = work.task_or_404(request.id)
    moves.require(Move.REQUEUE, TaskEvent.CONTINUE, task)
    moves.queue(work, task)
    return _DONE


def _preload(work: Workspace, task_id: str) -> list[Promise]:
    """Return promises to send along with a task, which save a replay the round trips (section 3.4).

    These are the local steps of the execution (same branch) and, beyond the official rule, the promises that the task
    created (its children). SDKs use them only as a cache of the server's answers.
    """
    own = work.promise_or_404(task_id)
    related = [
        settlement.projected(promise, work.now)
        for promise in work.preload_candidates()
        if promise.id != task_id and (promise.parent == task_id or (own.branch and promise.branch == own.branch))
        if is_read(promise)
    ]
    return list(fitting(sorted(related, key=lambda promise: promise.id)))


def _acquired(work: Workspace, task: Task, promise: Promise) -> Answer:
    return Answer(status=200, data=ClaimData(task=task.record(), promise=promise, preload=_preload(work, task.id)))


def _without_preload(task: Task, promise: Promise) -> Answer:
    return Answer(status=200, data=ClaimData(task=task.record(), promise=promise, preload=[]))
