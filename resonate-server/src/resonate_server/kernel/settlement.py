"""How a settlement spreads (protocol section 3.5): the promise, its own task, those who await it, its listeners.

Any number may wait for one promise. Who was loaded is told in the transaction that settles it; if there are more,
that is kept, and they are told by and by (:func:`spread`). Their rows stay until then, so nobody is forgotten.
"""

from collections.abc import Iterable

from msgspec.structs import replace

from resonate_server.kernel import moves
from resonate_server.kernel.model import (
    DropCallback,
    DropListener,
    DropSpreading,
    PutSpreading,
    SettlementNotice,
    Spreading,
)
from resonate_server.kernel.states import MOVES, Move, TaskEvent
from resonate_server.kernel.workspace import Workspace
from resonate_server.protocol.messages import Unblock
from resonate_server.protocol.records import EMPTY, Promise, PromiseState, Value


def is_expired(promise: Promise, now: int) -> bool:
    return promise.state is PromiseState.PENDING and now >= promise.timeout_at


def settle(work: Workspace, promise: Promise, state: PromiseState, value: Value) -> Promise:
    """Settle a pending ``promise`` now, with everything that follows from it."""
    settled = replace(promise, state=state, value=value, settled_at=work.now)
    _settle_all(work, [settled])
    return settled


def touch(work: Workspace, ids: Iterable[str]) -> None:
    """Settle those of ``ids`` that are past their deadline, so that the rule at hand sees them as they are."""
    promises = (work.promise(id) for id in dict.fromkeys(ids))
    _settle_all(work, [expired(promise) for promise in promises if promise and is_expired(promise, work.now)])


def projected(promise: Promise, now: int) -> Promise:
    """``promise`` as it reads at ``now`` (ms), whether or not anybody has noticed that its deadline has passed."""
    return expired(promise) if is_expired(promise, now) else promise


def expired(promise: Promise) -> Promise:
    """``promise`` as its deadline leaves it; the time of settlement is the deadline, however late it is noticed."""
    return replace(promise, state=state_at_deadline(promise), value=EMPTY, settled_at=promise.timeout_at)


def state_at_deadline(promise: Promise) -> PromiseState:
    return PromiseState.RESOLVED if promise.is_timer else PromiseState.TIMEDOUT


def _settle_all(work: Workspace, settled: list[Promise]) -> None:
    """First all own tasks, then the awaiters: a task that ends in this very step must not be woken by it."""
    for promise in settled:
        work.put_promise(promise)
        work.notice(SettlementNotice(pending_ms=(promise.settled_at or 0) - promise.created_at))
        _finish_own_task(work, promise.id)
    for promise in settled:
        _tell(work, promise)
        if not work.knows_all_links(promise.id):
            _go_on_later(work, Spreading(promise_id=promise.id))


def spread(work: Workspace, spreading: Spreading) -> None:
    """Tell more of those who wait for a promise that was settled before."""
    id = spreading.promise_id
    promise = work.promise(id)
    if promise is not None:
        _tell(work, promise)
    if promise is None or work.knows_all_links(id):
        work.link(DropSpreading(promise_id=id))
    elif work.awaiters(id) or work.listeners(id):
        _go_on_later(work, spreading)


def _tell(work: Workspace, promise: Promise) -> None:
    _wake_awaiters(work, promise.id)
    _tell_listeners(work, promise)


def _go_on_later(work: Workspace, spreading: Spreading) -> None:
    """From after the last of the awaiters that were loaded on."""
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
    """An awaiter past its own deadline is as good as settled, even if nobody has noticed yet."""
    promise = work.promise(awaiter)
    return promise is not None and promise.state is PromiseState.PENDING and not is_expired(promise, work.now)


def notify_awaiter(work: Workspace, awaited: str, awaiter: str) -> None:
    """Tell the task ``awaiter`` that ``awaited`` is settled: wake it if it sleeps, else count it."""
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
