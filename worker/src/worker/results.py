"""Results of calls that this process both awaits and runs: it learns them without a message from the server.

The SDK registers a listener for each call that it begins, but a web application completes most of its calls itself. So
the listener is registered only when the call's task leaves this worker, or after a while.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Final

import msgspec
from resonate.error import ConnectorError

from worker.wire import Answer, Listening, Request, WithPromise

LISTEN_SECONDS: Final = 1.0
"""Others may settle the call meanwhile: somebody who cancels it, or its next holder if this process was frozen."""


class OwnResults:
    """`ask` sends a request to the server and returns its answer; `tell` gives the SDK a message as from the stream."""

    def __init__(self, ask: Callable[[str], Awaitable[str]], tell: Callable[[str], None]) -> None:
        self._ask, self._tell = ask, tell
        self._begun: dict[str, msgspec.Raw] = {}
        """Promises of calls that were begun here and whose tasks have not left."""
        self._deferred: dict[str, tuple[str, asyncio.TimerHandle]] = {}
        """By call: the request for a listener, and the timer that sends it at the latest."""
        self._listening: set[asyncio.Task[None]] = set()

    def begins(self, id: str, promise: msgspec.Raw) -> None:
        """Note that this worker began a call and got its task."""
        self._begun[id] = promise

    def defer(self, request: Request, req: str) -> str | None:
        """Answer a request for a listener here, and send it later, if at all. Return None if it must be sent now."""
        id = msgspec.json.decode(request.data, type=Listening).awaited
        if (promise := self._begun.pop(id, None)) is None:
            return None
        self._deferred[id] = req, asyncio.get_running_loop().call_later(LISTEN_SECONDS, self._register, id)
        head = {"corrId": request.head.corr_id, "status": HTTPStatus.OK}
        return msgspec.json.encode({"kind": request.kind, "head": head, "data": {"promise": promise}}).decode()

    def leaves(self, id: str, settled: msgspec.Raw | None = None) -> None:
        """Note that the call's task is gone. `settled`: data with its promise, if this worker has settled it."""
        self._begun.pop(id, None)
        if settled is None:
            self._register(id)
        elif id in self._deferred:
            self._taken(id)
            self._tell_of(settled)

    def _register(self, id: str) -> None:
        if id in self._deferred:
            listening = asyncio.get_running_loop().create_task(self._listen(self._taken(id)))
            self._listening.add(listening)
            listening.add_done_callback(self._listening.discard)

    def _taken(self, id: str) -> str:
        req, timer = self._deferred.pop(id)
        timer.cancel()
        return req

    async def _listen(self, req: str) -> None:
        """Send the request. If the server refuses it, the SDK's periodic refresh asks again."""
        with suppress(ConnectorError, msgspec.MsgspecError):
            answer = msgspec.json.decode(await self._ask(req), type=Answer)
            if msgspec.json.decode(answer.data, type=WithPromise).promise.state != "pending":
                self._tell_of(answer.data)

    def _tell_of(self, settled: msgspec.Raw) -> None:
        self._tell(msgspec.json.encode({"kind": "unblock", "data": settled}).decode())
