"""The report buffer: what is reported is put on a pile, and made into events when somebody reads, or soon after.

A report comes with every request, so it costs next to nothing; and many reports at once are made into events in less
time than one by one. The pile stays small: it is cleared after a moment even if nobody looks.
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
"""So many are made into events in one go: that takes a millisecond or two."""

MAX_OFFERED = 20_000
"""Tasks whose chain is remembered while they wait for a worker: who sends them does not know it."""


class ReportBuffer:
    """Fills ``ring``, which has it clear the pile before it is read. ``tell_others`` is told of each event, too, and
    ``acted``, wherever that was, which worker has asked for something, and when (ms)."""

    def __init__(self, ring: Ring, acted: Callable[[str, int], None] = lambda *_: None) -> None:
        self._ring = ring
        self._acted = acted
        self.tell_others: Callable[[Event], None] = lambda _: None
        self._reports: list[Decided | Event] = []
        self._offered: dict[str, str] = {}
        self._is_scheduled = False
        ring.catch_up = self.clear

    def put(self, report: Decided | Event) -> None:
        """Events keep their place among the decisions."""
        self._reports.append(report)
        if not self._is_scheduled:
            self._schedule()
        elif len(self._reports) >= MAX_REPORTS:
            self.clear()

    def clear(self) -> None:
        """Make everything on the pile into events."""
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
        """A mistake in here must not keep anybody from their work."""
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
        """Put it into the ring now."""
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
