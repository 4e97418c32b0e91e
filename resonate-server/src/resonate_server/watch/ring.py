"""The ring: the latest events, numbered, in bounded memory. Older ones are dropped, not written anywhere.

The events of a chain are ordered without relying on clocks: each server stamps events by its own clock, and no two
agree. But the database serializes the changes of one promise and counts its attempts.

A viewer is just a position in the ring, so it needs no queue. One that the ring has overtaken has missed events; it is
disconnected and starts over. Events are encoded once for all viewers at the same position.

A viewer with a prefix learns nothing of what others do, not even how much: it gets events of its own ids and groups,
numbered for it alone, and cannot resume.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import Container
from contextlib import suppress

from msgspec import Struct
from msgspec.structs import replace

from resonate_server.watch.events import ChainEvent, Event, PromiseCreated, TaskNews, What, WorkerEvent, encoder

MAX_EVENTS = 20_000
MAX_WEIGHT = 16 * 1_024 * 1_024
"""Characters that are kept: of payloads, ids and names."""


class Ring:
    """``epoch`` distinguishes this ring's numbers from those of an earlier run of the server."""

    def __init__(self, max_events: int = MAX_EVENTS, max_weight: int = MAX_WEIGHT) -> None:
        self.epoch = secrets.token_hex(8)
        self.last = 0
        """Number of the latest event; 0 if there is none yet."""
        self._events: deque[Event] = deque()
        self._max_events = max_events
        self._max_weight = max_weight
        self._weight = 0

    @property
    def first(self) -> int:
        """Number of the oldest event kept, or of the next one if there is none."""
        return self.last - len(self._events) + 1

    @property
    def since(self) -> int | None:
        """Time (ms) of the oldest event kept; ``None`` if nothing was dropped."""
        return None if self.first == 1 else self._events[0].at

    def append(self, event: Event) -> None:
        """Number it and keep it."""
        event.seq = self.last = self.last + 1
        events = self._events
        events.append(event)
        self._weight += event.weight()
        while len(events) > self._max_events or (self._weight > self._max_weight and len(events) > 1):
            self._weight -= events.popleft().weight()

    def reaches(self, after: int) -> bool:
        """Return whether all events after number ``after`` are still there."""
        return self.first - 1 <= after <= self.last

    def after(self, seq: int, limit: int) -> list[Event]:
        """Return up to ``limit`` of the kept events after ``seq``."""
        begin = max(seq + 1 - self.first, 0)
        return [self._events[place] for place in range(begin, min(begin + limit, len(self._events)))]

    def of(self, ids: Container[str]) -> list[ChainEvent]:
        """Return the kept events of these promises, those of each in order: those of other servers arrive late."""
        return sorted((each for each in self._events if isinstance(each, ChainEvent) and each.id in ids), key=place)


# ── order ──

BEFORE_ALL, AFTER_ALL = -1, 2**63


def place(event: ChainEvent) -> tuple[int, int, int]:
    """Return an event's sort key among those of its promise: attempt, then stage of the attempt, then time."""
    match event:
        case PromiseCreated():
            return BEFORE_ALL, 0, event.at
        case TaskNews():
            return event.version, STAGES.get(event.kind, 2), event.at
    return AFTER_ALL, 0, event.at


STAGES = {What.CLAIMED: 0, What.SUSPENDED: 1, What.LOST: 1, What.RELEASED: 1}
"""An attempt begins, it ends, and everything else follows, until the next one."""


# ── viewers ──

MAX_VIEWERS = 32
"""A further viewer evicts one that has fallen far behind, or else the oldest. A page reconnects."""

MAX_LINES = 500
"""Events per write; more would block the event loop for too long."""

MAX_WRITE = 128 * 1_024
"""Characters per write, as they are counted in the ring: a viewer that does not read keeps one write in memory."""

PAUSE_S = 0.1
"""Pause between two writes to a viewer, so that many events share one."""


class Overtaken(Exception):
    """The viewer is so slow that the ring has dropped its next event."""


class Viewer(Struct, eq=False):
    """A viewer of ids and groups that begin with ``prefix``, which has seen everything up to ``seq``. ``taken``: how
    many events it was given."""

    prefix: str
    seq: int
    taken: int = 0
    is_open: bool = True


class Feed:
    """Used on the event loop only."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self._viewers: dict[Viewer, None] = {}
        """Oldest first."""
        self._news = asyncio.Event()
        self._latest: tuple[tuple[int, int], bytes] = ((0, 0), b"")
        self.closed = False

    def open(self, prefix: str, after: str, past: int = 0) -> tuple[Viewer, bool]:
        """Return a new viewer, and whether it resumes at ``after`` (``EPOCH:SEQ``, or empty).

        One that does not resume first gets up to ``past`` earlier events.
        """
        if len(self._viewers) >= MAX_VIEWERS:
            self._send_away(min(self._viewers, key=lambda viewer: self._ring.last - viewer.seq < MAX_LINES))
        seq = None if prefix else self._place(after)
        viewer = Viewer(prefix, max(self._ring.last - past, self._ring.first - 1) if seq is None else seq)
        self._viewers[viewer] = None
        viewer.is_open = not self.closed
        return viewer, seq is not None

    def news_after(self, viewer: Viewer, resumed: bool) -> int:
        """Return the number after which events are news to ``viewer``, which has just been opened."""
        if viewer.prefix:
            return len(visible(self._ring.after(viewer.seq, self._ring.last), viewer.prefix))
        return viewer.seq if resumed else self._ring.last

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
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()

    def take(self, viewer: Viewer) -> bytes:
        """Return the next lines for ``viewer`` and advance it; empty if there are none. Raises :class:`Overtaken`."""
        if not self._ring.reaches(viewer.seq):
            raise Overtaken
        events = _light(self._ring.after(viewer.seq, MAX_LINES))
        if not events:
            return b""
        key = viewer.seq, events[-1].seq
        viewer.seq = events[-1].seq
        if viewer.prefix:
            own = visible(events, viewer.prefix)
            lines = [replace(event, seq=number) for number, event in enumerate(own, viewer.taken + 1)]
            viewer.taken += len(lines)
            return encoder.encode_lines(lines)
        if self._latest[0] != key:
            self._latest = key, encoder.encode_lines(events)
        return self._latest[1]

    def _place(self, after: str) -> int | None:
        epoch, _, seq = after.partition(":")
        if epoch != self._ring.epoch or not (seq.isascii() and seq.isdigit() and len(seq) < 19):
            return None
        return int(seq) if self._ring.reaches(int(seq)) else None


def _light(events: list[Event]) -> list[Event]:
    """Return as many of ``events`` as one write may take, at least one."""
    weight = 0
    for count, event in enumerate(events):
        weight += event.weight()
        if weight > MAX_WRITE:
            return events[: count or 1]
    return events


def visible(events: list[Event], prefix: str) -> list[Event]:
    """Return the server's events and those of ids and groups that begin with ``prefix``, with other ids removed."""
    shown: list[Event] = []
    for event in events:
        match event:
            case ChainEvent(id=name) | WorkerEvent(group=name) if not name.startswith(prefix):
                continue
            case PromiseCreated():
                shown.append(replace(event, chain=own(event.chain, prefix), parent=own(event.parent, prefix)))
            case TaskNews():
                on = [id for id in event.on if id.startswith(prefix)]
                shown.append(replace(event, chain=own(event.chain, prefix), on=on))
            case ChainEvent():
                shown.append(replace(event, chain=own(event.chain, prefix)))
            case _:
                shown.append(event)
    return shown


def own(id: str | None, prefix: str) -> str | None:
    """Return an id that the viewer may see."""
    return None if id is None or not id.startswith(prefix) else id
