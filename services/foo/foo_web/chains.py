"""Starting chains and waiting for them, from the threads in which Flask runs its views."""

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent import futures
from http import HTTPStatus
from typing import Any

import msgspec
from resonate.error import ResonateError, ServerError
from resonate.types import PromiseRecord, PromiseState

from foo_web.inputs import Spend
from foo_web.problems import Problem
from foo_web.settlements import Settlements
from worker import CODEC, RunningWorker, Settings, Worker

logger = logging.getLogger(__name__)

# How long the server may be away, and how long it may take to answer, before a client is told to come back.
CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 30.0
# How often a waiting request looks whether its client is still there.
LOOK_SECONDS = 1.0
STOP_SECONDS = 1.0
MAX_ERROR_CHARACTERS = 8_000

_UNREADABLE = (ResonateError, msgspec.MsgspecError, TypeError, ValueError, RecursionError)


class _Call(msgspec.Struct):
    """What the SDK stores of a call."""

    func: str
    args: list[Any] = []
    kwargs: dict[str, Any] = {}


class Chain(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known about a chain, as it is shown."""

    id: str
    state: PromiseState
    message: Any = msgspec.UNSET
    error: str | msgspec.UnsetType = msgspec.UNSET


class Chains:
    """A worker in a thread with an event loop of its own, and what a view needs of it."""

    def __init__(self, worker: Worker, settings: Settings) -> None:
        """Connect. To be called in the process that serves requests, not in one that forks it."""
        self._group, self._function = worker.group, worker.functions[0]
        self._loop = asyncio.new_event_loop()
        self._stopping = False
        self._stopped = threading.Event()
        threading.Thread(target=self._loop.run_forever, name="resonate", daemon=True).start()
        self._worker, self._settlements = self._call(_connect(worker, settings))

    def is_connected(self) -> bool:
        return self._worker.stream.connected and not self._stopping

    def known(self, id: str, spend: Spend) -> Chain | None:
        """The chain that has this id, if there is one."""
        promise = self._call(self._find(id))
        return self._joined(promise, spend) if promise is not None else None

    def begin(self, id: str, spend: Spend) -> Chain:
        """Start a chain."""
        self._call(self._begin(id, spend))
        return Chain(id, "pending")

    def look_up(self, id: str) -> Chain:
        promise = self._call(self._find(id))
        if promise is None or self._arguments(promise) is None:
            raise _unknown()
        return _chain(promise)

    def wait(self, id: str, spend: Spend, seconds: float | None, client_has_left: Callable[[], bool]) -> Chain | None:
        """The result of a chain that was begun; None if that takes longer than so many seconds."""
        end = math.inf if seconds is None else time.monotonic() + seconds
        future = self._submit(self._settlements.wait(id))
        try:
            while (left := end - time.monotonic()) > 0:
                if futures.wait([future], timeout=min(left, LOOK_SECONDS)).done:
                    return self._joined(_result(future), spend)
                if client_has_left():
                    logger.info("the client of %s has left, the chain goes on", id)
                    return None
            return None
        finally:
            future.cancel()

    def stop(self) -> None:
        """End every wait and give back the leases. Returns at once; may be called by a signal handler."""
        if not self._stopping:
            self._stopping = True
            self._loop.call_soon_threadsafe(lambda: self._loop.create_task(self._stop()))

    def join(self) -> None:
        self._stopped.wait(STOP_SECONDS)

    # ── on the calling thread ──

    def _call[T](self, work: Coroutine[Any, Any, T]) -> T:
        return _result(self._submit(work))

    def _submit[T](self, work: Coroutine[Any, Any, T]) -> "futures.Future[T]":
        if self._stopping:
            work.close()
            raise _stopping()
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _joined(self, promise: PromiseRecord, spend: Spend) -> Chain:
        """The chain for a request that asks for `spend`."""
        arguments = self._arguments(promise)
        if arguments is None:
            raise _other_kind()
        if not spend.may_join(arguments):
            # As draft-ietf-httpapi-idempotency-key-header asks for.
            detail = "an earlier request with this Idempotency-Key had another body; an empty body joins its chain"
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
        return _chain(promise)

    def _arguments(self, promise: PromiseRecord) -> tuple[float, float] | None:
        """What foo was called with; None for the promise of anything else."""
        target = promise.tags.get("resonate:target", "").rpartition("@")[2].partition("/")[0]
        try:
            call = msgspec.convert(CODEC.decode(promise.param), _Call)
        except _UNREADABLE:
            return None
        if (call.func, target) != (self._function.__name__, self._group):
            return None
        given = dict(zip(("pause", "running"), call.args, strict=False)) | call.kwargs
        return given.get("pause", 0), given.get("running", 0)

    # ── on the event loop ──

    async def _begin(self, id: str, spend: Spend) -> None:
        await self._be_connected()
        handle = self._worker.resonate.run(id, self._function, *spend.arguments)
        await self._answer(handle.id())

    async def _find(self, id: str) -> PromiseRecord | None:
        await self._be_connected()
        try:
            return await self._answer(self._worker.sender.promise_get(id))
        except ServerError as error:
            if error.code == HTTPStatus.NOT_FOUND:
                return None
            raise

    async def _be_connected(self) -> None:
        """Ask nothing while the server is away: the SDK would go on asking in the background until it is back."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._worker.stream.wait_until_connected()
        except TimeoutError:
            raise _unavailable("the Resonate server cannot be reached") from None

    async def _answer[T](self, work: Coroutine[Any, Any, T]) -> T:
        """What the server answers. It may be busy; if it goes away meanwhile, there is no point in waiting."""
        asking = asyncio.ensure_future(work)
        end = time.monotonic() + ANSWER_SECONDS
        while not (await asyncio.wait({asking}, timeout=CONNECT_SECONDS))[0]:
            if not self._worker.stream.connected or time.monotonic() > end:
                asking.add_done_callback(lambda late: late.cancelled() or late.exception())
                raise _unavailable("the Resonate server does not answer")
        return await asking

    async def _stop(self) -> None:
        self._settlements.cancel()
        await self._worker.stop()
        self._stopped.set()


async def _connect(worker: Worker, settings: Settings) -> tuple[RunningWorker, Settlements]:
    running = RunningWorker(worker, settings)
    return running, Settlements(running)


def _result[T](future: "futures.Future[T]") -> T:
    try:
        return future.result()
    except futures.CancelledError:
        raise _stopping() from None
    except ServerError as error:
        raise _refused(error) from None
    except ResonateError as error:
        raise _unavailable(f"the Resonate server gives no usable answer: {error}") from None


def _chain(promise: PromiseRecord) -> Chain:
    """Errors are shown by their message."""
    match promise.state:
        case "pending":
            return Chain(promise.id, promise.state)
        case "resolved":
            return Chain(promise.id, promise.state, message=_value(promise))
        case "rejected_timedout":
            return Chain(promise.id, promise.state, error="the chain did not end before its deadline")
        case "rejected_canceled":
            return Chain(promise.id, promise.state, error="the chain was cancelled")
        case "rejected":
            value = _value(promise)
            message = value.get("message") if isinstance(value, dict) else None
            error = str(message or "the chain failed without a message")[:MAX_ERROR_CHARACTERS]
            return Chain(promise.id, promise.state, error=error)


def _value(promise: PromiseRecord) -> Any:
    try:
        return CODEC.decode(promise.value)
    except _UNREADABLE as error:
        detail = f"the chain is {promise.state}, but its stored result cannot be read, as base64 of JSON: {error}"
        raise Problem(HTTPStatus.BAD_GATEWAY, detail[:MAX_ERROR_CHARACTERS]) from None


def _refused(error: ServerError) -> Problem:
    match error.code:
        case HTTPStatus.NOT_FOUND:
            return _unknown()
        case HTTPStatus.UNPROCESSABLE_ENTITY:
            return _other_kind()
        case HTTPStatus.TOO_MANY_REQUESTS | HTTPStatus.SERVICE_UNAVAILABLE:
            return _unavailable(f"the Resonate server refuses for now: {error.message}")
    return Problem(HTTPStatus.BAD_GATEWAY, f"the Resonate server refuses: {error.message}")


def _unavailable(reason: str) -> Problem:
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, reason, retry_after=2)


def _stopping() -> Problem:
    detail = "foo is shutting down; a chain that has begun goes on"
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, retry_after=1)


def _unknown() -> Problem:
    return Problem(HTTPStatus.NOT_FOUND, "no chain has this id")


def _other_kind() -> Problem:
    return Problem(HTTPStatus.CONFLICT, "this id belongs to something else than a call of foo; choose another one")
