"""One connected worker: its outgoing messages, and what it was sent but may not have got."""

import asyncio
import time
from collections import deque
from collections.abc import Callable

from msgspec import Struct

from resonate_server.protocol.messages import Execute, Message, Unblock, UnblockKey

WINDOW = 64
"""Tasks a worker may have been told of without having claimed them. An SDK runs 64 at a time; what it could only
queue up itself is better kept here, where another worker can still take it."""

UNCLAIMED_S = 5.0
"""After so long a task that was not claimed gives its place in the window to another. A claim takes milliseconds."""

UNCLAIMED_MAX_S = 20.0
"""The same for a worker that is at work, and so may be full: less than the time after which the store has a task that
nobody claimed dispatched again."""

UNBLOCK_WINDOW = 256
"""``unblock`` messages that may wait for the stream to take them. The others wait in the store."""

DOUBT_S = 45.0
"""For this long after an ``unblock`` was taken by the stream, a break makes it doubtful that the peer has read it.
More than a keep-alive and the longest write together: only then would a vanished peer be noticed."""


class Offer(Struct, eq=False):
    """A task that the worker was told of: as the how manyth, and when (monotonic seconds)."""

    execute: Execute
    number: int
    since: float


class WorkerStream:
    """``group`` and ``id`` name a worker process; ``since``: when its stream began (ms). :meth:`wait` hands its
    messages to whoever writes the stream.

    ``taken`` is called when it has handed over ``unblock`` messages, with how many bytes they had.
    """

    def __init__(self, group: str, id: str, since: int, taken: Callable[["WorkerStream", int], None]) -> None:
        self.group = group
        self.id = id
        self.since = since
        self.unclaimed: dict[str, Offer] = {}
        """In the order in which they were handed out."""
        self.closed = False
        self.unblock_bytes = 0
        """Of the ``unblock`` messages that wait for the stream."""
        self._taken = taken
        self._executes: dict[str, Execute] = {}
        self._unblocks: deque[Unblock] = deque()
        self._in_doubt: deque[tuple[float, UnblockKey]] = deque()
        self._offered = 0
        self._claimed = 0
        """Number of the latest offer that was claimed."""
        self._patience_s = UNCLAIMED_S
        self._wake = asyncio.Event()

    def __str__(self) -> str:
        return f"{self.group}/{self.id[:8]}"

    @property
    def room(self) -> int:
        """How many more tasks the worker may be told of."""
        return 0 if self.closed else max(WINDOW - len(self.unclaimed), 0)

    @property
    def unblocks_waiting(self) -> int:
        return len(self._unblocks)

    # --- tasks ------------------------------------------------------------------------------------------------------

    def offer(self, execute: Execute, since: float | None = None) -> None:
        """Queue it for the stream. ``since``: when a worker was first told of it, if that is not now."""
        self._offered += 1
        self.unclaimed[execute.task_id] = Offer(execute, self._offered, time.monotonic() if since is None else since)
        self._executes[execute.task_id] = execute
        self._wake.set()

    def claimed(self, task_id: str) -> None:
        """The task is claimed or needs no worker any more. SDKs claim in the order in which they are told."""
        offer = self.forget(task_id)
        if offer is not None:
            self._claimed = max(self._claimed, offer.number)
        if not self.unclaimed:
            self._patience_s = UNCLAIMED_S

    def forget(self, task_id: str) -> Offer | None:
        """It is somebody else's now. A message that was not sent yet is dropped."""
        self._executes.pop(task_id, None)
        return self.unclaimed.pop(task_id, None)

    def is_at_work(self) -> None:
        """It holds tasks, so it may be full and not hopeless: what it was told of may stay with it for longer."""
        self._patience_s = min(2 * self._patience_s, UNCLAIMED_MAX_S)

    def take_overdue(self) -> list[Execute]:
        """Stop waiting for what should have been claimed by now: at once, where later ones were claimed."""
        now = time.monotonic()
        overdue: list[Execute] = []
        for offer in self.unclaimed.values():
            patience_s = UNCLAIMED_S if offer.number < self._claimed else self._patience_s
            if now - offer.since < patience_s:
                break
            overdue.append(offer.execute)
        for execute in overdue:
            self.forget(execute.task_id)
        return overdue

    # --- unblocks ---------------------------------------------------------------------------------------------------

    def queue(self, unblock: Unblock, weight: int) -> None:
        """Queue it, of so many bytes, for the stream."""
        self.unblock_bytes += weight
        self._unblocks.append(unblock)
        self._wake.set()

    def undelivered(self) -> list[UnblockKey]:
        """What the peer may not have read if the stream ends now."""
        return [*(unblock.key for unblock in self._unblocks), *(key for _, key in self._in_doubt)]

    def take_delivered(self, limit: int) -> list[UnblockKey]:
        """Up to ``limit`` of those that were taken so long ago that there is no doubt left."""
        oldest = time.monotonic() - DOUBT_S
        delivered: list[UnblockKey] = []
        while self._in_doubt and self._in_doubt[0][0] < oldest and len(delivered) < limit:
            delivered.append(self._in_doubt.popleft()[1])
        return delivered

    def drop_everything(self) -> None:
        """Nothing that it was to be told is true any more."""
        self.unclaimed.clear()
        self._executes.clear()
        self._unblocks.clear()
        self._in_doubt.clear()
        self.unblock_bytes = 0

    # --- the stream -------------------------------------------------------------------------------------------------

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
        messages: list[Message] = [*self._executes.values(), *self._unblocks]
        self._executes.clear()
        if self._unblocks:
            now, weight = time.monotonic(), self.unblock_bytes
            self._in_doubt.extend((now, unblock.key) for unblock in self._unblocks)
            self._unblocks.clear()
            self.unblock_bytes = 0
            self._taken(self, weight)
        return messages
