"""Tracks which workers are alive. Only this module decides that; others ask it, or are told.

A worker is a process in a group; a process may have streams in several groups. An open stream proves nothing, as a
frozen process keeps it open, but a broken one is a strong hint: a live worker is back in a second or two. A worker is

* *connected* while its stream is open, and for a moment after this server has ended it;
* *silent* once its stream broke or it let a lease lapse, until there is a sign of life;
* *gone* once it has stayed away for a grace period without one (protocol section 9, item 4), or has not come back in
  time from a planned end of its stream.

A worker that made a :class:`Pledge` of regular requests and sends none is frozen or cut off: it is given up, but only
if others of its group were heard from all that time, so that this server was not, and somebody can take over.

A worker judged wrongly loses only its leases, because late writes are refused; that is counted. A process that was
given up as silent and turns out to live is not held to its pledge again: its lease decides, so work that blocks all of
its threads for long completes at the second attempt.
"""

import asyncio
import logging
from collections.abc import Callable
from enum import StrEnum

from msgspec import Struct, field

from resonate_server.protocol.messages import Execute

logger = logging.getLogger(__name__)

SILENT_MS = 30_000
"""How long to avoid a process that let a lease lapse, or left a task unclaimed, unless heard from: the time until
unclaimed tasks come again."""

ABSENT_MS = 15_000
"""A worker whose stream was ended as planned is back within a second; after this time it counts as gone."""

LAST_WORDS_MS = 250
"""A request so soon after the end of its process's stream may have been sent before: it is no sign of life."""

GONE_KEPT_MS = 10 * 60_000
"""How long to remember a worker that is gone."""

MAX_AWAY = 1_000
"""How many processes without a stream to remember."""

MAX_GROUPS = 64
"""How many groups of one process to remember, if it has left some of them."""

CHECK_INTERVAL_MS = 250
"""Pause between two checks for overdue workers."""

PAUSE_MS = 2_000
"""A group not heard from for longer has fallen silent as a whole. Its workers send requests once a second."""


class State(StrEnum):
    CONNECTED = "connected"
    SILENT = "silent"
    GONE = "gone"


class Pledge(Struct, frozen=True):
    """What a worker promises when it opens its stream, in ms. SDKs promise nothing."""

    reconnect_within: int | None = None
    """If the stream breaks while the worker lives, the worker reconnects within this time."""
    heartbeat_within: int | None = None
    """While the worker lives, each of its requests is followed by another one within this time."""


NO_PLEDGE = Pledge()


class Member(Struct, frozen=True):
    """A worker's current status. Times are in ms; ``since``: when it came, ``heard``: its last sign of life."""

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
    """When the grace period ended."""

    def gone_at(self, now: int) -> int | None:
        if self.given_up_at is None and self.left_at is not None and now - self.left_at > ABSENT_MS:
            return self.left_at + ABSENT_MS
        return self.given_up_at

    def is_expected(self, now: int) -> bool:
        """Return whether it should soon be back from a planned end of its stream."""
        return self.planned and self.gone_at(now) is None


class _Process(Struct):
    """``silent_at``: when it let a lease lapse, ``idle_at``: when it left a task unclaimed (ms), if not heard from
    since; ``grace``: timer of ``grace_s`` that runs while it is missed; ``heartbeat_within``: its pledge (ms)."""

    heard: int
    grace_s: float
    heartbeat_within: int | None = None
    has_been_silent: bool = False
    """It broke its pledge once, and is not held to it any more."""
    silent_at: int | None = None
    idle_at: int | None = None
    grace: asyncio.TimerHandle | None = None
    given_up: bool = False
    seats: dict[str, _Seat] = field(default_factory=dict)
    """By group."""

    @property
    def has_stream(self) -> bool:
        return any(seat.left_at is None for seat in self.seats.values())

    def may_have_died_since(self, at: int) -> bool:
        """Return whether a sign of life at ``at`` (ms) is too old to count: no stream is open any more."""
        return not self.has_stream and at < LAST_WORDS_MS + max(seat.left_at or 0 for seat in self.seats.values())

    def is_overdue(self, now: int) -> bool:
        return self.heartbeat_within is not None and now - self.heard > self.heartbeat_within

    def forget_a_group(self) -> None:
        """Enforce :data:`MAX_GROUPS` after another group was added."""
        left = next((group for group, seat in self.seats.items() if seat.left_at is not None), None)
        if left is not None and len(self.seats) > MAX_GROUPS:
            del self.seats[left]

    def seen(self, now: int) -> None:
        self.heard, self.silent_at, self.idle_at = now, None, None
        self.miss_no_more()

    def miss_no_more(self) -> None:
        if self.grace is not None:
            self.grace.cancel()
            self.grace = None


class _GroupActivity(Struct):
    """A group as a whole: when it was last ``heard``, and ``since`` when without a long pause."""

    since: int
    heard: int

    def hear(self, now: int) -> None:
        if now - self.heard > PAUSE_MS:
            self.since = now
        self.heard = now

    def is_heard(self, now: int, for_ms: int) -> bool:
        """Return whether it was heard for the last ``for_ms`` without a long pause."""
        return now - self.heard <= PAUSE_MS and now - self.since >= for_ms


class WorkerObserver:
    """Learns which workers come and go, and which tasks they get. A worker is a process (``pid``) in a group.

    Called on the event loop; must be quick, and must not raise.

    This base class does nothing.
    """

    def worker_connected(self, group: str, pid: str, again: bool) -> None:
        """The worker has a new stream; ``again``: after one that this server has ended."""

    def worker_left(self, group: str, pid: str, planned: bool) -> None:
        """The worker's stream has ended, ``planned`` by this server or not."""

    def worker_silent(self, group: str, pid: str) -> None:
        """The process let a lease lapse."""

    def worker_gone(self, group: str, pid: str) -> None:
        """The process stayed away too long."""

    def worker_heard(self, group: str, pid: str) -> None:
        """The process was silent and has sent a request of its own."""

    def task_sent(self, group: str, pid: str, execute: Execute) -> None:
        """The task was handed to the worker's stream."""


class Presence:
    """Used on the event loop. ``now`` returns the time in ms.

    ``gone(pid)`` is called for each process that stayed away for ``grace_seconds``, or broke its pledge to be heard
    from. Only processes that had a stream are judged, and any request clears them; ``misjudged(pid)`` is called if it
    comes too late.
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
        self._activity: dict[str, _GroupActivity] = {}
        """By group."""
        self._away: dict[str, None] = {}
        """Processes without a stream, longest away first."""

    # --- queries ----------------------------------------------------------------------------------------------------

    def is_silent(self, pid: str) -> bool:
        """Return whether it was given up, recently let a lease lapse or left a task unclaimed, and was not heard from
        since."""
        process = self._processes.get(pid)
        if process is None:
            return False
        since = max(process.silent_at or 0, process.idle_at or 0)
        return since > 0 and (process.given_up or self.now() - since < SILENT_MS)

    def members(self) -> list[Member]:
        """Return all workers that are here or were recently."""
        now = self.now()
        everybody = [
            _member(pid, group, process, seat, now)
            for pid, process in self._processes.items()
            for group, seat in process.seats.items()
        ]
        return [member for member in everybody if member.gone_at is None or now - member.gone_at <= GONE_KEPT_MS]

    def missed(self) -> list[tuple[str, str]]:
        """Return group and process of absent workers that are still to be judged."""
        away = ((pid, self._processes[pid]) for pid in self._away)
        return [(group, pid) for pid, process in away if process.grace is not None for group in process.seats]

    # --- events -----------------------------------------------------------------------------------------------------

    def connected(self, group: str, pid: str, pledge: Pledge = NO_PLEDGE) -> bool:
        """Record a new stream. Return whether the worker is back from a planned end of its stream."""
        now = self.now()
        process = self._processes.setdefault(pid, _Process(now, self._grace_seconds))
        self._activity.setdefault(group, _GroupActivity(now, now))
        self._away.pop(pid, None)
        seat = process.seats.get(group)
        again = seat is not None and seat.is_expected(now)
        if seat is None or not (again or seat.left_at is None):
            process.seats[group] = _Seat(now)
            process.forget_a_group()
        else:
            seat.left_at, seat.planned = None, False
        self._seen(pid, process)
        grace_s, reconnect_within = self._grace_seconds, pledge.reconnect_within
        process.grace_s = grace_s if reconnect_within is None else min(grace_s, reconnect_within / 1_000)
        process.heartbeat_within = None if process.has_been_silent else pledge.heartbeat_within
        self.observer.worker_connected(group, pid, again)
        return again

    def left(self, group: str, pid: str, planned: bool) -> None:
        """Record the end of a stream, ``planned`` by this server or not."""
        process = self._processes[pid]
        seat = process.seats[group]
        seat.left_at, seat.planned = self.now(), planned
        self.observer.worker_left(group, pid, planned)
        if process.has_stream:  # A stream in another group proves that it lives.
            return
        self._away[pid] = None
        if not planned:
            process.miss_no_more()
            process.grace = asyncio.get_running_loop().call_later(process.grace_s, self._give_up, pid)
        self._forget_those_longest_away()

    def heard_from(self, pid: str, at: int | None = None) -> None:
        """Record a request from the process, now or at ``at`` (ms). Called for most requests."""
        process = self._processes.get(pid)
        if process is None or process.may_have_died_since(self.now() if at is None else at):
            return
        was_silent = process.silent_at is not None
        self._seen(pid, process)
        if was_silent:
            for group in process.seats:
                self.observer.worker_heard(group, pid)

    def fell_silent(self, pid: str) -> None:
        """Record that the process let a lease lapse: it may be frozen with its stream open."""
        process = self._processes.get(pid)
        if process is None:
            return
        now = process.silent_at = self.now()
        for group, seat in process.seats.items():
            if seat.gone_at(now) is None:
                self.observer.worker_silent(group, pid)

    def left_unclaimed(self, pid: str, for_ms: int) -> None:
        """Record that the process was sent a task ``for_ms`` ago and has not claimed it.

        It may be frozen, unless it was heard from meanwhile. That is no reason to give it up: it may also be full.
        """
        process = self._processes.get(pid)
        if process is not None and self.now() - process.heard >= for_ms:
            process.idle_at = self.now()

    def _seen(self, pid: str, process: _Process) -> None:
        now = self.now()
        if process.given_up:
            process.given_up = False
            self._misjudged(pid)
        process.seen(now)
        for group in process.seats:
            self._activity[group].hear(now)

    def _give_up(self, pid: str) -> None:
        process, now = self._processes[pid], self.now()
        process.grace, process.given_up = None, True
        for group, seat in process.seats.items():
            if seat.gone_at(now) is None:
                seat.given_up_at = now
                self.observer.worker_gone(group, pid)
        self._gone(pid)

    # --- other servers ----------------------------------------------------------------------------------------------

    def inherit(self, group: str, pid: str) -> None:
        """Start the grace period of a worker whose server has died, unless it is back already."""
        now = self.now()
        process = self._processes.setdefault(pid, _Process(now, self._grace_seconds))
        if not process.has_stream:
            self._activity.setdefault(group, _GroupActivity(now, now))
            process.seats.setdefault(group, _Seat(now))
            self.left(group, pid, planned=False)

    def moved(self, pid: str) -> None:
        """Forget a process that has connected to another server, which tracks it from now on."""
        process = self._processes.get(pid)
        if process is not None and not process.has_stream:
            process.miss_no_more()
            self._forget(pid)

    def group_heard(self, group: str) -> None:
        """Record a sign of life from another server's worker of this group, which could take over."""
        if group in self._activity:
            self._activity[group].hear(self.now())

    # --- timers -----------------------------------------------------------------------------------------------------

    def check_pledges(self) -> None:
        """Give up workers that broke their pledge while others were heard. Call every :data:`CHECK_INTERVAL_MS`."""
        now = self.now()
        for pid, process in list(self._processes.items()):
            if process.is_overdue(now) and self._group_is_active(process, now):
                self._give_up_silent(pid, process, now)

    def _group_is_active(self, process: _Process, now: int) -> bool:
        """Return whether all of its groups were heard from throughout the silence it is allowed."""
        limit = process.heartbeat_within or 0
        return all(self._activity[group].is_heard(now, limit) for group in process.seats)

    def _give_up_silent(self, pid: str, process: _Process, now: int) -> None:
        process.given_up = process.has_been_silent = True
        process.heartbeat_within = None
        groups = ", ".join(sorted(process.seats))
        what = "silent" if process.has_stream else "gone for good"
        since_s = (now - process.heard) / 1_000
        logger.info("worker %s: %s/%s, no sign of life for %.1f s", what, groups, pid[:8], since_s)
        self._gone(pid)

    def forget_departed(self) -> None:
        """Forget workers that left long ago, except those still to be judged. Call once in a while."""
        now = self.now()
        for pid, process in list(self._processes.items()):
            if process.grace is not None:
                continue
            for group, seat in list(process.seats.items()):
                if now - (seat.gone_at(now) or now) > GONE_KEPT_MS:
                    del process.seats[group]
            if not process.seats:
                self._forget(pid)
        groups = {group for process in self._processes.values() for group in process.seats}
        self._activity = {group: activity for group, activity in self._activity.items() if group in groups}

    def close(self) -> None:
        """Stop judging: this server is stopping, not the workers."""
        for pid in self._away:
            self._processes[pid].miss_no_more()

    def _forget_those_longest_away(self) -> None:
        """Enforce :data:`MAX_AWAY`, but keep those still to be judged."""
        while len(self._away) > MAX_AWAY and self._processes[oldest := next(iter(self._away))].grace is None:
            self._forget(oldest)

    def _forget(self, pid: str) -> None:
        del self._processes[pid], self._away[pid]


def _member(pid: str, group: str, process: _Process, seat: _Seat, now: int) -> Member:
    gone_at = seat.gone_at(now)
    is_missed = process.silent_at is not None or (seat.left_at is not None and not seat.planned)
    state = State.GONE if gone_at is not None else State.SILENT if is_missed else State.CONNECTED
    return Member(pid, group, seat.since, process.heard, state, gone_at)
