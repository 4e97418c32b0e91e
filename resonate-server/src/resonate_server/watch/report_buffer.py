"""Buffers reports, and turns them into events when somebody reads, or soon after.

Every request causes a report, so a report must cost next to nothing, and converting many at once is faster than one by
one. The buffer stays small: it is flushed after a moment even if nobody reads.
"""

import asyncio
import logging
from collections.abc import Callable

from resonate_server.store import Decided
from resonate_server.watch import derive
from resonate_server.watch.events import Event, TaskClaimed, TaskQueued, TaskSent
from resonate_server.watch.order import actor
from resonate_server.watch.ring import Ring

logger = logging.getLogger(__name__)

CLEARED_AFTER_S = 0.2

MAX_REPORTS = 500
"""Reports converted in one go: that takes a millisecond or two."""

MAX_OFFERED = 20_000
"""Tasks whose chain is remembered while they wait for a worker: their sender does not know it."""


class ReportBuffer:
    """Fills ``ring``, which flushes the buffer before each read. ``tell_others`` gets each event of this server;
    ``acted`` gets each worker that sent a request to any server, and when (ms)."""

    def __init__(self, ring: Ring, acted: Callable[[str, int], None] = lambda *_: None) -> None:
        self._ring = ring
        self._acted = acted
        self.tell_others: Callable[[Event], None] = lambda _: None
        self._reports: list[Decided | Event] = []
        self._offered: dict[str, str] = {}
        self._is_scheduled = False
        ring.catch_up = self.clear

    def put(self, report: Decided | Event) -> None:
        """Add a report. Events and decisions stay in order."""
        self._reports.append(report)
        if not self._is_scheduled:
            self._schedule()
        elif len(self._reports) >= MAX_REPORTS:
            self.clear()

    def clear(self) -> None:
        reports, self._reports = self._reports, []
        for report in reports:
            self._take(report)

    def _schedule(self) -> None:
        self._is_scheduled = True
        asyncio.get_running_loop().call_later(CLEARED_AFTER_S, self._clear_as_scheduled)

    def _clear_as_scheduled(self) -> None:
        self._is_scheduled = False
        self.clear()

    def _take(self, report: Decided | Event) -> None:
        """A bug in here must not disturb anything else."""
        if isinstance(report, Event):
            self.keep(report)
            self.tell_others(report)
            return
        try:
            events = derive.events(report)
        except Exception:
            logger.exception("could not report a decision to the watchers")
            return
        for event in events:
            self.keep(event)
            self.tell_others(event)

    def keep(self, event: Event) -> None:
        """Put an event into the ring now."""
        if isinstance(event, TaskSent):
            event.chain = event.chain or self._offered.get(event.id)
        self._ring.append(event)
        if (pid := actor(event)) is not None:
            self._acted(pid, event.at)
        if isinstance(event, TaskQueued):
            self._remember_offer(event)
        elif isinstance(event, TaskClaimed):
            self._offered.pop(event.id, None)

    def _remember_offer(self, event: TaskQueued) -> None:
        self._offered[event.id] = event.chain or event.id
        if len(self._offered) > MAX_OFFERED:
            del self._offered[next(iter(self._offered))]
