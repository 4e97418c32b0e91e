"""The watch: records what the engine and delivery report, and answers viewers."""

from collections.abc import Callable, Iterable
from pathlib import Path

from resonate_server.delivery.presence import Member, State, WorkerObserver
from resonate_server.engine.decision_observer import DecisionObserver
from resonate_server.protocol.messages import Execute
from resonate_server.store import Decided
from resonate_server.watch.chain_reader import ChainReader, RowReader
from resonate_server.watch.connection_history import ConnectionHistory
from resonate_server.watch.derive import may_have_events
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
from resonate_server.watch.outages import Outage, Outages
from resonate_server.watch.report_buffer import ReportBuffer
from resonate_server.watch.ring import Ring
from resonate_server.watch.roster import GroupView, groups


class Watch(DecisionObserver, WorkerObserver):
    """Used on the event loop only. ``members`` returns the workers, ``now`` the time in ms since the epoch.

    ``alive``: the file that tells a restart how long the server was down.
    """

    def __init__(
        self,
        reader: RowReader,
        members: Callable[[], Iterable[Member]],
        now: Callable[[], int],
        alive: Path | None = None,
    ) -> None:
        self.ring = Ring()
        self.feed = Feed(self.ring)
        self._history = ConnectionHistory(now())
        self.outages = Outages(alive, now, self._ended)
        self.chains = ChainReader(reader, self.ring, self._history, self.outages, now)
        self.now = now
        self._reader = reader
        self._members = members
        self._buffer = ReportBuffer(self.ring, self._history.acted)

    def tell_others(self, tell: Callable[[Event], None]) -> None:
        """Set the function that tells other servers what has happened at this one."""
        self._buffer.tell_others = tell

    def take_remote_event(self, event: Event) -> None:
        """Take an event that happened at another server."""
        match event:
            case WorkerConnected(group=group, pid=pid):
                self._history.connected(group, pid, event.at)
            case WorkerLeft(group=group, pid=pid, planned=False) | WorkerGone(group=group, pid=pid):
                self._history.left(group, pid, event.at)
        self._buffer.keep(event)
        self.feed.reported()

    def sync_connected(self, members: Iterable[Member]) -> None:
        """Take the workers as their server knows them, repeatedly, to make up for missed connections."""
        for member in members:
            if member.state is State.CONNECTED:
                self._history.connected(member.group, member.pid, member.since)

    def sync_gone(self, members: Iterable[Member]) -> None:
        """Take the workers that are gone, as reported by whoever knows best, to make up for missed ends."""
        for member in members:
            if member.gone_at is not None:
                self._history.left(member.group, member.pid, member.gone_at)

    def all_workers_known(self, since: int | None) -> None:
        """Set since when (ms) the workers of all servers are known; ``None`` if they are not at present."""
        self._history.all_known_since = since

    async def groups(self) -> list[GroupView]:
        occupation = await self._reader.read(lambda store: store.occupation())
        return groups(self._members(), occupation)

    # --- what the engine reports ------------------------------------------------------------------------------------

    def decided(self, decided: Decided) -> None:
        if may_have_events(decided):
            self._buffer.put(decided)
            self.feed.reported()

    # --- what delivery reports --------------------------------------------------------------------------------------

    def worker_connected(self, group: str, pid: str, again: bool) -> None:
        now = self.now()
        self._history.connected(group, pid, now)
        self._happened(WorkerConnected(0, now, group, pid, again))

    def worker_left(self, group: str, pid: str, planned: bool) -> None:
        now = self.now()
        if not planned:  # An end that the server planned says nothing about the worker.
            self._history.left(group, pid, now)
        self._happened(WorkerLeft(0, now, group, pid, planned))

    def worker_silent(self, group: str, pid: str) -> None:
        self._happened(WorkerSilent(0, self.now(), group, pid))

    def worker_gone(self, group: str, pid: str) -> None:
        now = self.now()
        self._history.left(group, pid, now)
        self._happened(WorkerGone(0, now, group, pid))

    def worker_heard(self, group: str, pid: str) -> None:
        self._happened(WorkerHeard(0, self.now(), group, pid))

    def task_sent(self, group: str, pid: str, execute: Execute) -> None:
        self._happened(TaskSent(0, self.now(), None, execute.task_id, group, pid, execute.version))

    def _ended(self, outage: Outage) -> None:
        self.ring.append(ServerBack(0, outage.end, outage.begin))
        self.feed.reported()

    def _happened(self, event: Event) -> None:
        self._buffer.put(event)
        self.feed.reported()
