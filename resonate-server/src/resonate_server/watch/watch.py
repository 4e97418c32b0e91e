"""The watch: records what the engine and delivery report, and answers viewers."""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from resonate_server.delivery.presence import Change, Member, State, WorkerObserver
from resonate_server.engine.outbound import DecisionObserver
from resonate_server.protocol.messages import Execute
from resonate_server.store import Decided
from resonate_server.watch import derive
from resonate_server.watch.absences import ConnectionHistory, Outage, Outages
from resonate_server.watch.chain_reader import ChainReader, RowReader
from resonate_server.watch.events import Event, PromiseSettled, ServerBack, TaskNews, What, WorkerEvent
from resonate_server.watch.ring import Feed, Ring
from resonate_server.watch.views import GroupView, groups

logger = logging.getLogger(__name__)


class Watch(DecisionObserver, WorkerObserver):
    """Used on the event loop only. ``members`` returns the workers, ``now`` the time in ms since the epoch.

    ``alive``: the file that tells a restart how long the server was down. ``tell_others`` gets each event of this
    server, for the others.
    """

    tell_others: Callable[[Event], None]

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
        self.tell_others = lambda _: None

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

    async def groups(self, prefix: str) -> list[GroupView]:
        occupation = await self._reader.read(lambda store: store.occupation())
        return groups(self._members(), occupation, prefix)

    # --- what the engine reports ------------------------------------------------------------------------------------

    def decided(self, decided: Decided) -> None:
        """A bug in here must not disturb anything else."""
        try:
            self._report(*derive.events(decided))
        except Exception:
            logger.exception("could not report a decision to the watchers")

    # --- what delivery reports --------------------------------------------------------------------------------------

    def worker_changed(self, change: Change, group: str, pid: str, planned: bool = False) -> None:
        self._report(WorkerEvent(kind=What(f"worker.{change}"), at=self.now(), group=group, pid=pid, planned=planned))

    def task_sent(self, group: str, pid: str, execute: Execute) -> None:
        id, version = execute.task_id, execute.version
        self._report(TaskNews(kind=What.SENT, at=self.now(), chain=None, id=id, group=group, pid=pid, version=version))

    def _ended(self, outage: Outage) -> None:
        self.take(ServerBack(at=outage.end, since=outage.begin))

    # --- events -----------------------------------------------------------------------------------------------------

    def _report(self, *events: Event) -> None:
        for event in events:
            self.take(event)
            self.tell_others(event)

    def take(self, event: Event) -> None:
        """Show an event of this server or of another one, and note what it says of a worker."""
        self.ring.append(event)
        self.feed.reported()
        match event:
            case WorkerEvent(kind=What.CONNECTED):
                self._history.connected(event.group, event.pid, event.at)
            case WorkerEvent(kind=What.LEFT, planned=False) | WorkerEvent(kind=What.GONE):
                self._history.left(event.group, event.pid, event.at)  # An end that the server planned says nothing.
        if (asking := actor(event)) is not None:
            self._history.acted(asking, event.at)


def actor(event: Event) -> str | None:
    """Return the worker whose request caused the event: it was connected then."""
    match event:
        case (
            TaskNews(kind=What.CLAIMED | What.SUSPENDED | What.RELEASED, pid=pid)
            | PromiseSettled(pid=pid, by_worker=True)
        ):
            return pid
    return None
