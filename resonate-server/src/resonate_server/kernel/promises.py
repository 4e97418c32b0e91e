"""The rules of ``promise.*`` (protocol section 3.1), one function per kind."""

from resonate_server.kernel import moves, settlement
from resonate_server.kernel.model import PutCallback, PutListener, Task
from resonate_server.kernel.workspace import Workspace
from resonate_server.protocol.answers import Answer, PromiseData
from resonate_server.protocol.errors import Unprocessable
from resonate_server.protocol.records import EMPTY, Promise, PromiseState, TaskState
from resonate_server.protocol.requests import (
    PromiseCreate,
    PromiseGet,
    PromiseRegisterCallback,
    PromiseRegisterListener,
    PromiseSettle,
)


def promise_get(work: Workspace, request: PromiseGet) -> Answer:
    settlement.touch(work, [request.id])
    return _answer(work.promise_or_404(request.id))


def promise_create(work: Workspace, request: PromiseCreate) -> Answer:
    """Idempotent on the id alone: an existing promise is returned as it is, whatever else the request says."""
    settlement.touch(work, [request.id])
    promise = work.promise(request.id)
    if promise is None:
        promise = create(work, request)
        create_task(work, promise)
    return _answer(promise)


def promise_settle(work: Workspace, request: PromiseSettle) -> Answer:
    """The first writer wins; later ones get the stored result."""
    settlement.touch(work, [request.id])
    promise = work.promise_or_404(request.id)
    if promise.state is PromiseState.PENDING:
        promise = settlement.settle(work, promise, request.state, request.value)
    return _answer(promise)


def promise_register_callback(work: Workspace, request: PromiseRegisterCallback) -> Answer:
    settlement.touch(work, [request.awaited, request.awaiter])
    awaited = work.promise_or_404(request.awaited)
    awaiter = work.promise(request.awaiter)
    if awaiter is None or awaiter.target is None:
        raise Unprocessable(f"awaiter {request.awaiter} is not a promise with a task")
    require_awaitable(awaited)
    require_in_reach(awaiter, awaited)
    if awaited.state is PromiseState.PENDING and awaiter.state is PromiseState.PENDING:
        work.link(PutCallback(awaited=awaited.id, awaiter=awaiter.id))
    return _answer(awaited)


def require_awaitable(promise: Promise) -> None:
    """Raise :class:`Unprocessable` for a promise that only the execution that created it may await (section 2.2)."""
    if not promise.is_external:
        raise Unprocessable(
            f"promise {promise.id} is internal: to be awaited it needs a resonate:target, resonate:timer=true, or "
            "resonate:external=true"
        )


def require_in_reach(caller: Promise, promise: Promise) -> None:
    """Raise :class:`Unprocessable` if ``promise`` is inside another call tree than ``caller`` (section 2.2).

    The root of another tree is in reach, because SDKs can detach a call or give it an id of its own. So is the tree
    whose root is the caller: a Rust worker takes every function that it runs for a root.
    """
    trees = {caller.origin, promise.origin, None}
    if len(trees) == 3 and promise.origin not in (promise.id, caller.id):
        raise Unprocessable(f"promise {promise.id} is a call in the tree of {promise.origin}, not of {caller.origin}")


def promise_register_listener(work: Workspace, request: PromiseRegisterListener) -> Answer:
    """If the promise is settled already, the answer tells the caller, and no listener is stored."""
    settlement.touch(work, [request.awaited])
    awaited = work.promise_or_404(request.awaited)
    require_awaitable(awaited)
    if awaited.state is PromiseState.PENDING:
        work.link(PutListener(awaited=awaited.id, address=request.address))
    return _answer(awaited)


def create(work: Workspace, request: PromiseCreate, created_at: int | None = None) -> Promise:
    """Create a promise without its task. Past its deadline it is created settled. ``created_at`` (ms): default now."""
    promise = Promise(
        id=request.id,
        state=PromiseState.PENDING,
        param=request.param,
        value=EMPTY,
        tags=request.tags,
        timeout_at=request.timeout_at,
        created_at=min(work.now if created_at is None else created_at, request.timeout_at),
    )
    if settlement.is_expired(promise, work.now):
        promise = settlement.expired(promise)
    work.put_promise(promise)
    return promise


def create_task(work: Workspace, promise: Promise) -> None:
    """Create the task of a new promise, if it has a target."""
    if promise.target is None:
        return
    if promise.state is PromiseState.PENDING:
        moves.queue(work, Task(id=promise.id, target=promise.target, state=TaskState.PENDING))
    else:
        work.put_task(Task(id=promise.id, target=promise.target, state=TaskState.FULFILLED))


def _answer(promise: Promise) -> Answer:
    return Answer(status=200, data=PromiseData(promise=promise))
