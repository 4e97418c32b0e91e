"""Who is there. Whether a worker lives is known here alone; others ask, or are told.

A worker is a process in a group; a process may have streams in several groups. A stream that stays open proves nothing,
as a frozen process keeps it, but one that breaks is a strong hint: a live worker is back within a second or two. So a
worker is

* *connected* while its stream is open, and for a moment after this server has ended it;
* *silent* since its stream broke, or since it let a lease lapse, until there is a sign of life;
* *gone* when it stayed away for a grace period without one (protocol section 9, item 4), or for longer than it takes
  to come back from an end that was planned.

A worker may promise more with its stream, see :class:`Pledge`, and is held to that. One that promised to be heard of
and is not, though its stream is open, is frozen or cut off: it is given up. But only if others of its group were heard
of all that time. So nobody is judged if it is this server that was cut off or frozen, or if nobody could go on instead.

Who is judged wrongly loses its leases and nothing more, as late writes are refused; that is counted. A process that was
silent and turns out to live is not held to that promise again: its lease decides, and work that stops all of its
threads for long comes to its end at the second try.
"""

import asyncio
import logging
from collections.abc import Callable
from enum import StrEnum

from msgspec import Struct, field

from resonate_server.delivery.worker_observer import WorkerObserver

logger = logging.getLogger(__name__)

SILENT_MS = 30_000
"""How long a process that let a lease lapse is avoided, unless it is heard of before: as long as it takes until an
unclaimed task is dispatched again."""

ABSENT_MS = 15_000
"""A worker whose stream was ended as planned is back within a second; after this long it counts as gone."""

LAST_WORDS_MS = 250
"""What is heard of a process so soon after its stream has ended, it may have said before: that is no sign of life."""

GONE_KEPT_MS = 10 * 60_000
"""How long a worker that is gone is remembered."""

MAX_AWAY = 1_000
"""Processes without a stream that are remembered."""

LOOK_MS = 250
"""Between two looks at who is overdue."""

PAUSE_MS = 2_000
"""A group of which nobody is heard for longer has fallen silent as a whole. Its workers speak once a second."""


class State(StrEnum):
    CONNECTED = "connected"
    SILENT = "silent"
    GONE = "gone"


class Pledge(Struct, frozen=True):
    """What a worker promises when it asks for its stream, in ms. SDKs promise nothing."""

    back_within: int | None = None
    """If the stream breaks while the worker lives, the next one comes within this time."""
    heard_within: int | None = None
    """While the worker lives, each request of its own is followed by another one within this time."""


NO_PLEDGE = Pledge()


class Member(Struct, frozen=True):
    """A worker as it stands now. Times are in ms; ``since``: when it came, ``heard``: its last sign of life."""

    pid: str
    group: str
    since: int
    heard: int
    state: State
    gone_at: int | None


class _Seat(Struct):
    """A process in one group. ``left_at``: when its stream ended, ``planned`` by this server or not."""

    since: int
    left_at: int | None = None
    planned: bool = False
    given_up_at: int | None = None
    """When the grace period was over."""

    def gone_at(self, now: int) -> int | None:
        if self.given_up_at is None and self.left_at is not None and now - self.left_at > ABSENT_MS:
            return self.left_at + ABSENT_MS
        return self.given_up_at

    def is_expected(self, now: int) -> bool:
        """Its stream was ended as planned, a moment ago."""
        return self.planned and self.gone_at(now) is None


class _Process(Struct):
    """``silent_at``: when it let a lease lapse, if it was not heard of since; ``grace``: runs while it is missed, for
    ``grace_s``; ``heard_within``: what it is held to, in ms."""

    heard: int
    grace_s: float
    heard_within: int | None = None
    has_been_silent: bool = False
    """For longer than it had promised: it is not held to that any more."""
    silent_at: int | None = None
    grace: asyncio.TimerHandle | None = None
    given_up: bool = False
    seats: dict[str, _Seat] = field(default_factory=dict)
    """By group."""

    @property
    def has_stream(self) -> bool:
        return any(seat.left_at is None for seat in self.seats.values())

    def may_have_died_since(self, at: int) -> bool:
        """It was heard of then (ms), but has no stream any more."""
        return not self.has_stream and at < LAST_WORDS_MS + max(seat.left_at or 0 for seat in self.seats.values())

    def is_overdue(self, now: int) -> bool:
        return self.heard_within is not None and now - self.heard > self.heard_within

    def seen(self, now: int) -> None:
        self.heard, self.silent_at = now, None
        self.miss_no_more()

    def miss_no_more(self) -> None:
        if self.grace is not None:
            self.grace.cancel()
            self.grace = None


class _Company(Struct):
    """Of a group as a whole: when somebody was ``heard`` last, and ``since`` when without a long pause."""

    since: int
    heard: int

    def hear(self, now: int) -> None:
        if now - self.heard > PAUSE_MS:
            self.since = now
        self.heard = now

    def is_heard(self, now: int, for_ms: int) -> bool:
        """For so long already."""
        return now - self.heard <= PAUSE_MS and now - self.since >= for_ms


class Presence:
    """Used on the event loop. ``now`` tells the time in ms.

    ``gone(pid)`` is called for each process that stayed away for the grace period, in seconds, or was not heard of as
    it had promised. Only processes that had a stream are ever judged, and any request of theirs acquits;
    ``misjudged(pid)`` is called if that comes later.
    """

    def __init__(
        self,
        grace_seconds: float,
        now: Callable[[], int],
        gone: Callable[[str], None],
        misjudged: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._grace_seconds = grace_seconds
        self.now = now
        self._gone = gone
        self._misjudged = misjudged
        self.observer = WorkerObserver()
        self._processes: dict[str, _Process] = {}
        self._companies: dict[str, _Company] = {}
        """By group."""
        self._away: dict[str, None] = {}
        """Processes without a stream, the longest away first."""

    # --- what is asked ----------------------------------------------------------------------------------------------

    def is_silent(self, pid: str) -> bool:
        """Whether it was given up, or let a lease lapse lately, and was not heard of since: others are preferred."""
        process = self._processes.get(pid)
        if process is None or process.silent_at is None:
            return False
        return process.given_up or self.now() - process.silent_at < SILENT_MS

    def members(self) -> list[Member]:
        """Everybody who is there, or was lately."""
        now = self.now()
        everybody = [
            _member(pid, group, process, seat, now)
            for pid, process in self._processes.items()
            for group, seat in process.seats.items()
        ]
        return [member for member in everybody if member.gone_at is None or now - member.gone_at <= GONE_KEPT_MS]

    def missed(self) -> list[tuple[str, str]]:
        """Group and process of those that stay away, and are to be judged."""
        away = ((pid, self._processes[pid]) for pid in self._away)
        return [(group, pid) for pid, process in away if process.grace is not None for group in process.seats]

    # --- what is told -----------------------------------------------------------------------------------------------

    def connected(self, group: str, pid: str, pledge: Pledge = NO_PLEDGE) -> bool:
        """It has a new stream. Tells whether this is its return from an end that was planned."""
        now = self.now()
        process = self._processes.setdefault(pid, _Process(now, self._grace_seconds))
        self._companies.setdefault(group, _Company(now, now))
        self._away.pop(pid, None)
        seat = process.seats.get(group)
        again = seat is not None and seat.is_expected(now)
        if seat is None or not (again or seat.left_at is None):
            process.seats[group] = _Seat(now)
        else:
            seat.left_at, seat.planned = None, False
        self._seen(pid, process)
        self._hold_to(pledge, process)
        self.observer.worker_connected(group, pid, again)
        return again

    def left(self, group: str, pid: str, planned: bool) -> None:
        """Its stream has ended, ``planned`` by this server or not."""
        process = self._processes[pid]
        seat = process.seats[group]
        seat.left_at, seat.planned = self.now(), planned
        self.observer.worker_left(group, pid, planned)
        if process.has_stream:  # One that is left, in another group, proves that it lives.
            return
        self._away[pid] = None
        if not planned:
            process.miss_no_more()
            process.grace = asyncio.get_running_loop().call_later(process.grace_s, self._give_up, pid)
        self._forget_those_longest_away()

    def heard_from(self, pid: str, at: int | None = None) -> None:
        """It has sent a request of its own, now or at a time (ms). Comes with most requests."""
        process = self._processes.get(pid)
        if process is None or process.may_have_died_since(self.now() if at is None else at):
            return
        was_silent = process.silent_at is not None
        self._seen(pid, process)
        if was_silent:
            for group in process.seats:
                self.observer.worker_heard(group, pid)

    def fell_silent(self, pid: str) -> None:
        """It let a lease lapse, and may be frozen with its stream open."""
        process = self._processes.get(pid)
        if process is None:
            return
        now = process.silent_at = self.now()
        for group, seat in process.seats.items():
            if seat.gone_at(now) is None:
                self.observer.worker_silent(group, pid)

    def _hold_to(self, pledge: Pledge, process: _Process) -> None:
        grace_s = self._grace_seconds
        process.grace_s = grace_s if pledge.back_within is None else min(grace_s, pledge.back_within / 1_000)
        process.heard_within = None if process.has_been_silent else pledge.heard_within

    def _seen(self, pid: str, process: _Process) -> None:
        now = self.now()
        if process.given_up:
            process.given_up = False
            self._misjudged(pid)
        process.seen(now)
        for group in process.seats:
            self._companies[group].hear(now)

    def _give_up(self, pid: str) -> None:
        process, now = self._processes[pid], self.now()
        process.grace, process.given_up = None, True
        for group, seat in process.seats.items():
            if seat.gone_at(now) is None:
                seat.given_up_at = now
                self.observer.worker_gone(group, pid)
        self._gone(pid)

    # --- of other servers -------------------------------------------------------------------------------------------

    def inherit(self, group: str, pid: str) -> None:
        """It had a stream to a server that has died, so it is missed here, unless it is back."""
        now = self.now()
        process = self._processes.setdefault(pid, _Process(now, self._grace_seconds))
        if not process.has_stream:
            self._companies.setdefault(group, _Company(now, now))
            process.seats.setdefault(group, _Seat(now))
            self.left(group, pid, planned=False)

    def moved(self, pid: str) -> None:
        """It has a stream to another server, which knows from now on whether it lives."""
        process = self._processes.get(pid)
        if process is not None and not process.has_stream:
            process.miss_no_more()
            self._forget(pid)

    def company_heard(self, group: str) -> None:
        """Somebody of this group was heard of who is connected to another server, and could go on instead."""
        if group in self._companies:
            self._companies[group].hear(self.now())

    # --- by the clock -----------------------------------------------------------------------------------------------

    def look_round(self) -> None:
        """Every :data:`LOOK_MS`: give up who is not heard of as it had promised, while others of its group are."""
        now = self.now()
        for pid, process in list(self._processes.items()):
            if process.is_overdue(now) and self._has_company(process, now):
                self._give_up_silent(pid, process, now)

    def _has_company(self, process: _Process, now: int) -> bool:
        """In every group somebody was heard of all the time that it may be silent: which is not this process."""
        limit = process.heard_within or 0
        return all(self._companies[group].is_heard(now, limit) for group in process.seats)

    def _give_up_silent(self, pid: str, process: _Process, now: int) -> None:
        process.given_up = process.has_been_silent = True
        process.heard_within = None
        groups = ", ".join(sorted(process.seats))
        what = "silent" if process.has_stream else "gone for good"
        since_s = (now - process.heard) / 1_000
        logger.info("worker %s: %s/%s, no sign of life for %.1f s", what, groups, pid[:8], since_s)
        self._gone(pid)

    def keep_house(self) -> None:
        """Once in a while: forget those that went long ago."""
        now = self.now()
        for pid, process in list(self._processes.items()):
            for group, seat in list(process.seats.items()):
                if now - (seat.gone_at(now) or now) > GONE_KEPT_MS:
                    del process.seats[group]
            if not process.seats:
                self._forget(pid)
        groups = {group for process in self._processes.values() for group in process.seats}
        self._companies = {group: company for group, company in self._companies.items() if group in groups}

    def close(self) -> None:
        """Judge nobody any more: what stops is this server, not the workers."""
        for pid in self._away:
            self._processes[pid].miss_no_more()

    def _forget_those_longest_away(self) -> None:
        """But nobody who is still to be judged."""
        while len(self._away) > MAX_AWAY and self._processes[oldest := next(iter(self._away))].grace is None:
            self._forget(oldest)

    def _forget(self, pid: str) -> None:
        del self._processes[pid], self._away[pid]


def _member(pid: str, group: str, process: _Process, seat: _Seat, now: int) -> Member:
    gone_at = seat.gone_at(now)
    is_missed = process.silent_at is not None or (seat.left_at is not None and not seat.planned)
    state = State.GONE if gone_at is not None else State.SILENT if is_missed else State.CONNECTED
    return Member(pid, group, seat.since, process.heard, state, gone_at)
