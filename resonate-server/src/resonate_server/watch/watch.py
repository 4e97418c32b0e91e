"""The watch: takes note of what engine and delivery report, and answers those who look."""

import logging
import time
from collections.abc import Callable
from typing import Protocol

from resonate_server.delivery.observer import Observer as DeliveryObserver
from resonate_server.engine.observer import Decided
from resonate_server.engine.observer import Observer as EngineObserver
from resonate_server.protocol.messages import Execute
from resonate_server.store import Store
from resonate_server.watch import derive
from resonate_server.watch.chains import Chains
from resonate_server.watch.events import (
    Event,
    TaskClaimed,
    TaskQueued,
    TaskSent,
    WorkerConnected,
    WorkerGone,
    WorkerHeard,
    WorkerLeft,
    WorkerSilent,
)
from resonate_server.watch.feed import Feed
from resonate_server.watch.ring import Ring
from resonate_server.watch.roster import Group, Roster

logger = logging.getLogger(__name__)

MAX_OFFERED = 20_000
"""Tasks whose chain is remembered while they wait for a worker: who sends them does not know it."""


def wall_clock_ms() -> int:
    """Now, in ms since the epoch."""
    return time.time_ns() // 1_000_000


class Reader(Protocol):
    """Where rows are read."""

    async def read[T](self, query: Callable[[Store], T]) -> T:
        """What ``query`` finds among the committed rows."""


class Watch(EngineObserver, DeliveryObserver):
    """Used on the event loop only. ``now`` tells the time in ms since the epoch."""

    def __init__(self, reader: Reader, now: Callable[[], int] = wall_clock_ms) -> None:
        self.ring = Ring()
        self.feed = Feed(self.ring)
        self.chains = Chains(reader, self.ring, now)
        self.now = now
        self._reader = reader
        self._roster = Roster()
        self._offered: dict[str, str] = {}

    async def groups(self) -> list[Group]:
        """All groups with their workers."""
        return self._roster.groups(await self._reader.read(lambda store: store.occupation()), self.now())

    # --- what the engine reports ------------------------------------------------------------------------------------

    def decided(self, decided: Decided) -> None:
        """A mistake in here must not keep the engine from its work."""
        try:
            events = derive.events(decided)
        except Exception:
            logger.exception("a decision could not be told to those who watch")
            return
        for event in events:
            self._remember_offer(event)
            self.ring.append(event)
        if events:
            self.feed.appended()

    def gone(self, pid: str) -> None:
        now = self.now()
        for group in self._roster.gone(pid, now):
            self._happened(WorkerGone(0, now, group, pid))

    def _remember_offer(self, event: Event) -> None:
        if isinstance(event, TaskQueued) and event.chain is not None:
            self._offered[event.id] = event.chain
            if len(self._offered) > MAX_OFFERED:
                del self._offered[next(iter(self._offered))]
        elif isinstance(event, TaskClaimed):
            self._offered.pop(event.id, None)

    # --- what delivery reports --------------------------------------------------------------------------------------

    def connected(self, group: str, pid: str) -> None:
        now = self.now()
        again = self._roster.connected(group, pid, now)
        self._happened(WorkerConnected(0, now, group, pid, again))

    def left(self, group: str, pid: str, planned: bool) -> None:
        now = self.now()
        self._roster.left(group, pid, planned, now)
        self._happened(WorkerLeft(0, now, group, pid, planned))

    def sent(self, group: str, pid: str, execute: Execute) -> None:
        id = execute.task_id
        self._happened(TaskSent(0, self.now(), self._offered.get(id), id, group, pid, execute.version))

    def silent(self, pid: str) -> None:
        for group in self._roster.silent(pid):
            self._happened(WorkerSilent(0, self.now(), group, pid))

    def heard(self, pid: str) -> None:
        now = self.now()
        for group in self._roster.heard(pid, now):
            self._happened(WorkerHeard(0, now, group, pid))

    def _happened(self, event: Event) -> None:
        self.ring.append(event)
        self.feed.appended()
