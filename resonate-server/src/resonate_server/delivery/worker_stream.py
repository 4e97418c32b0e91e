"""One connected worker: its outgoing messages, and those it may not have received."""

import asyncio
from collections import deque
from collections.abc import Callable

from msgspec import Struct

from resonate_server.protocol.address import PollAddress
from resonate_server.protocol.messages import Execute, Message, Unblock, UnblockKey

WINDOW = 64
"""Most tasks that a worker may have been sent without claiming them. An SDK runs 64 at a time; more are better kept
here, where another worker can still take them."""

UNCLAIMED_S = 5.0
"""After this time an unclaimed task gives up its place in the window. A claim takes milliseconds."""

UNCLAIMED_MAX_S = 20.0
"""The same for a worker at work, which may be full: less than the time until the store dispatches the task again."""

UNBLOCK_WINDOW = 256
"""``unblock`` messages that may wait for the stream to take them. The others wait in the store."""

DOUBT_S = 45.0
"""If a stream breaks within this time after it took an ``unblock``, the peer may not have read it. Longer than a
keep-alive and the client's patience together, after which a vanished peer is noticed."""


class Offer(Struct, eq=False):
    """A task for the workers that its address names."""

    execute: Execute
    address: PollAddress
    holder: "WorkerStream | None" = None
    """The worker that was sent it; ``None`` while it waits for one with room."""
    number: int = 0
    """Among all offers to that worker."""
    since: float = 0.0
    """When it was sent, in s of uptime."""
    is_written: bool = False
    """Whether the holder's stream has taken it."""

    @property
    def characters(self) -> int:
        return len(self.execute.task_id) + len(self.execute.target)


class WorkerStream:
    """``group``, ``id``: the worker process; ``since``: when its stream began (ms); ``prefix``: that of the only ids it
    may claim. :meth:`wait` returns what to write.

    ``uptime`` returns how long this server has run, in s. ``taken`` is called after ``unblock`` messages were handed
    over, with their size in bytes.
    """

    def __init__(
        self,
        group: str,
        id: str,
        since: int,
        uptime: Callable[[], float],
        taken: Callable[["WorkerStream", int], None],
        prefix: str,
    ) -> None:
        self.group = group
        self.id = id
        self.since = since
        self.unclaimed: dict[str, Offer] = {}
        """In the order of the offers."""
        self.closed = False
        self.unblock_bytes = 0
        """Size of the ``unblock`` messages that wait for the stream."""
        self._uptime = uptime
        self._taken = taken
        self._prefix = prefix
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
        """How many more tasks the worker can take."""
        return 0 if self.closed else max(WINDOW - len(self.unclaimed), 0)

    @property
    def unblocks_waiting(self) -> int:
        return len(self._unblocks)

    # --- tasks ------------------------------------------------------------------------------------------------------

    def may_claim(self, offer: Offer) -> bool:
        """Return whether its token permits the worker to claim the task."""
        return offer.execute.task_id.startswith(self._prefix)

    def offer(self, offer: Offer, since: float | None = None) -> None:
        """Queue the task for the stream. ``since``: when a worker was first sent it, if earlier."""
        self._offered += 1
        offer.holder, offer.number, offer.since = self, self._offered, self._uptime() if since is None else since
        offer.is_written = False
        self.unclaimed[offer.execute.task_id] = offer
        self._wake.set()

    def claimed(self, task_id: str) -> None:
        """Remove a task that was claimed or needs no worker any more. SDKs claim in the order of the offers."""
        offer = self.forget(task_id)
        if offer is not None:
            self._claimed = max(self._claimed, offer.number)
        if not self.unclaimed:
            self._patience_s = UNCLAIMED_S

    def forget(self, task_id: str) -> Offer | None:
        """Remove a task that is not this worker's any more, with its message if not sent yet."""
        return self.unclaimed.pop(task_id, None)

    def is_at_work(self) -> None:
        """Allow more time for claims: a worker that holds tasks may just be full."""
        self._patience_s = min(2 * self._patience_s, UNCLAIMED_MAX_S)

    def take_overdue(self) -> list[Execute]:
        """Remove and return overdue tasks. One that a later claim has overtaken gets no extra time."""
        now = self._uptime()
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
        """Queue an ``unblock`` of ``weight`` bytes for the stream."""
        self.unblock_bytes += weight
        self._unblocks.append(unblock)
        self._wake.set()

    def undelivered(self) -> list[UnblockKey]:
        """Return the messages that the peer may not have read if the stream ends now."""
        return [*(unblock.key for unblock in self._unblocks), *(key for _, key in self._in_doubt)]

    def take_delivered(self, limit: int) -> list[UnblockKey]:
        """Remove and return up to ``limit`` messages that the peer has surely read by now."""
        oldest = self._uptime() - DOUBT_S
        delivered: list[UnblockKey] = []
        while self._in_doubt and self._in_doubt[0][0] < oldest and len(delivered) < limit:
            delivered.append(self._in_doubt.popleft()[1])
        return delivered

    def drop_everything(self) -> None:
        """Drop all messages: everything in the store was deleted."""
        self.unclaimed.clear()
        self._unblocks.clear()
        self._in_doubt.clear()
        self.unblock_bytes = 0

    # --- the stream -------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End the stream as soon as its writer notices."""
        self.closed = True
        self._wake.set()

    async def wait(self, seconds: float) -> list[Message]:
        """Return all waiting messages; an empty list after ``seconds`` without one, or once closed."""
        messages = self._take()
        if not messages and not self.closed:
            self._wake.clear()
            timer = asyncio.get_running_loop().call_later(seconds, self._wake.set)
            await self._wake.wait()
            timer.cancel()
            messages = self._take()
        return messages

    def _take(self) -> list[Message]:
        unwritten = [offer for offer in self.unclaimed.values() if not offer.is_written]
        for offer in unwritten:
            offer.is_written = True
        messages: list[Message] = [*(offer.execute for offer in unwritten), *self._unblocks]
        if self._unblocks:
            now, weight = self._uptime(), self.unblock_bytes
            self._in_doubt.extend((now, unblock.key) for unblock in self._unblocks)
            self._unblocks.clear()
            self.unblock_bytes = 0
            self._taken(self, weight)
        return messages
