"""Results of calls that this process both awaits and runs: it learns of them without being told by the server.

The SDK registers a listener for each call that it begins, and a web application runs most of its calls to their ends
itself. So the listener is registered only when the call's task leaves this worker, or has been here for a while.
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
"""Others may settle the call meanwhile: somebody who cancels it, or its next holder if this one was frozen."""


class OwnResults:
    """`ask`: the server, and what it answers; `tell`: the SDK, with a message as those of the stream."""

    def __init__(self, ask: Callable[[str], Awaitable[str]], tell: Callable[[str], None]) -> None:
        self._ask, self._tell = ask, tell
        self._begun: dict[str, msgspec.Raw] = {}
        """Promises of calls that were begun here, while their tasks have not left."""
        self._put_off: dict[str, tuple[str, asyncio.TimerHandle]] = {}
        """By the call: the request for a listener, and when it is sent at the latest."""
        self._listening: set[asyncio.Task[None]] = set()

    def begins(self, id: str, promise: msgspec.Raw) -> None:
        """A call, whose task was given to this worker with it."""
        self._begun[id] = promise

    def put_off(self, request: Request, req: str) -> str | None:
        """The answer to a request for a listener that is sent later, if at all. None if it is not to be put off."""
        id = msgspec.json.decode(request.data, type=Listening).awaited
        if (promise := self._begun.pop(id, None)) is None:
            return None
        self._put_off[id] = req, asyncio.get_running_loop().call_later(LISTEN_SECONDS, self._register, id)
        head = {"corrId": request.head.corr_id, "status": HTTPStatus.OK}
        return msgspec.json.encode({"kind": request.kind, "head": head, "data": {"promise": promise}}).decode()

    def leaves(self, id: str, settled: msgspec.Raw | None = None) -> None:
        """The task of that call has gone. `settled`: the answer's data with its promise, if this worker has done so."""
        self._begun.pop(id, None)
        if settled is None:
            self._register(id)
        elif id in self._put_off:
            self._taken(id)
            self._tell_of(settled)

    def _register(self, id: str) -> None:
        if id in self._put_off:
            listening = asyncio.get_running_loop().create_task(self._listen(self._taken(id)))
            self._listening.add(listening)
            listening.add_done_callback(self._listening.discard)

    def _taken(self, id: str) -> str:
        req, timer = self._put_off.pop(id)
        timer.cancel()
        return req

    async def _listen(self, req: str) -> None:
        """If the server refuses, the SDK asks again, as it does from time to time."""
        with suppress(ConnectorError, msgspec.MsgspecError):
            answer = msgspec.json.decode(await self._ask(req), type=Answer)
            if msgspec.json.decode(answer.data, type=WithPromise).promise.state != "pending":
                self._tell_of(answer.data)

    def _tell_of(self, settled: msgspec.Raw) -> None:
        self._tell(msgspec.json.encode({"kind": "unblock", "data": settled}).decode())
