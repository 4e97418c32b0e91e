"""The ring: the latest events, numbered, in bounded memory. Older ones are dropped, not written anywhere.

The events of a chain are ordered without relying on clocks: each server stamps events by its own clock, and no two
agree. But the database serializes the changes of one promise and counts its attempts.
"""

import secrets
from collections.abc import Callable

from resonate_server.watch.events import (
    ChainEvent,
    Event,
    PromiseCreated,
    TaskClaimed,
    TaskHalted,
    TaskLost,
    TaskQueued,
    TaskRefused,
    TaskReleased,
    TaskSent,
    TaskSuspended,
    TaskUnclaimed,
)

MAX_EVENTS = 20_000
MAX_WEIGHT = 16 * 1_024 * 1_024
"""Characters that are kept: of payloads, ids and names."""


class Ring:
    """``epoch`` distinguishes this ring's numbers from those of an earlier run of the server."""

    catch_up: Callable[[], None]
    """Called before every read, so that whatever fills the ring can catch up."""

    def __init__(self, max_events: int = MAX_EVENTS, max_weight: int = MAX_WEIGHT) -> None:
        self.epoch = secrets.token_hex(8)
        self.catch_up = lambda: None
        self._last = 0
        self._first = 1
        self._events: list[Event | None] = [None] * max_events
        self._chains: dict[str, list[int]] = {}
        """Event numbers by chain, up to ``_indexed``; brought up to date by each query."""
        self._indexed = self._begun = 0
        """``_begun``: the number before the first one in the index."""
        self._max_weight = max_weight
        self._weight = 0

    @property
    def last(self) -> int:
        """Number of the latest event; 0 if there is none yet."""
        self.catch_up()
        return self._last

    @property
    def first(self) -> int:
        """Number of the oldest event kept, or of the next one if there is none."""
        self.catch_up()
        return self._first

    @property
    def since(self) -> int | None:
        """Time (ms) of the oldest event kept; ``None`` if nothing was dropped."""
        self.catch_up()
        event = self._events[self._first % len(self._events)]
        return None if self._first == 1 or event is None else event.at

    def append(self, event: Event) -> None:
        """Number it and keep it."""
        events = self._events
        event.seq = number = self._last = self._last + 1
        if number - self._first == len(events):
            self._forget_first()
        events[number % len(events)] = event
        self._weight += event.weight()
        while self._weight > self._max_weight and self._first < self._last:
            self._forget_first()

    def reaches(self, after: int) -> bool:
        """Return whether all events after number ``after`` are still there."""
        self.catch_up()
        return self._first - 1 <= after <= self._last

    def after(self, seq: int, limit: int) -> list[Event]:
        """Return up to ``limit`` of the kept events after ``seq``."""
        self.catch_up()
        begin = max(seq + 1, self._first)
        return self._range(begin, min(self._last + 1, begin + limit))

    def of(self, chain: str) -> list[ChainEvent]:
        """Return the kept events of one chain, those of each promise in order: those of other servers arrive late."""
        self.catch_up()
        self._index()
        events = (
            self._events[number % len(self._events)] for number in self._chains.get(chain, ()) if number >= self._first
        )
        return sorted((event for event in events if isinstance(event, ChainEvent)), key=place)

    def _index(self) -> None:
        if self._first - self._begun > self._last - self._first + 1:  # Most of it refers to dropped events.
            self._chains.clear()
            self._begun = self._indexed = self._first - 1
        for event in self._range(max(self._indexed + 1, self._first), self._last + 1):
            if isinstance(event, ChainEvent) and event.chain is not None:
                self._chains.setdefault(event.chain, []).append(event.seq)
        self._indexed = self._last

    def _range(self, begin: int, end: int) -> list[Event]:
        size = len(self._events)
        low, high = begin % size, end % size
        if begin >= end:
            return []
        found = self._events[low:high] if low < high else self._events[low:] + self._events[:high]
        return [event for event in found if event is not None]

    def _forget_first(self) -> None:
        place = self._first % len(self._events)
        event, self._events[place] = self._events[place], None
        if event is not None:
            self._weight -= event.weight()
        self._first += 1


# ── order ──

BEFORE_ALL, AFTER_ALL = -1, 2**63


def place(event: ChainEvent) -> tuple[int, int, int]:
    """Return an event's sort key among those of its promise: attempt, then stage of the attempt, then time."""
    match event:
        case PromiseCreated():
            return BEFORE_ALL, 0, event.at
        case TaskClaimed(version=attempt):
            return attempt, 0, event.at
        case TaskSuspended(version=attempt) | TaskLost(version=attempt) | TaskReleased(version=attempt):
            return attempt, 1, event.at
        case (
            TaskQueued(version=attempt)
            | TaskSent(version=attempt)
            | TaskUnclaimed(version=attempt)
            | TaskHalted(version=attempt)
            | TaskRefused(version=attempt)
        ):
            return attempt, 2, event.at
    return AFTER_ALL, 0, event.at
