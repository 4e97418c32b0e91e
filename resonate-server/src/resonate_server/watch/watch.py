"""The watch: takes note of what engine and delivery report, and answers those who look."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from resonate_server.delivery.observer import Observer as DeliveryObserver
from resonate_server.delivery.presence import Member
from resonate_server.engine.observer import Observer as EngineObserver
from resonate_server.protocol.messages import Execute
from resonate_server.store import Decided, View
from resonate_server.watch.chains import Chains
from resonate_server.watch.derive import is_worth_telling
from resonate_server.watch.events import (
    Event,
    ServerBack,
    TaskSent,
    WorkerConnected,
    WorkerGone,
    WorkerHeard,
    WorkerLeft,
    WorkerSilent,
)
from resonate_server.watch.feed import Feed
from resonate_server.watch.intake import Intake
from resonate_server.watch.outages import Outage, Outages
from resonate_server.watch.ring import Ring
from resonate_server.watch.roster import Group, groups
from resonate_server.watch.spells import Spells


class Reader(Protocol):
    """Where rows are read."""

    async def read[T](self, query: Callable[[View], T]) -> T:
        """What ``query`` finds among the committed rows."""


class Watch(EngineObserver, DeliveryObserver):
    """Used on the event loop only. ``members`` tells who is there, ``now`` the time in ms since the epoch.

    ``alive``: the file by which a restart knows how long it took.
    """

    def __init__(
        self, reader: Reader, members: Callable[[], Iterable[Member]], now: Callable[[], int], alive: Path | None = None
    ) -> None:
        self.ring = Ring()
        self.feed = Feed(self.ring)
        self._spells = Spells(now())
        self.outages = Outages(alive, now, self._ended)
        self.chains = Chains(reader, self.ring, self._spells, self.outages, now)
        self.now = now
        self._reader = reader
        self._members = members
        self._intake = Intake(self.ring)

    async def groups(self) -> list[Group]:
        """All groups with their workers."""
        occupation = await self._reader.read(lambda store: store.occupation())
        return groups(self._members(), occupation)

    # --- what the engine reports ------------------------------------------------------------------------------------

    def decided(self, decided: Decided) -> None:
        if is_worth_telling(decided):
            self._intake.put(decided)
            self.feed.reported()

    # --- what delivery reports --------------------------------------------------------------------------------------

    def connected(self, group: str, pid: str, again: bool) -> None:
        self._spells.connected(group, pid, self.now())
        self._happened(WorkerConnected(0, self.now(), group, pid, again))

    def left(self, group: str, pid: str, planned: bool) -> None:
        if not planned:  # An end that the server planned says nothing about the worker.
            self._spells.left(group, pid, self.now())
        self._happened(WorkerLeft(0, self.now(), group, pid, planned))

    def silent(self, group: str, pid: str) -> None:
        self._happened(WorkerSilent(0, self.now(), group, pid))

    def gone(self, group: str, pid: str) -> None:
        self._spells.left(group, pid, self.now())
        self._happened(WorkerGone(0, self.now(), group, pid))

    def heard(self, group: str, pid: str) -> None:
        self._happened(WorkerHeard(0, self.now(), group, pid))

    def sent(self, group: str, pid: str, execute: Execute) -> None:
        self._happened(TaskSent(0, self.now(), None, execute.task_id, group, pid, execute.version))

    def _ended(self, outage: Outage) -> None:
        self.ring.append(ServerBack(0, outage.end, outage.begin))
        self.feed.reported()

    def _happened(self, event: Event) -> None:
        self._intake.put(event)
        self.feed.reported()
