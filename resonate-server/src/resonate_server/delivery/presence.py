"""Tracks which workers are alive. Only this module decides that; others ask it, or are told.

A worker is a process in a group. A process may have streams in several groups: it is a worker of its own in each, so
whoever gives a false name harms only its own groups. An open stream proves nothing, as a frozen process keeps it open,
but a broken one is a strong hint: a live worker is back in a second or two. A worker is

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
import math
from collections.abc import Callable, Iterable
from enum import StrEnum

from msgspec import Struct

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
"""How many workers without a stream to remember."""

GRACE_STEPS = 3
"""A grace period begins again if one of its steps ends late by another one: this server stood still, and reads first
what has arrived meanwhile."""

CHECK_INTERVAL_MS = 250
"""Pause between two checks for overdue workers."""

TURNS = 5
TURN_MS = range(500, 5_000)
"""Two processes with one pid replace each other's stream so often, each time after so long: SDKs reconnect after a
second. A process that replaces its own broken stream does that seldom, or several times at once."""

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


class _Worker(Struct, eq=False):
    """``since``: when it came; ``heard``: its last sign of life; ``silent_at``: when it let a lease lapse, and
    ``idle_at``: when it left a task unclaimed, if it was not heard from since; ``left_at``: when its stream ended,
    ``planned`` by this server or not (all in ms)."""

    group: str
    pid: str
    since: int
    heard: int
    pledge: Pledge = NO_PLEDGE
    has_been_silent: bool = False
    """It broke its pledge once, and is not held to it any more."""
    silent_at: int | None = None
    idle_at: int | None = None
    left_at: int | None = None
    planned: bool = False
    grace: asyncio.TimerHandle | None = None
    """Runs while it is missed."""
    grace_ended_at: int | None = None
    given_up: bool = False
    replaced_at: int = 0
    turns: int = 0
    """How often a stream was replaced by another one, ``replaced_at`` for the last time (ms), in the rhythm of two
    processes."""

    def gone_at(self, now: int) -> int | None:
        if self.grace_ended_at is None and self.left_at is not None and now - self.left_at > ABSENT_MS:
            return self.left_at + ABSENT_MS
        return self.grace_ended_at

    def is_expected(self, now: int) -> bool:
        """Return whether it should soon be back from a planned end of its stream."""
        return self.planned and self.gone_at(now) is None

    def may_have_died_since(self, at: int) -> bool:
        """Return whether a sign of life at ``at`` (ms) is too old to count: its stream ended after that."""
        return self.left_at is not None and at < LAST_WORDS_MS + self.left_at

    def is_silent_for(self, now: int) -> int | None:
        """Return how long it was allowed to be silent (ms) if it was silent for longer."""
        within = None if self.has_been_silent else self.pledge.heartbeat_within
        return within if within is not None and now - self.heard > within else None

    def miss_no_more(self) -> None:
        if self.grace is not None:
            self.grace.cancel()
            self.grace = None

    def member(self, now: int) -> Member:
        gone_at = self.gone_at(now)
        is_missed = self.silent_at is not None or (self.left_at is not None and not self.planned)
        state = State.GONE if gone_at is not None else State.SILENT if is_missed else State.CONNECTED
        return Member(self.pid, self.group, self.since, self.heard, state, gone_at)


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


class Change(StrEnum):
    """What a worker did. Its stream may have *left* as planned by this server, and is then *connected* again so."""

    CONNECTED = "connected"
    LEFT = "left"
    SILENT = "silent"  # it let a lease lapse
    GONE = "gone"  # it stayed away too long
    HEARD = "heard"  # it was silent, and has sent a request of its own


class WorkerObserver:
    """Learns what workers do, and which tasks they get. A worker is a process (``pid``) in a group.

    Called on the event loop; must be quick, and must not raise.

    This base class does nothing.
    """

    def worker_changed(self, change: Change, group: str, pid: str, planned: bool = False) -> None:
        """Note what the worker did; ``planned``: this server had ended its stream."""

    def task_sent(self, group: str, pid: str, execute: Execute) -> None:
        """The task was handed to the worker's stream."""


class Presence:
    """Used on the event loop. ``now`` returns the time in ms.

    ``gone(group, pid)`` is called for each worker that stayed away for ``grace_seconds``, or broke its pledge to be
    heard from. Only workers that had a stream are judged, and any request clears them; ``misjudged(pid)`` is called if
    it comes too late.
    """

    def __init__(
        self,
        grace_seconds: float,
        now: Callable[[], int],
        gone: Callable[[str, str], None],
        misjudged: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._grace_seconds = grace_seconds
        self.now = now
        self._gone = gone
        self._misjudged = misjudged
        self.observer = WorkerObserver()
        self.changed: Callable[[], object] = lambda: None
        """Called when a worker comes, leaves, or is given up."""
        self._workers: dict[str, dict[str, _Worker]] = {}
        """By process, then by group."""
        self._activity: dict[str, _GroupActivity] = {}
        """By group."""
        self._away: dict[_Worker, None] = {}
        """Those without a stream, longest away first."""

    # --- queries ----------------------------------------------------------------------------------------------------

    def is_silent(self, group: str, pid: str) -> bool:
        """Return whether it was given up, recently let a lease lapse or left a task unclaimed, and was not heard from
        since."""
        worker = self._find(group, pid)
        if worker is None:
            return False
        since = max(worker.silent_at or 0, worker.idle_at or 0)
        return since > 0 and (worker.given_up or self.now() - since < SILENT_MS)

    def has_stream_of(self, pid: str) -> bool:
        """Return whether the process is connected in any group."""
        return any(worker.left_at is None for worker in self._of(pid))

    def members(self) -> list[Member]:
        """Return all workers that are here or were recently."""
        now = self.now()
        everybody = [worker.member(now) for worker in self._all()]
        return [member for member in everybody if member.gone_at is None or now - member.gone_at <= GONE_KEPT_MS]

    def missed(self) -> list[tuple[str, str]]:
        """Return group and process of absent workers that are still to be judged."""
        return [(worker.group, worker.pid) for worker in self._away if worker.grace is not None]

    def _find(self, group: str, pid: str) -> _Worker | None:
        return self._workers.get(pid, {}).get(group)

    def _of(self, pid: str) -> Iterable[_Worker]:
        return self._workers.get(pid, {}).values()

    def _all(self) -> list[_Worker]:
        return [worker for workers in self._workers.values() for worker in workers.values()]

    # --- events -----------------------------------------------------------------------------------------------------

    def connected(self, group: str, pid: str, pledge: Pledge = NO_PLEDGE) -> bool:
        """Record a new stream. Return whether the worker is back from a planned end of its stream."""
        now = self.now()
        worker = self._worker(group, pid, now)
        again = worker.is_expected(now)
        if worker.left_at is not None and not again:
            worker.since = now
        self._away.pop(worker, None)
        worker.left_at, worker.planned, worker.grace_ended_at, worker.pledge = None, False, None, pledge
        self._seen(worker)
        self.changed()
        self.observer.worker_changed(Change.CONNECTED, group, pid, again)
        return again

    def replaced(self, group: str, pid: str) -> None:
        """Record that a newer stream takes the place of an open one. Two processes with one pid get half of their
        messages each, and nothing else would tell why."""
        worker, now = self._workers[pid][group], self.now()
        worker.turns = worker.turns + 1 if now - worker.replaced_at in TURN_MS else 1
        worker.replaced_at = now
        if worker.turns == TURNS:
            logger.warning("two processes seem to be %s/%s: their streams replace each other", group, pid[:8])

    def left(self, group: str, pid: str, planned: bool) -> None:
        """Record the end of a stream, ``planned`` by this server or not."""
        worker = self._workers[pid][group]
        worker.left_at, worker.planned = self.now(), planned
        self.changed()
        self.observer.worker_changed(Change.LEFT, group, pid, planned)
        self._away[worker] = None
        if not planned:
            self._miss(worker)
        self._forget_those_longest_away()

    def heard_from(self, pid: str, prefix: str = "", at: int | None = None) -> None:
        """Record a request from the process, now or at ``at`` (ms). Whoever sent it may speak for its workers in groups
        that begin with ``prefix``. Called for most requests."""
        if at is None:
            at = self.now()
        for worker in self._of(pid):
            if worker.group.startswith(prefix) and not worker.may_have_died_since(at):
                was_silent = worker.silent_at is not None
                self._seen(worker)
                if was_silent:
                    self.observer.worker_changed(Change.HEARD, worker.group, pid)

    def fell_silent(self, group: str, pid: str) -> None:
        """Record that the worker let a lease lapse: it may be frozen with its stream open."""
        worker = self._find(group, pid)
        if worker is not None:
            now = worker.silent_at = self.now()
            if worker.gone_at(now) is None:
                self.observer.worker_changed(Change.SILENT, group, pid)

    def left_unclaimed(self, group: str, pid: str, for_ms: int) -> None:
        """Record that the worker was sent a task ``for_ms`` ago and has not claimed it.

        It may be frozen, unless it was heard from meanwhile. That is no reason to give it up: it may also be full.
        """
        worker = self._find(group, pid)
        if worker is not None and self.now() - worker.heard >= for_ms:
            worker.idle_at = self.now()

    def _worker(self, group: str, pid: str, now: int) -> _Worker:
        self._activity.setdefault(group, _GroupActivity(now, now))
        return self._workers.setdefault(pid, {}).setdefault(group, _Worker(group, pid, now, now))

    def _seen(self, worker: _Worker) -> None:
        if worker.given_up:
            worker.given_up = False
            self._misjudged(worker.pid)
            pid = worker.pid[:8]
            logger.warning("worker %s is alive: it had been declared dead and its tasks offered to others", pid)
        worker.heard, worker.silent_at, worker.idle_at = self.now(), None, None
        worker.miss_no_more()
        self._activity[worker.group].hear(worker.heard)

    def _miss(self, worker: _Worker, steps: int = GRACE_STEPS) -> None:
        """Give the worker up after as many steps of its grace period."""
        loop, within = asyncio.get_running_loop(), worker.pledge.reconnect_within
        step_s = min(self._grace_seconds, math.inf if within is None else within / 1_000) / GRACE_STEPS
        due = loop.time() + step_s

        def pass_step() -> None:
            if loop.time() - due > step_s:
                self._miss(worker)
            elif steps > 1:
                self._miss(worker, steps - 1)
            else:
                self._give_up(worker)

        worker.grace = loop.call_at(due, pass_step)

    def _give_up(self, worker: _Worker) -> None:
        worker.grace, worker.given_up, worker.grace_ended_at = None, True, self.now()
        self.changed()
        self.observer.worker_changed(Change.GONE, worker.group, worker.pid)
        self._gone(worker.group, worker.pid)

    # --- other servers ----------------------------------------------------------------------------------------------

    def inherit(self, group: str, pid: str) -> None:
        """Start the grace period of a worker whose server has died, unless it is back already."""
        worker = self._find(group, pid)
        if worker is None or worker.left_at is not None:
            self._worker(group, pid, self.now()).miss_no_more()
            self.left(group, pid, planned=False)

    def moved(self, group: str, pid: str) -> None:
        """Forget a worker that has connected to another server, which tracks it from now on."""
        worker = self._find(group, pid)
        if worker is not None and worker.left_at is not None:
            self._forget(worker)

    def group_heard(self, group: str) -> None:
        """Record a sign of life from another server's worker of this group, which could take over."""
        if group in self._activity:
            self._activity[group].hear(self.now())

    # --- timers -----------------------------------------------------------------------------------------------------

    def check_pledges(self) -> None:
        """Give up workers that broke their pledge while others were heard. Call every :data:`CHECK_INTERVAL_MS`."""
        now = self.now()
        for worker in self._all():
            allowed = worker.is_silent_for(now)
            if allowed is not None and self._activity[worker.group].is_heard(now, allowed):
                worker.given_up = worker.has_been_silent = True
                what = "silent" if worker.left_at is None else "gone for good"
                since_s = (now - worker.heard) / 1_000
                logger.info("worker %s: %s/%s, no sign of life for %.1f s", what, worker.group, worker.pid[:8], since_s)
                self._gone(worker.group, worker.pid)

    def forget_departed(self) -> None:
        """Forget workers that left long ago, except those still to be judged. Call once in a while."""
        now = self.now()
        for worker in self._all():
            if worker.grace is None and now - (worker.gone_at(now) or now) > GONE_KEPT_MS:
                self._forget(worker)
        groups = {worker.group for worker in self._all()}
        self._activity = {group: activity for group, activity in self._activity.items() if group in groups}

    def close(self) -> None:
        """Stop judging: this server is stopping, not the workers."""
        for worker in self._away:
            worker.miss_no_more()

    def _forget_those_longest_away(self) -> None:
        """Enforce :data:`MAX_AWAY`, but keep those still to be judged."""
        while len(self._away) > MAX_AWAY and (oldest := next(iter(self._away))).grace is None:
            self._forget(oldest)

    def _forget(self, worker: _Worker) -> None:
        worker.miss_no_more()
        del self._workers[worker.pid][worker.group], self._away[worker]
        if not self._workers[worker.pid]:
            del self._workers[worker.pid]
