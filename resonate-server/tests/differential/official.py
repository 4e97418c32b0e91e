"""The official SDK's in-process server, driven step by step.

Requests go through its ``send``, time through its clock. Its coroutines never really wait, so they are run by hand,
without an event loop or real time. Messages are captured where it dispatches them, because its receivers do not get
the addresses.
"""

import json
from collections.abc import Awaitable, Generator
from types import coroutine
from typing import Any

from differential.kernel import Reply
from resonate.connections.local import LocalConnection, OutgoingMessage, ServerState
from unwaiting import finish


class Official:
    def __init__(self, now: int) -> None:
        self.now = now
        self.sent: list[OutgoingMessage] = []
        self._connection = LocalConnection(clock=lambda: self.now, sleeper=_until_next_tick)
        self._connection._dispatch_messages = self.sent.extend  # type: ignore[method-assign, assignment]
        self._ticks = self._connection._tick_loop()

    @property
    def state(self) -> ServerState:
        """Its whole state."""
        return self._connection.state

    def call(self, kind: str, data: dict[str, Any]) -> Reply:
        head = {"corrId": "differential", "version": "2026-04-01"}
        envelope = json.loads(finish(self._connection.send(json.dumps({"kind": kind, "head": head, "data": data}))))
        return Reply(status=envelope["head"]["status"], data=envelope["data"])

    def tick(self) -> None:
        """Run one round of its loop."""
        self._ticks.send(None)

    def close(self) -> None:
        self._ticks.close()


@coroutine
def _pause() -> Generator[None]:
    yield


def _until_next_tick(_: float) -> Awaitable[None]:
    return _pause()
