"""The stream of events for those who watch: where one begins, what comes next, and when one is too slow.

A viewer is a place in the ring and nothing else, so it needs no queue: one that the ring has overtaken has missed
something, and is sent away to begin anew. Events are encoded once for all who stand at the same place.
"""

import asyncio

from msgspec.structs import replace

from resonate_server.watch.events import ChainEvent, Event, PromiseCreated, TaskSuspended, encoder
from resonate_server.watch.ring import Ring

MAX_VIEWERS = 32
"""One more makes one leave: the one that has fallen far behind, or has been there longest. A page comes back."""

MAX_LINES = 500
"""Events of one write: more would keep the event loop from its work."""

PAUSE_S = 0.1
"""Between two writes to a viewer, so that many events share one."""


class Overtaken(Exception):
    """The viewer was so slow that the ring has forgotten what comes next for it."""


class Viewer:
    """Somebody who watches what begins with ``prefix``, and has seen everything up to ``seq``."""

    def __init__(self, prefix: str, seq: int) -> None:
        self.prefix = prefix
        self.seq = seq
        self.is_welcome = True


class Feed:
    """Used on the event loop only."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self._viewers: dict[Viewer, None] = {}
        """The longest here first."""
        self._news = asyncio.Event()
        self._latest: tuple[tuple[str, int, int], bytes] = (("", 0, 0), b"")
        self.closed = False

    def open(self, prefix: str, after: str, past: int = 0) -> tuple[Viewer, bool]:
        """A new viewer, and whether it goes on where ``after`` (``EPOCH:SEQ``, or empty) says.

        One that does not is told up to ``past`` earlier events first.
        """
        if len(self._viewers) >= MAX_VIEWERS:
            self._send_away(min(self._viewers, key=lambda viewer: self._ring.last - viewer.seq < MAX_LINES))
        seq = self._place(after)
        viewer = Viewer(prefix, max(self._ring.last - past, self._ring.first - 1) if seq is None else seq)
        self._viewers[viewer] = None
        viewer.is_welcome = not self.closed
        return viewer, seq is not None

    def leave(self, viewer: Viewer) -> None:
        self._viewers.pop(viewer, None)

    def close(self) -> None:
        """Send everybody away: the server stops."""
        self.closed = True
        for viewer in list(self._viewers):
            self._send_away(viewer)

    def _send_away(self, viewer: Viewer) -> None:
        self.leave(viewer)
        viewer.is_welcome = False
        self._news.set()

    def reported(self) -> None:
        """The ring may have something new."""
        if self._viewers:
            self._news.set()

    async def wait(self, viewer: Viewer, seconds: float) -> None:
        """Until there is something for ``viewer``, or it is to leave, or the time is over."""
        if viewer.seq < self._ring.last or not viewer.is_welcome:
            return
        self._news.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            pass

    def take(self, viewer: Viewer) -> bytes:
        """The next lines for ``viewer``, which moves on; empty if there are none. Raises :class:`Overtaken`."""
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
    """Those that somebody may see who may see ids that begin with ``prefix``, without other ids in them."""
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
