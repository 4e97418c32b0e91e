"""This server among others that share its store: what it publishes, how it acts on hints, and its regular checks for
hints that it missed."""

import asyncio
import logging
import time
from collections import Counter
from contextlib import suppress

import msgspec

from resonate_server.delivery import Hub, Presence
from resonate_server.delivery.presence import Member, State
from resonate_server.engine import Engine, ReadFailed
from resonate_server.peers import hints
from resonate_server.peers.router import Others, Roster, Router, decode_roster, encode_roster
from resonate_server.protocol.messages import Execute, Unblock
from resonate_server.store.in_flight import InFlightTasks
from resonate_server.store.sharing import PeerListener, Rosters, Sharing
from resonate_server.watch import Watch, events
from resonate_server.watch.events import Event, What

logger = logging.getLogger(__name__)

PUBLISHED_AFTER_S = 0.01
"""Workers that connect within this time are published together."""

ROUND_S = 1.0

HEARD_MS = 1_000
"""A live worker with a pledge is heard from at least this often."""

COUNT_S, COUNT_REST = 5.0, 20
"""Pause between two counts: at least this long, and this many times a count's duration."""

MEMBERS = 20
"""Workers per message."""

MAX_EVENT_BYTES = 4_000
"""Largest event to send to others; only events with long ids are larger."""

MAX_GROUPS = 10_000


class Peers(PeerListener):
    """``router`` is the engine's :class:`~resonate_server.engine.Outbound`. Used on the event loop."""

    def __init__(self, sharing: Sharing, engine: Engine, hub: Hub, presence: Presence) -> None:
        self._sharing = sharing
        self._engine = engine
        self._hub = hub
        self._presence = presence
        self._others = Others(sharing.id)
        self.router = Router(sharing, self._others, hub, engine.now)
        self._in_flight = InFlightTasks()
        self._published = Roster()
        self._is_about_to_publish = False
        self._watch: Watch | None = None
        self._began = self._workers_known_since = engine.now()
        sharing.listener = self

    async def run(self) -> None:
        """Every second, while there are other servers: look for missed tasks, and tell them which workers are here."""
        while True:
            await asyncio.sleep(ROUND_S)
            if self._sharing.has_others:
                self._tell_members()
                self._hub.heal()
                with suppress(ReadFailed):  # Reported elsewhere.
                    waiting = await self._engine.read(lambda view: view.groups_with_waiting_tasks(MAX_GROUPS))
                    self._hub.look_for_tasks(waiting)

    async def count(self) -> None:
        """Recount the tasks regularly while others change them, too. With many tasks that takes long."""
        had_others = False
        while True:
            began, has_others = time.monotonic(), self._sharing.has_others
            if has_others or had_others:
                with suppress(ReadFailed):
                    await self._engine.count_tasks()
            had_others = has_others
            await asyncio.sleep(max(COUNT_S, COUNT_REST * (time.monotonic() - began)))

    def begin(self, watch: Watch | None) -> None:
        """Tell others what happens here, and ``watch``, once it observes, what happens there."""
        self._presence.changed = self.workers_changed
        self._watch = watch
        if watch is not None:
            watch.tell_others = self._happened

    def members(self) -> list[Member]:
        """Return the workers of all servers."""
        return self._others.with_members(self._presence.members())

    def workers(self) -> dict[str, int]:
        """Return the number of workers connected to any server, by group."""
        return self._others.workers() + Counter(self._hub.workers())

    # --- what the others see of this server -------------------------------------------------------------------------

    def workers_changed(self) -> None:
        """Publish soon that a worker has come or gone."""
        if not self._is_about_to_publish:
            self._is_about_to_publish = True
            asyncio.get_running_loop().call_later(PUBLISHED_AFTER_S, self._publish)

    def _publish(self) -> None:
        self._is_about_to_publish = False
        seats = self._hub.seats()
        roster = Roster([*seats], self._presence.missed(), [*seats.values()])
        if roster != self._published:
            self._published = roster
            self._sharing.publish(encode_roster(roster))

    def _tell_members(self) -> None:
        members = self._presence.members()
        if self._watch is not None:  # Another server may have reported that a worker left which is here by now.
            self._watch.sync_connected(members)
            self._watch.sync_gone(self.members())
        for first in range(0, max(len(members), 1), MEMBERS):
            portion = members[first : first + MEMBERS]
            self.router.ring(hints.Present(self._sharing.id, portion, bool(first), self._began))

    def _happened(self, event: Event) -> None:
        if self._sharing.has_others:
            data = events.encode_for_peers(event)
            if len(data) < MAX_EVENT_BYTES:
                self.router.ring(hints.Happened(msgspec.Raw(data)))

    # --- workers ----------------------------------------------------------------------------------------------------

    def worker_gone(self, group: str, pid: str) -> None:
        """Take back the tasks of a worker, unless it has moved to another server."""
        if self._sharing.has_others and not self._hub.has_seat(group, pid):
            self._in_flight.begin(self._look_for(group, pid))
        else:
            self._engine.worker_gone(group, pid)

    async def _look_for(self, group: str, pid: str) -> None:
        await self._sharing.look()
        if (group, pid) in self._others.seats:
            self._presence.moved(group, pid)
        else:
            self._engine.worker_gone(group, pid)

    # --- called by the store (store.sharing.PeerListener) -----------------------------------------------------------

    def update_rosters(self, rosters: Rosters) -> None:
        """Update the rosters. A worker that has connected elsewhere has left this server, noticed or not: its newest
        stream counts, in whatever order servers hear of it."""
        for (group, pid), since in self._others.are(rosters):
            self._hub.end_before(group, pid, since)
        self._tell_whether_all_are_known()
        for group, pid in self._others.seats.intersection(self._presence.missed()):
            self._presence.moved(group, pid)

    def inherits(self, roster: bytes) -> None:
        left = decode_roster(roster)
        for group, pid in {*left.seats, *left.missed} - self._others.seats:
            self._presence.inherit(group, pid)
        self._hub.refresh()

    def may_have_missed(self) -> None:
        self._hub.ask_again()
        if self._watch is not None:
            self._watch.take(Event(kind=What.EVENTS_MISSED, at=self._watch.now()))

    def heard(self, told: str) -> None:
        try:
            rung = hints.decode(told)
        except msgspec.DecodeError:
            logger.debug("another server sent a notification that this one does not understand")
            rung = [hints.LookAgain()]
        for hint in rung:
            self._take(hint)

    def _take(self, hint: hints.AnyHint) -> None:
        match hint:
            case hints.Offered(to=to) if to == self._sharing.id:
                self._hub.take_in(Execute(hint.task_id, hint.version, hint.target))
            case hints.Withdrawn(task_id=task_id, version=version):
                self._hub.withdraw(task_id, version)
            case hints.Owed(to=to) if to in (None, self._sharing.id):
                self._is_owed(hint)
            case hints.Settled(promise_ids=ids):
                self._engine.settled_elsewhere(ids)
            case hints.Heard(pid=pid, at=at, prefix=prefix):
                self._hub.heard_from(pid, prefix, at)
            case hints.Silent(pid=pid, group=group):
                self._hub.fell_silent(group, pid)
            case hints.Present():
                self._update_members(hint)
            case hints.Happened(event=event) if self._watch is not None:
                with suppress(ValueError):
                    self._watch.take(events.decode_from_peer(event))
            case hints.WasReset():
                self._hub.reset()
            case hints.LookAgain():
                self.may_have_missed()

    def _update_members(self, present: hints.Present) -> None:
        """Record a server's workers. Those it lost before this one began, or while out of touch, are unknown."""
        if present.of in self._others.without_members and present.began <= self._began:
            self._workers_known_since = self._engine.now()
        self._others.set_members(present.of, present.members, present.more)
        since = self._engine.now() - 2 * HEARD_MS
        for member in present.members:
            if member.state is State.CONNECTED and member.heard >= since:
                self._presence.group_heard(member.group)
        if self._watch is not None:
            self._watch.sync_connected(present.members)
        self._tell_whether_all_are_known()

    def _tell_whether_all_are_known(self) -> None:
        if self._watch is not None:
            self._watch.all_workers_known(None if self._others.without_members else self._workers_known_since)

    # --- results for workers connected here -------------------------------------------------------------------------

    def _is_owed(self, owed: hints.Owed) -> None:
        """Deliver a result, or tell all others if only this server was told and nobody listens here now."""
        if not self._hub.is_listening(owed.listener):
            if owed.to is not None:
                self.router.ring(msgspec.structs.replace(owed, to=None))
        elif owed.promise is not None:
            self._hub.deliver(Unblock(owed.promise, owed.address))
        else:
            self._hub.look_for_unblocks(owed.listener)
