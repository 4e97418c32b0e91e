"""Starting chains and waiting for them, on the SDK's event loop: a thread of its own, for functions may block it."""

import asyncio
import secrets
import threading
import weakref
from collections.abc import Coroutine
from concurrent.futures import Future
from datetime import timedelta
from typing import Any

import msgspec
from resonate.error import ResonateError, ServerError
from resonate.transport import UnblockMsg
from resonate.types import PromiseRecord, PromiseState
from werkzeug.exceptions import BadGateway, Conflict, HTTPException, NotFound, ServiceUnavailable, UnprocessableEntity

from foo_web.inputs import Spend
from worker import CODEC, RunningWorker, Settings, Worker
from worker.loop import new_event_loop

# How long the server may be away, and how long it may take to answer, before a client is told to come back.
CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 30.0
# A push may be lost, so those who wait ask again after this time, and after each reconnection.
ASK_AGAIN_SECONDS = 15.0
STOP_SECONDS = 1.0
# A worker that was killed and that nobody starts again leaves its call pending for so long.
FAULT_TIMEOUT = timedelta(minutes=2)
MAX_ERROR_CHARACTERS = 8_000

_UNREADABLE = (ResonateError, msgspec.MsgspecError, TypeError, ValueError, RecursionError)


class _Call(msgspec.Struct):
    """What the SDK stores of a call."""

    func: str
    args: list[Any] = []
    kwargs: dict[str, Any] = {}


class ChainStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known about a chain, as it is shown."""

    id: str
    state: PromiseState
    message: Any = msgspec.UNSET
    error: str | msgspec.UnsetType = msgspec.UNSET


class Chains:
    def __init__(self, worker: Worker, settings: Settings) -> None:
        """Connect. To be called in the process that serves requests, not in one that forks it."""
        self._group, self._function = worker.group, worker.functions[0]
        self.offers_faults = settings.offers_faults
        self._news: weakref.WeakValueDictionary[str, asyncio.Future[PromiseRecord | None]] = (
            weakref.WeakValueDictionary()
        )
        self._stopping: Future[None] | None = None
        self._loop = new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="resonate", daemon=True).start()
        self._worker = asyncio.run_coroutine_threadsafe(self._connect(worker, settings), self._loop).result()
        self.tracing = self._worker.tracing

    def is_connected(self) -> bool:
        return self._worker.stream.connected and self._stopping is None

    def send_spans(self) -> None:
        """The last ones, at the end of the process."""
        self._worker.send_spans()

    async def start(self, id: str, spend: Spend, seconds: float | None, *, may_exist: bool) -> ChainStatus:
        """Begin a chain, or join it, and wait that long for its result (None: as long as it takes)."""
        return await self._call(self._start(id, spend, seconds, may_exist=may_exist))

    async def look_up(self, id: str) -> ChainStatus:
        promise = await self._call(self._find(id))
        if promise is None or self._arguments(promise) is None:
            raise NotFound("no chain has this id")
        return _chain(promise)

    async def fail(self, how: str, worker: str) -> str:
        """Call the worker with that address to fail (`worker.faults`); the id of that call."""
        return await self._call(self._answered(self._fail(how, worker)))

    def stop(self) -> "Future[None]":
        """End every wait and give back the leases. Returns at once."""
        if self._stopping is None:
            self._stopping = asyncio.run_coroutine_threadsafe(self._worker.stop(), self._loop)
        return self._stopping

    async def _call[T](self, work: Coroutine[Any, Any, T]) -> T:
        if self._stopping is not None:
            work.close()
            raise _stopping()
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if self._stopping is None:
                raise
            raise _stopping() from None
        except ServerError as error:
            raise _refused(error) from None
        except ResonateError as error:
            raise _unavailable(f"the Resonate server gives no usable answer: {error}") from None

    # ── on the SDK's event loop ──

    async def _connect(self, worker: Worker, settings: Settings) -> RunningWorker:
        running = RunningWorker(worker, settings)
        running.stream.recv(self._receive)
        running.stream.watch(self._connection_changed)
        return running

    async def _start(self, id: str, spend: Spend, seconds: float | None, *, may_exist: bool) -> ChainStatus:
        # Looked up first: to begin with the id of another service's call would take that call from its workers.
        promise = await self._find(id) if may_exist else None
        if promise is not None and self.tracing is not None:
            self.tracing.join(promise.param.headers)
        if promise is None:
            await self._answered(self._begin(id, spend))
        elif (chain := self._joined(promise, spend)).state != "pending":
            return chain
        if seconds == 0:
            return ChainStatus(id, "pending")
        try:
            async with asyncio.timeout(seconds):
                return self._joined(await self._settled(id), spend)
        except TimeoutError:
            return ChainStatus(id, "pending")

    async def _begin(self, id: str, spend: Spend) -> None:
        await self._worker.resonate.run(id, self._function, *spend.arguments).id()

    async def _fail(self, how: str, worker: str) -> str:
        call = self._worker.resonate.options(target=worker, timeout=FAULT_TIMEOUT)
        return await call.rpc(f"fail-{secrets.token_hex(4)}", "fail", how, worker.rpartition("/")[2]).id()

    async def _find(self, id: str) -> PromiseRecord | None:
        try:
            return await self._answered(self._worker.sender.promise_get(id))
        except ServerError as error:
            if error.code == NotFound.code:
                return None
            raise

    async def _answered[T](self, work: Coroutine[Any, Any, T]) -> T:
        """What the server answers. While it is away it is asked nothing: the SDK would go on until it is back."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._worker.stream.wait_until_connected()
        except TimeoutError:
            work.close()
            refusal = self._worker.stream.refusal
            reason = f"refuses foo: {refusal}" if refusal else "cannot be reached"
            raise _unavailable(f"the Resonate server {reason}") from None
        asking = asyncio.ensure_future(work)  # goes on if its client leaves: the SDK does not bear to be cancelled
        asking.add_done_callback(lambda late: late.cancelled() or late.exception())
        if not (await asyncio.wait({asking}, timeout=ANSWER_SECONDS))[0]:
            raise _unavailable("the Resonate server does not answer")
        return asking.result()

    async def _settled(self, id: str) -> PromiseRecord:
        """The promise once it is settled.

        The SDK's handles can wait, too, but they answer "not found" for good when a request to the server overtook
        the one that creates the promise.
        """
        while True:
            news = self._news.get(id) or self._loop.create_future()
            self._news[id] = news
            try:
                promise = await self._worker.sender.promise_register_listener(id, self._worker.stream.unicast())
                if promise.state != "pending":
                    return promise
            except ResonateError as error:  # it may be busy, and is asked again
                if isinstance(error, ServerError) and error.code == NotFound.code:
                    raise
            await asyncio.wait({news}, timeout=ASK_AGAIN_SECONDS)
            if news.done() and (settled := news.result()):
                return settled

    def _receive(self, message: str) -> None:
        try:
            promise = msgspec.json.decode(message, type=UnblockMsg).promise
        except msgspec.MsgspecError:  # another kind of message
            return
        if (news := self._news.pop(promise.id, None)) is not None:
            news.set_result(promise)

    def _connection_changed(self, connected: bool) -> None:
        while connected and self._news:
            self._news.popitem()[1].set_result(None)

    def _joined(self, promise: PromiseRecord, spend: Spend) -> ChainStatus:
        """The chain for a request that asks for `spend`."""
        arguments = self._arguments(promise)
        if arguments is None:
            raise _other_kind()
        if not spend.may_join(arguments):
            # As draft-ietf-httpapi-idempotency-key-header asks for.
            detail = "an earlier request with this Idempotency-Key had another body; an empty body joins its chain"
            raise UnprocessableEntity(detail)
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


def _chain(promise: PromiseRecord) -> ChainStatus:
    """Errors are shown by their message."""
    match promise.state:
        case "pending":
            return ChainStatus(promise.id, promise.state)
        case "resolved":
            return ChainStatus(promise.id, promise.state, message=_value(promise))
        case "rejected_timedout":
            error = "the chain did not end before its deadline"
        case "rejected_canceled":
            error = "the chain was cancelled"
        case "rejected":
            value = _value(promise)
            message = value.get("message") if isinstance(value, dict) else None
            error = str(message or "the chain failed without a message")[:MAX_ERROR_CHARACTERS]
    return ChainStatus(promise.id, promise.state, error=error)


def _value(promise: PromiseRecord) -> Any:
    try:
        return CODEC.decode(promise.value)
    except _UNREADABLE as error:
        detail = f"the chain is {promise.state}, but its stored result cannot be read, as base64 of JSON: {error}"
        raise BadGateway(detail[:MAX_ERROR_CHARACTERS]) from None


def _refused(error: ServerError) -> HTTPException:
    match error.code:
        case 404:
            return NotFound("no chain has this id")
        case 422:
            return _other_kind()
        case 429 | 503:
            return _unavailable(f"the Resonate server refuses for now: {error.message}")
    return BadGateway(f"the Resonate server refuses: {error.message}")


def _unavailable(reason: str) -> ServiceUnavailable:
    return ServiceUnavailable(reason, retry_after=2)


def _stopping() -> ServiceUnavailable:
    return ServiceUnavailable("foo is shutting down; a chain that has begun goes on", retry_after=1)


def _other_kind() -> Conflict:
    return Conflict("this id belongs to something else than a call of foo; choose another one")
