"""Learning when promises settle: by what the server pushes, and by asking again where a push may be lost."""

import asyncio
import contextlib

import msgspec
from resonate.error import ResonateError, ServerError
from resonate.transport import UnblockMsg
from resonate.types import PromiseRecord

from worker import RunningWorker

ASK_AGAIN_SECONDS = 15.0


class Settlements:
    """Waits for any number of promises at once.

    The SDK's handles can wait, too, but they answer "not found" for good when a request to the server overtook the
    one that creates the promise.
    """

    def __init__(self, worker: RunningWorker) -> None:
        self._sender = worker.sender
        self._address = worker.stream.unicast()
        self._waiting: dict[str, set[asyncio.Future[PromiseRecord]]] = {}
        self._reconnected = asyncio.Event()
        worker.stream.recv(self._receive)
        worker.stream.watch(self._connection_changed)

    async def wait(self, id: str) -> PromiseRecord:
        """The promise once it is settled. Raises ServerError 404 if the server does not know it (any more)."""
        future: asyncio.Future[PromiseRecord] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(id, set())
        waiting.add(future)
        asking = asyncio.create_task(self._keep_asking(id, future))
        try:
            return await future
        finally:
            asking.cancel()
            waiting.discard(future)
            if not waiting and self._waiting.get(id) is waiting:
                del self._waiting[id]

    def cancel(self) -> None:
        """End every wait."""
        for waiting in self._waiting.values():
            for future in waiting:
                future.cancel()

    async def _keep_asking(self, id: str, future: "asyncio.Future[PromiseRecord]") -> None:
        """Ask at once, after each reconnection, and now and then."""
        while not future.done():
            reconnected = self._reconnected
            try:
                promise = await self._sender.promise_register_listener(id, self._address)
            except ServerError as error:
                if error.code == 404 and not future.done():
                    future.set_exception(error)
            except ResonateError:
                pass  # ask again later
            else:
                self._settle(promise)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ASK_AGAIN_SECONDS):
                    await reconnected.wait()

    def _receive(self, message: str) -> None:
        with contextlib.suppress(msgspec.MsgspecError):  # another kind of message
            self._settle(msgspec.json.decode(message, type=UnblockMsg).promise)

    def _settle(self, promise: PromiseRecord) -> None:
        if promise.state == "pending":
            return
        for future in self._waiting.pop(promise.id, ()):
            if not future.done():
                future.set_result(promise)

    def _connection_changed(self, connected: bool) -> None:
        if connected:
            self._reconnected.set()
            self._reconnected = asyncio.Event()
