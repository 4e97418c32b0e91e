"""How a settlement spreads (protocol section 3.5): from the promise to its own task, its awaiters and its listeners.

A promise may have any number of awaiters and listeners. The transaction that settles it notifies those that were
loaded. If there are more, it records that, and later transactions notify them in batches (:func:`spread`). Their rows
stay until then, so none is forgotten.
"""

from collections.abc import Iterable

from msgspec.structs import replace

from resonate_server.kernel import moves
from resonate_server.kernel.model import DropCallback, DropListener, DropSpreading, PutSpreading, Spreading
from resonate_server.kernel.states import MOVES, Move, TaskEvent
from resonate_server.kernel.workspace import Workspace
from resonate_server.protocol.messages import Unblock
from resonate_server.protocol.records import EMPTY, Promise, PromiseState, Value


def is_expired(promise: Promise, now: int) -> bool:
    return promise.state is PromiseState.PENDING and now >= promise.timeout_at


def settle(work: Workspace, promise: Promise, state: PromiseState, value: Value) -> Promise:
    """Settle a pending ``promise`` now, with all consequences."""
    settled = replace(promise, state=state, value=value, settled_at=work.now)
    _settle_all(work, [settled])
    return settled


def touch(work: Workspace, ids: Iterable[str]) -> None:
    """Settle those of ``ids`` that are past their deadline, so that the rule sees their true state."""
    late = [each for id in dict.fromkeys(ids) if (each := work.promise(id)) is not None and is_expired(each, work.now)]
    if late:
        _settle_all(work, [expired(promise) for promise in late])


def projected(promise: Promise, now: int) -> Promise:
    """Return ``promise`` as of ``now`` (ms): settled if its deadline has passed, even if that is not stored yet."""
    return expired(promise) if is_expired(promise, now) else promise


def expired(promise: Promise) -> Promise:
    """Return ``promise`` settled by its deadline. The settlement time is the deadline, however late it is noticed."""
    return replace(promise, state=state_at_deadline(promise), value=EMPTY, settled_at=promise.timeout_at)


def state_at_deadline(promise: Promise) -> PromiseState:
    return PromiseState.RESOLVED if promise.is_timer else PromiseState.TIMEDOUT


def _settle_all(work: Workspace, settled: list[Promise]) -> None:
    """Finish all own tasks before waking any awaiter: a task that ends in this step must not be woken by it."""
    for promise in settled:
        work.put_promise(promise)
        _finish_own_task(work, promise.id)
    for promise in settled:
        _tell(work, promise)
        if not work.knows_all_links(promise.id):
            _continue_later(work, Spreading(promise_id=promise.id))


def spread(work: Workspace, spreading: Spreading) -> None:
    """Notify the next batch of awaiters and listeners of a promise that was settled earlier."""
    id = spreading.promise_id
    promise = work.promise(id)
    if promise is not None:
        _tell(work, promise)
    if promise is None or work.knows_all_links(id):
        work.link(DropSpreading(promise_id=id))
    elif work.awaiters(id) or work.listeners(id):
        _continue_later(work, spreading)


def _tell(work: Workspace, promise: Promise) -> None:
    _wake_awaiters(work, promise.id)
    _tell_listeners(work, promise)


def _continue_later(work: Workspace, spreading: Spreading) -> None:
    """Continue in a later transaction, after the last awaiter that was loaded."""
    awaiters = work.awaiters(spreading.promise_id)
    after = awaiters[-1] if awaiters else spreading.after
    work.link(PutSpreading(spreading=replace(spreading, after=after), turn_at=work.now))


def _finish_own_task(work: Workspace, id: str) -> None:
    task = work.task(id)
    if task is not None and MOVES[TaskEvent.OWN_SETTLED][task.state] is Move.FINISH:
        moves.finish(work, task)


def _wake_awaiters(work: Workspace, awaited: str) -> None:
    for awaiter in work.awaiters(awaited):
        if _is_alive(work, awaiter):
            notify_awaiter(work, awaited, awaiter)


def _is_alive(work: Workspace, awaiter: str) -> bool:
    """An awaiter past its own deadline counts as settled, even if that is not stored yet."""
    promise = work.promise(awaiter)
    return promise is not None and promise.state is PromiseState.PENDING and not is_expired(promise, work.now)


def notify_awaiter(work: Workspace, awaited: str, awaiter: str) -> None:
    """Tell the task ``awaiter`` that ``awaited`` is settled: resume it if it is suspended, else count a resume."""
    task = work.task(awaiter)
    if task is None:
        return
    work.link(DropCallback(awaited=awaited, awaiter=awaiter))
    match MOVES[TaskEvent.AWAITED_SETTLED][task.state]:
        case Move.RESUME:
            moves.queue(work, replace(task, resumes=1))
        case Move.COUNT:
            work.put_task(replace(task, resumes=task.resumes + 1))


def _tell_listeners(work: Workspace, promise: Promise) -> None:
    for address in work.listeners(promise.id):
        work.send(Unblock(promise=promise, address=address))
        work.link(DropListener(awaited=promise.id, address=address))
