"""The stream of events for viewers: where a viewer starts, what comes next, and when it is too slow.

A viewer is just a position in the ring, so it needs no queue. One that the ring has overtaken has missed events; it is
disconnected and starts over. Events are encoded once for all viewers at the same position.
"""

import asyncio

from msgspec.structs import replace

from resonate_server.watch.events import ChainEvent, Event, PromiseCreated, TaskSuspended, encoder
from resonate_server.watch.ring import Ring

MAX_VIEWERS = 32
"""A further viewer evicts one that has fallen far behind, or else the oldest. A page reconnects."""

MAX_LINES = 500
"""Events per write; more would block the event loop for too long."""

PAUSE_S = 0.1
"""Pause between two writes to a viewer, so that many events share one."""


class Overtaken(Exception):
    """The viewer is so slow that the ring has dropped its next event."""


class Viewer:
    """A viewer of ids that begin with ``prefix``, which has seen everything up to ``seq``."""

    def __init__(self, prefix: str, seq: int) -> None:
        self.prefix = prefix
        self.seq = seq
        self.is_open = True


class Feed:
    """Used on the event loop only."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self._viewers: dict[Viewer, None] = {}
        """Oldest first."""
        self._news = asyncio.Event()
        self._latest: tuple[tuple[str, int, int], bytes] = (("", 0, 0), b"")
        self.closed = False

    def open(self, prefix: str, after: str, past: int = 0) -> tuple[Viewer, bool]:
        """Return a new viewer, and whether it resumes at ``after`` (``EPOCH:SEQ``, or empty).

        One that does not resume first gets up to ``past`` earlier events.
        """
        if len(self._viewers) >= MAX_VIEWERS:
            self._send_away(min(self._viewers, key=lambda viewer: self._ring.last - viewer.seq < MAX_LINES))
        seq = self._place(after)
        viewer = Viewer(prefix, max(self._ring.last - past, self._ring.first - 1) if seq is None else seq)
        self._viewers[viewer] = None
        viewer.is_open = not self.closed
        return viewer, seq is not None

    def leave(self, viewer: Viewer) -> None:
        self._viewers.pop(viewer, None)

    def close(self) -> None:
        """Disconnect all viewers: the server is stopping."""
        self.closed = True
        for viewer in list(self._viewers):
            self._send_away(viewer)

    def _send_away(self, viewer: Viewer) -> None:
        self.leave(viewer)
        viewer.is_open = False
        self._news.set()

    def reported(self) -> None:
        """Wake the viewers: the ring may have new events."""
        if self._viewers:
            self._news.set()

    async def wait(self, viewer: Viewer, seconds: float) -> None:
        """Wait until there is something for ``viewer``, it has to leave, or ``seconds`` have passed."""
        if viewer.seq < self._ring.last or not viewer.is_open:
            return
        self._news.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            pass

    def take(self, viewer: Viewer) -> bytes:
        """Return the next lines for ``viewer`` and advance it; empty if there are none. Raises :class:`Overtaken`."""
        if not self._ring.reaches(viewer.seq):
            raise Overtaken
        events = self._ring.after(viewer.seq, MAX_LINES)
        if not events:
            return b""
        key = (viewer.prefix, viewer.seq, events[-1].seq)
        viewer.seq = events[-1].seq
        if self._latest[0] != key:
            self._latest = key, encoder.encode_lines(visible(events, viewer.prefix))
        return self._latest[1]

    def _place(self, after: str) -> int | None:
        epoch, _, seq = after.partition(":")
        if epoch != self._ring.epoch or not (seq.isascii() and seq.isdigit() and len(seq) < 19):
            return None
        return int(seq) if self._ring.reaches(int(seq)) else None


def visible(events: list[Event], prefix: str) -> list[Event]:
    """Return the events that a viewer of ids beginning with ``prefix`` may see, with other ids removed."""
    if not prefix:
        return events
    return [
        _redacted(event, prefix) if isinstance(event, ChainEvent) else event
        for event in events
        if not isinstance(event, ChainEvent) or event.id.startswith(prefix)
    ]


def _redacted(event: ChainEvent, prefix: str) -> ChainEvent:
    chain = event.chain if event.chain is not None and event.chain.startswith(prefix) else None
    match event:
        case PromiseCreated(parent=str() as parent) if not parent.startswith(prefix):
            return replace(event, chain=chain, parent=None)
        case TaskSuspended(on=on):
            return replace(event, chain=chain, on=[id for id in on if id.startswith(prefix)])
    return event if chain == event.chain else replace(event, chain=chain)
