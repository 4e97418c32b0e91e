"""Chains: how they are begun, joined, waited for and looked up."""

import asyncio
import secrets
from collections.abc import Awaitable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import msgspec
from resonate.error import ResonateError, ServerError
from resonate.types import PromiseRecord, PromiseState
from werkzeug.exceptions import BadGateway, Conflict, HTTPException, NotFound, ServiceUnavailable, UnprocessableEntity

from foo_web.inputs import Delays
from worker import RunningWorker, Worker

# How long the server may be away, and how long it may take to answer, before a client is told to come back.
CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 30.0
# A worker that was killed and that nobody starts again leaves its call pending for so long.
FAULT_TIMEOUT = timedelta(minutes=2)
MAX_ERROR_CHARACTERS = 8_000

_ENDS = {
    "rejected_timedout": "the chain did not end before its deadline",
    "rejected_canceled": "the chain was cancelled",
}
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
    """Raises HTTP's errors for what is wrong with a request, and the SDK's for what the server says (`explained`)."""

    def __init__(self, worker: Worker, running: RunningWorker) -> None:
        self._group, self._function = worker.group, worker.functions[0]
        self._resonate, self._stream = running.resonate, running.stream
        self._sender, self._codec = self._resonate.promises.sender, self._resonate.promises.codec
        self.tracing = running.tracing

    def is_connected(self) -> bool:
        return self._stream.connected

    async def start(self, id: str, delays: Delays, seconds: float | None, *, may_exist: bool) -> ChainStatus:
        """Begin a chain, or join it, and wait that long for its result (None: as long as it takes)."""
        await self._connected()
        # Looked up first: to begin with the id of another service's call would take that call from its workers.
        promise = await self._find(id) if may_exist else None
        if promise is None:
            handle = self._resonate.run(id, self._function, *delays.arguments)
            await self._answered(handle.id())
        else:
            if self.tracing is not None:
                self.tracing.join(promise.param.headers)
            if (chain := self._joined(promise, delays)).state != "pending":
                return chain
            handle = await self._answered(self._resonate.get(id))
        try:
            async with asyncio.timeout(seconds):
                while True:
                    with suppress(ResonateError):  # why it failed is in its promise
                        message = await handle.result()
                        if not may_exist:
                            return ChainStatus(id, "resolved", message)
                    if (chain := self._joined(await self._get(id), delays)).state != "pending":
                        return chain
                    # The SDK has asked about it before the server had heard of it, and took it for lost.
                    handle = await self._answered(self._resonate.get(id))
        except TimeoutError:
            return ChainStatus(id, "pending")

    async def look_up(self, id: str) -> ChainStatus:
        await self._connected()
        promise = await self._get(id)
        if self._arguments(promise) is None:
            raise _unknown()
        return self._shown(promise)

    async def fail(self, how: str, worker: str) -> str:
        """Call the worker with that address to fail (`worker.faults`); the id of that call."""
        await self._connected()
        call = self._resonate.options(target=worker, timeout=FAULT_TIMEOUT)
        handle = call.rpc(f"fail-{secrets.token_hex(4)}", "fail", how, worker.rpartition("/")[2])
        return await self._answered(handle.id())

    async def _connected(self) -> None:
        """While the server is away it is asked nothing: the SDK would go on until it is back."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._stream.wait_until_connected()
        except TimeoutError:
            reason = f"refuses foo: {self._stream.refusal}" if self._stream.refusal else "cannot be reached"
            raise _unavailable(f"the Resonate server {reason}") from None

    async def _answered[T](self, asking: Awaitable[T]) -> T:
        """What the server answers. Asking goes on if the client leaves: the SDK does not bear to be cancelled."""
        asked = asyncio.ensure_future(asking)
        # Perhaps nobody is left to hear how it failed.
        asked.add_done_callback(lambda _: asked.cancelled() or asked.exception())
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                while not (await asyncio.wait([asked], timeout=CONNECT_SECONDS))[0]:
                    await self._connected()
        except TimeoutError:
            raise _unavailable("the Resonate server does not answer") from None
        return asked.result()

    async def _find(self, id: str) -> PromiseRecord | None:
        try:
            return await self._answered(self._sender.promise_get(id))
        except ServerError as error:
            if error.code == NotFound.code:
                return None
            raise

    async def _get(self, id: str) -> PromiseRecord:
        if (promise := await self._find(id)) is None:
            raise _unknown()
        return promise

    def _joined(self, promise: PromiseRecord, delays: Delays) -> ChainStatus:
        """The chain for a request that asks for `delays`."""
        if (arguments := self._arguments(promise)) is None:
            raise _other_kind()
        if not delays.may_join(arguments):
            # As draft-ietf-httpapi-idempotency-key-header asks for.
            detail = "an earlier request with this Idempotency-Key had another body; an empty body joins its chain"
            raise UnprocessableEntity(detail)
        return self._shown(promise)

    def _arguments(self, promise: PromiseRecord) -> tuple[float, float] | None:
        """What foo was called with; None for the promise of anything else."""
        target = promise.tags.get("resonate:target", "").rpartition("@")[2].partition("/")[0]
        try:
            call = msgspec.convert(self._codec.decode(promise.param), _Call)
        except _UNREADABLE:
            return None
        if (call.func, target) != (self._function.__name__, self._group):
            return None
        given = dict(zip(("pause", "running"), call.args, strict=False)) | call.kwargs
        return given.get("pause", 0), given.get("running", 0)

    def _shown(self, promise: PromiseRecord) -> ChainStatus:
        """Errors are shown by their message."""
        id, state = promise.id, promise.state
        if state == "pending":
            return ChainStatus(id, state)
        if state in _ENDS:
            return ChainStatus(id, state, error=_ENDS[state])
        try:
            value = self._codec.decode(promise.value)
        except _UNREADABLE as error:
            detail = f"the chain is {state}, but its stored result cannot be read, as base64 of JSON: {error}"
            raise BadGateway(detail[:MAX_ERROR_CHARACTERS]) from None
        if state == "resolved":
            return ChainStatus(id, state, message=value)
        message = value.get("message") if isinstance(value, dict) else None
        return ChainStatus(id, state, error=str(message or "the chain failed without a message")[:MAX_ERROR_CHARACTERS])


def explained(error: ResonateError) -> HTTPException:
    """What a client is told of what the server said, or failed to say."""
    if not isinstance(error, ServerError):
        return _unavailable(f"the Resonate server gave an unusable answer: {error}")
    match error.code:
        case 422:
            return _other_kind()
        case 429 | 503:
            return _unavailable(f"the Resonate server refuses for now: {error.message}")
    return BadGateway(f"the Resonate server refuses: {error.message}")


def _unavailable(reason: str) -> ServiceUnavailable:
    return ServiceUnavailable(reason, retry_after=2)


def _unknown() -> NotFound:
    return NotFound("no chain has this id")


def _other_kind() -> Conflict:
    return Conflict("this id belongs to something other than a call of foo; choose another one")
