"""The watch: takes note of what engine and delivery report, and answers those who look."""

import time
from collections.abc import Callable
from typing import Protocol

from resonate_server.delivery.observer import Observer as DeliveryObserver
from resonate_server.engine.observer import Observer as EngineObserver
from resonate_server.protocol.messages import Execute
from resonate_server.store import Decided, View
from resonate_server.watch.chains import Chains
from resonate_server.watch.derive import is_worth_telling
from resonate_server.watch.events import (
    Event,
    TaskSent,
    WorkerConnected,
    WorkerGone,
    WorkerLeft,
    WorkerSilent,
)
from resonate_server.watch.feed import Feed
from resonate_server.watch.intake import Intake
from resonate_server.watch.ring import Ring
from resonate_server.watch.roster import Group, Roster


def wall_clock_ms() -> int:
    """Now, in ms since the epoch."""
    return time.time_ns() // 1_000_000


class Reader(Protocol):
    """Where rows are read."""

    async def read[T](self, query: Callable[[View], T]) -> T:
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
        self._intake = Intake(self.ring, self._roster, now)

    async def groups(self) -> list[Group]:
        """All groups with their workers."""
        occupation = await self._reader.read(lambda store: store.occupation())
        self._intake.clear()
        return self._roster.groups(occupation, self.now())

    # --- what the engine reports ------------------------------------------------------------------------------------

    def decided(self, decided: Decided) -> None:
        if is_worth_telling(decided):
            self._intake.put(decided)
            self.feed.reported()

    def gone(self, pid: str) -> None:
        now = self.now()
        for group in self._roster.gone(pid, now):
            self._happened(WorkerGone(0, now, group, pid))

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
        self._happened(TaskSent(0, self.now(), None, execute.task_id, group, pid, execute.version))

    def silent(self, pid: str) -> None:
        self._intake.forget_heard(pid)
        for group in self._roster.silent(pid):
            self._happened(WorkerSilent(0, self.now(), group, pid))

    def heard(self, pid: str) -> None:
        self._intake.heard(pid)

    def _happened(self, event: Event) -> None:
        self._intake.put(event)
        self.feed.reported()
