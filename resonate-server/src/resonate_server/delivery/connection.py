"""One connected worker: its outgoing messages and what it was sent but has not claimed yet."""

import asyncio
import time
from collections import deque

from resonate_server.protocol.messages import Execute, Message, Unblock

WINDOW = 64
"""Tasks a worker may have been told of without having claimed them. An SDK runs 64 at a time; what it could only
queue up itself is better kept here, where another worker can still take it."""

MAX_OUTGOING = 1_000
"""Messages waiting for a stream to take them. Beyond that its reader is not reading."""

DOUBT_S = 15.0
"""For this long after an ``unblock`` was written, a breaking stream makes it doubtful that the peer has read it."""


class Connection:
    """``group`` and ``id`` name a worker process; :meth:`wait` hands its messages to whoever writes the stream."""

    def __init__(self, group: str, id: str) -> None:
        self.group = group
        self.id = id
        self.unclaimed: dict[str, Execute] = {}
        self.closed = False
        self._outgoing: deque[Message] = deque()
        self._unblocks: deque[tuple[float, Unblock]] = deque(maxlen=MAX_OUTGOING)
        self._wake = asyncio.Event()

    def __str__(self) -> str:
        return f"{self.group}/{self.id[:8]}"

    @property
    def room(self) -> int:
        """How many more tasks the worker may be told of."""
        return 0 if self.closed else max(WINDOW - len(self.unclaimed), 0)

    def push(self, message: Message) -> None:
        """Queue ``message`` for the stream; a reader too slow to be served is closed instead."""
        if isinstance(message, Execute):
            self.unclaimed[message.task_id] = message
        else:
            self._unblocks.append((time.monotonic(), message))
        self._outgoing.append(message)
        if len(self._outgoing) > MAX_OUTGOING:
            self.close()
        self._wake.set()

    def forget(self, task_id: str) -> bool:
        """The task needs no worker any more; an unsent message is dropped. Tells whether it was this worker's to
        claim."""
        execute = self.unclaimed.pop(task_id, None)
        if execute is None:
            return False
        if execute in self._outgoing:
            self._outgoing.remove(execute)
        return True

    def unblocks_in_doubt(self) -> list[Unblock]:
        """What should be sent again if this stream breaks now: a settled promise may be told twice, but not never."""
        while self._unblocks and self._unblocks[0][0] < time.monotonic() - DOUBT_S:
            self._unblocks.popleft()
        return [unblock for _, unblock in self._unblocks]

    def close(self) -> None:
        """End the stream as soon as its writer looks."""
        self.closed = True
        self._wake.set()

    async def wait(self, seconds: float) -> list[Message]:
        """All messages that are waiting; an empty list after ``seconds`` without one, or once closed."""
        if not self._outgoing and not self.closed:
            self._wake.clear()
            try:
                async with asyncio.timeout(seconds):
                    await self._wake.wait()
            except TimeoutError:
                return []
        messages = list(self._outgoing)
        self._outgoing.clear()
        return messages
