"""Starting chains and waiting for them, from the threads in which Flask runs its views."""

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent import futures
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from resonate.error import ResonateError, ServerError
from resonate.types import PromiseRecord, PromiseState

from foo_web.inputs import Spend
from foo_web.settlements import Settlements
from worker import CODEC, RunningWorker, Settings, Worker

logger = logging.getLogger(__name__)

# How long the server may be away, and how long it may take to answer, before a client is told to come back.
CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 30.0
# How often a waiting request looks whether its client is still there.
LOOK_SECONDS = 1.0
STOP_SECONDS = 1.0


class UnreachableError(Exception):
    """The Resonate server does not answer, or not with what was asked for."""


class StoppingError(Exception):
    """This process is about to end; the chain goes on."""


class ClientGoneError(Exception):
    """Nobody waits for the answer any more; the chain goes on."""


class UnknownChainError(Exception):
    """The server knows no promise of that id."""


@dataclass(frozen=True)
class Chain:
    """What is known about a chain."""

    id: str
    state: PromiseState
    message: Any = None
    error: str | None = None


class Chains:
    """A worker in a thread with an event loop of its own, and what a view needs of it."""

    def __init__(self, worker: Worker, settings: Settings) -> None:
        """Connect. To be called in the process that serves requests, not in one that forks it."""
        self._function = worker.functions[0]
        self._loop = asyncio.new_event_loop()
        self._stopping = False
        self._stopped = threading.Event()
        threading.Thread(target=self._loop.run_forever, name="resonate", daemon=True).start()
        self._worker, self._settlements = self._call(_connect(worker, settings))

    def is_connected(self) -> bool:
        return self._worker.stream.connected and not self._stopping

    def begin(self, id: str, spend: Spend) -> None:
        """Start the chain, or join the one that has this id."""
        self._call(self._begin(id, spend))

    def look_up(self, id: str) -> Chain:
        return _chain(self._call(self._get(id)))

    def wait(self, id: str, seconds: float | None, client_is_gone: Callable[[], bool]) -> Chain | None:
        """The result of a chain that was begun; None if that takes longer than so many seconds."""
        end = math.inf if seconds is None else time.monotonic() + seconds
        future = self._submit(self._settlements.wait(id))
        try:
            while (left := end - time.monotonic()) > 0:
                if futures.wait([future], timeout=min(left, LOOK_SECONDS)).done:
                    return _chain(_result(future))
                if client_is_gone():
                    logger.info("the client of %s has gone, the chain goes on", id)
                    raise ClientGoneError
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
            raise StoppingError
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    # ── on the event loop ──

    async def _begin(self, id: str, spend: Spend) -> None:
        await self._be_connected()
        handle = self._worker.resonate.run(id, self._function, spend.pause or 0, spend.running or 0)
        await self._answer(handle.id())

    async def _get(self, id: str) -> PromiseRecord:
        await self._be_connected()
        return await self._answer(self._worker.sender.promise_get(id))

    async def _be_connected(self) -> None:
        """Ask nothing while the server is away: the SDK would go on asking in the background until it is back."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._worker.stream.wait_until_connected()
        except TimeoutError:
            raise UnreachableError("the Resonate server cannot be reached") from None

    async def _answer[T](self, work: Coroutine[Any, Any, T]) -> T:
        """What the server answers. It may be busy; if it goes away meanwhile, there is no point in waiting."""
        asking = asyncio.ensure_future(work)
        end = time.monotonic() + ANSWER_SECONDS
        while not (await asyncio.wait({asking}, timeout=CONNECT_SECONDS))[0]:
            if not self._worker.stream.connected or time.monotonic() > end:
                asking.add_done_callback(lambda late: late.cancelled() or late.exception())
                raise UnreachableError("the Resonate server does not answer")
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
        raise StoppingError from None
    except ServerError as error:
        if error.code == HTTPStatus.NOT_FOUND:
            raise UnknownChainError from None
        raise UnreachableError(f"the Resonate server refuses: {error.message}") from None
    except ResonateError as error:
        raise UnreachableError(f"the Resonate server gives no usable answer: {error}") from None


def _chain(promise: PromiseRecord) -> Chain:
    """Errors are shown by their message."""
    value = CODEC.decode(promise.value)
    match promise.state:
        case "pending":
            return Chain(promise.id, promise.state)
        case "resolved":
            return Chain(promise.id, promise.state, message=value)
        case "rejected_timedout":
            return Chain(promise.id, promise.state, error="the chain did not end before its deadline")
        case "rejected_canceled":
            return Chain(promise.id, promise.state, error="the chain was cancelled")
        case "rejected":
            message = value.get("message") if isinstance(value, dict) else None
            return Chain(promise.id, promise.state, error=str(message or "the chain failed without a message"))
