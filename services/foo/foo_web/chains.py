"""Start, join, await and look up chains through the SDK."""

import asyncio
import secrets
from collections.abc import Awaitable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import msgspec
from resonate.error import ResonateError, ServerError
from resonate.types import PromiseRecord, PromiseState, TaskData
from werkzeug.exceptions import BadGateway, Conflict, HTTPException, NotFound, ServiceUnavailable, UnprocessableEntity

from foo_web.inputs import Delays
from worker import RunningWorker, Worker

# How long the server may be unreachable, and how long it may take to answer, before clients get 503.
CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 30.0
# How long the call that killed a worker stays pending if nobody restarts that worker.
FAULT_TIMEOUT = timedelta(minutes=2)
MAX_ERROR_CHARACTERS = 8_000

UNKNOWN = "no chain has this id"
OF_OTHERS = "this id belongs to something other than a call of foo; choose another one"
ANOTHER_BODY = "an earlier request with this Idempotency-Key had another body; an empty body joins its chain"
_ENDS = {
    "rejected_timedout": "the chain did not end before its deadline",
    "rejected_canceled": "the chain was cancelled",
}
_UNREADABLE = (ResonateError, msgspec.MsgspecError, TypeError, ValueError, RecursionError)


class ChainStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    id: str
    state: PromiseState
    message: Any = msgspec.UNSET
    error: str | msgspec.UnsetType = msgspec.UNSET


class Chains:
    """Methods raise HTTP errors."""

    def __init__(self, worker: Worker, running: RunningWorker) -> None:
        self._group, self._function = worker.group, worker.functions[0]
        self._resonate, self._stream = running.resonate, running.stream
        self._sender, self._codec = self._resonate.promises.sender, self._resonate.promises.codec
        self.tracing = running.tracing

    def is_connected(self) -> bool:
        return self._stream.connected

    async def start(self, id: str, delays: Delays, seconds: float | None, *, may_exist: bool) -> ChainStatus:
        """Start a chain, or join it, and wait up to `seconds` for its result (None: as long as it takes)."""
        await self._connected()
        promise = None
        if may_exist:  # starting a chain with the id of another service's call would take that from its workers
            with suppress(NotFound):
                promise = await self._get(id)
        if promise is None:
            await self._await_answer(self._resonate.run(id, self._function, *delays.arguments).id())
            if may_exist:  # another request with this id may have been a moment faster
                promise = await self._get(id)
        elif self.tracing is not None:
            self.tracing.join(promise.param.headers)
        if promise is not None and (chain := self._joined(promise, delays)).state != "pending":
            return chain
        try:
            async with asyncio.timeout(seconds):
                while True:
                    handle = await self._await_answer(self._resonate.get(id))
                    with suppress(ResonateError):  # the promise has the reason
                        return ChainStatus(id, "resolved", await handle.result())
                    if (chain := self._shown(await self._get(id))).state != "pending":
                        return chain
                    # The SDK asked for the promise before the server had it, and took it for lost.
        except TimeoutError:
            return ChainStatus(id, "pending")

    async def look_up(self, id: str) -> ChainStatus:
        await self._connected()
        promise = await self._get(id)
        if self._arguments(promise) is None:
            raise NotFound(UNKNOWN)
        return self._shown(promise)

    async def fail(self, how: str, worker: str) -> str:
        """Make the worker with that address fail (`worker.faults`). Return the id of the call."""
        await self._connected()
        call = self._resonate.options(target=worker, timeout=FAULT_TIMEOUT)
        handle = call.rpc(f"fail-{secrets.token_hex(4)}", "fail", how, worker.rpartition("/")[2])
        return await self._await_answer(handle.id())

    async def _connected(self) -> None:
        """Wait briefly for the connection, else raise 503: the SDK would repeat a request until the server is back."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._stream.wait_until_connected()
        except TimeoutError:
            reason = f"refuses foo: {self._stream.refusal}" if self._stream.refusal else "cannot be reached"
            raise _unavailable(f"the Resonate server {reason}") from None

    async def _await_answer[T](self, asking: Awaitable[T]) -> T:
        """Return the server's answer. The request continues if the client leaves: the SDK must not be cancelled."""
        asked = asyncio.ensure_future(asking)
        # Retrieve the exception: if the client has left, nobody else does.
        asked.add_done_callback(lambda _: asked.cancelled() or asked.exception())
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                while not (await asyncio.wait([asked], timeout=CONNECT_SECONDS))[0]:
                    await self._connected()
        except TimeoutError:
            raise _unavailable("the Resonate server does not answer") from None
        try:
            return asked.result()
        except ResonateError as error:
            raise _http_error(error) from None

    async def _get(self, id: str) -> PromiseRecord:
        return await self._await_answer(self._sender.promise_get(id))

    def _joined(self, promise: PromiseRecord, delays: Delays) -> ChainStatus:
        """Return the chain's status if a request for `delays` may join it: it has the same delays, or none."""
        if (arguments := self._arguments(promise)) is None:
            raise Conflict(OF_OTHERS)
        if delays != Delays() and delays.arguments != arguments:
            # As draft-ietf-httpapi-idempotency-key-header says.
            raise UnprocessableEntity(ANOTHER_BODY)
        return self._shown(promise)

    def _arguments(self, promise: PromiseRecord) -> tuple[float, float] | None:
        """Return the arguments of a call of foo; None if the promise is for anything else."""
        target = promise.tags.get("resonate:target", "").rpartition("@")[2].partition("/")[0]
        try:
            call = msgspec.convert(self._codec.decode(promise.param), TaskData)
        except _UNREADABLE:
            return None
        if (call.func, target) != (self._function.__name__, self._group):
            return None
        given = dict(zip(("pause", "running"), call.args, strict=False)) | call.kwargs
        return given.get("pause", 0), given.get("running", 0)

    def _shown(self, promise: PromiseRecord) -> ChainStatus:
        id, state = promise.id, promise.state
        if state == "pending":
            return ChainStatus(id, state)
        if state in _ENDS:
            return ChainStatus(id, state, error=_ENDS[state])
        try:
            value = self._codec.decode(promise.value)
        except _UNREADABLE as error:
            detail = f"the chain is {state}, but its stored result cannot be read, as base64 of JSON: {error}"
            raise BadGateway(detail) from None
        if state == "resolved":
            return ChainStatus(id, state, message=value)
        message = value.get("message") if isinstance(value, dict) else None
        return ChainStatus(id, state, error=str(message or "the chain failed without a message")[:MAX_ERROR_CHARACTERS])


def _http_error(error: ResonateError) -> HTTPException:
    if not isinstance(error, ServerError):
        return _unavailable(f"the Resonate server gave an unusable answer: {error}")
    match error.code:
        case 404:
            return NotFound(UNKNOWN)
        case 422:
            return Conflict(OF_OTHERS)
        case 429 | 503:
            return _unavailable(f"the Resonate server refuses for now: {error.message}")
    return BadGateway(f"the Resonate server refuses: {error.message}")


def _unavailable(reason: str) -> ServiceUnavailable:
    return ServiceUnavailable(reason, retry_after=2)
