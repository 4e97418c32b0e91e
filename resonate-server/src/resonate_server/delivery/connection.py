"""One connected worker: its outgoing messages, and what it was sent but may not have got."""

import asyncio
import time
from collections import deque
from collections.abc import Callable

from resonate_server.protocol.messages import Execute, Message, Unblock

WINDOW = 64
"""Tasks a worker may have been told of without having claimed them. An SDK runs 64 at a time; what it could only
queue up itself is better kept here, where another worker can still take it."""

UNBLOCK_WINDOW = 256
"""``unblock`` messages that may wait for the stream to take them. The others wait in the hub."""

DOUBT_S = 45.0
"""For this long after an ``unblock`` was taken by the stream, a break makes it doubtful that the peer has read it.
More than a keep-alive and the longest write together: only then would a vanished peer be noticed."""


class Connection:
    """``group`` and ``id`` name a worker process; :meth:`wait` hands its messages to whoever writes the stream.

    ``taken`` is called with the ``unblock`` messages among them.
    """

    def __init__(self, group: str, id: str, taken: Callable[["Connection", list[Unblock]], None]) -> None:
        self.group = group
        self.id = id
        self.unclaimed: dict[str, Execute] = {}
        self.closed = False
        self._taken = taken
        self._executes: deque[Execute] = deque()
        self._unblocks: deque[Unblock] = deque()
        self._in_doubt: deque[tuple[float, Unblock]] = deque()
        self._wake = asyncio.Event()

    def __str__(self) -> str:
        return f"{self.group}/{self.id[:8]}"

    @property
    def room(self) -> int:
        """How many more tasks the worker may be told of."""
        return 0 if self.closed else max(WINDOW - len(self.unclaimed), 0)

    @property
    def has_room_for_unblock(self) -> bool:
        return not self.closed and len(self._unblocks) < UNBLOCK_WINDOW

    def push(self, message: Message) -> None:
        """Queue ``message`` for the stream."""
        if isinstance(message, Execute):
            self.unclaimed[message.task_id] = message
            self._executes.append(message)
        else:
            self._unblocks.append(message)
        self._wake.set()

    def forget(self, task_id: str) -> bool:
        """The task needs no worker any more; an unsent message is dropped. Tells whether it was this worker's."""
        execute = self.unclaimed.pop(task_id, None)
        if execute is None:
            return False
        if execute in self._executes:
            self._executes.remove(execute)
        return True

    def undelivered_unblocks(self) -> list[Unblock]:
        """What should be sent again if this stream ends now: a settled promise may be told twice, but not never."""
        self._forget_old_doubts()
        return [*self._unblocks, *(unblock for _, unblock in self._in_doubt)]

    def close(self) -> None:
        """End the stream as soon as its writer looks."""
        self.closed = True
        self._wake.set()

    async def wait(self, seconds: float) -> list[Message]:
        """All messages that are waiting; an empty list after ``seconds`` without one, or once closed."""
        if not self._has_messages and not self.closed:
            self._wake.clear()
            try:
                async with asyncio.timeout(seconds):
                    await self._wake.wait()
            except TimeoutError:
                return []
        return self._take()

    @property
    def _has_messages(self) -> bool:
        return bool(self._executes or self._unblocks)

    def _take(self) -> list[Message]:
        executes, unblocks = list(self._executes), list(self._unblocks)
        self._executes.clear()
        self._unblocks.clear()
        if unblocks:
            self._forget_old_doubts()
            self._in_doubt.extend((time.monotonic(), unblock) for unblock in unblocks)
            self._taken(self, unblocks)
        return [*executes, *unblocks]

    def _forget_old_doubts(self) -> None:
        while self._in_doubt and self._in_doubt[0][0] < time.monotonic() - DOUBT_S:
            self._in_doubt.popleft()
