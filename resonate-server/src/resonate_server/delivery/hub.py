"""The hub: connected workers by group, and the messages on their way to them.

The hub holds an ``execute`` until its task is claimed, settled or halted (then it is withdrawn). The message waits for
a worker with room, or is with the worker it was sent to; if that worker's stream ends first, it goes to the next one.
For a group without workers nothing is kept: the store knows which tasks are queued, and is asked the moment a worker
connects. :mod:`resonate_server.delivery.unblocks` explains how ``unblock`` messages travel.

A worker may be unable to claim a task that it was sent, and such tasks must not fill up its window. After
:data:`~resonate_server.delivery.worker_stream.UNCLAIMED_S` seconds the hub forgets an unclaimed task and reports it.
The kernel sets it aside, and offers it again after a growing pause, or when a new worker joins the group.

A full worker does not claim either: it has the message in its own queue, and a second one would only earn it a refusal.
Two things tell it from one that cannot claim. SDKs claim tasks in the order in which they receive them, so a task that
a later claim has overtaken will not be claimed. And the store knows whether the process holds tasks: if so, the hub
waits longer, twice as long each time, until the worker has claimed everything. Tasks set aside can still be claimed. A
worker that was not heard from either is avoided for a while: it may be frozen.

The hub knows only this server's workers. :mod:`resonate_server.peers` joins the hubs of servers on one store.
"""

import asyncio
import logging
import time
from collections.abc import Iterable
from typing import Protocol

from resonate_server.delivery import unblocks
from resonate_server.delivery.group import Group
from resonate_server.delivery.presence import NO_PLEDGE, Pledge, Presence
from resonate_server.delivery.push import Push
from resonate_server.delivery.unblocks import Unblocks
from resonate_server.delivery.worker_stream import UNCLAIMED_S, Offer, WorkerStream
from resonate_server.metrics import Metrics
from resonate_server.protocol.address import PollAddress, PushAddress, parse_address
from resonate_server.protocol.messages import Execute, Message, OwedUnblock, UnblockKey

logger = logging.getLogger(__name__)

MAX_WAITING = 1_000
"""Tasks kept in memory per group. The rest are fetched from the store when there is room again."""

MAX_WAITING_CHARACTERS = 4 * 1_024 * 1_024
"""Total length of the ids and targets of all tasks kept because no worker has room for them."""

UNBLOCK_KEPT_S = 600
"""How long an ``unblock`` waits for its listener to connect.

Process ids are random: a dead process never comes back for it.
"""

ROUND_S = 1.0
"""Pause between two checks for overdue tasks and ``unblock`` messages that have surely been read."""

SLICE_S = 0.005
"""A round yields to the event loop after this time."""


class MessageSource(unblocks.UnblockSource, Protocol):
    """The source of undelivered messages."""

    def request_refill(self, group: str, limit: int) -> None:
        """Send up to ``limit`` queued tasks of the group through :meth:`Hub.refill`."""

    def request_recall(self, group: str) -> None:
        """Dispatch set-aside tasks of the group: a new worker may be able to claim them."""

    def unclaimed(self, group: str, pid: str, executes: list[Execute], /) -> None:
        """Report tasks that the worker did not claim; the hub has taken them back."""


class Hub:
    """Implements :class:`resonate_server.engine.Outbound`, which describes its methods, for this server's workers. Used
    on the event loop only.

    ``source`` supplies undelivered messages and learns their fate; ``push`` delivers to HTTP addresses; ``presence``
    knows which workers are alive.
    """

    def __init__(self, source: MessageSource, push: Push, presence: Presence, metrics: Metrics) -> None:
        self._source = source
        self._push = push
        self._presence = presence
        self._metrics = metrics
        self.heard_from = presence.heard_from
        self.has_stream_of = presence.has_stream_of
        self._groups: dict[str, Group] = {}
        self._offers: dict[str, Offer] = {}
        """By task: those that a worker was sent and has not claimed, and those that wait for one with room."""
        self._waiting_characters = 0
        self._unblocks = Unblocks(source, self._listener)
        self.look_for_unblocks = self._unblocks.look_for
        self._round: asyncio.TimerHandle | None = None
        self._still_s = 0.0
        """How long this server stood still, as far as it has noticed."""
        self._to_visit: list[WorkerStream] = []
        """Streams that are still to be visited in this round."""

    # --- workers come and go ----------------------------------------------------------------------------------------

    @property
    def streams(self) -> int:
        """Number of open streams."""
        return sum(len(group.streams) for group in self._groups.values())

    def workers(self) -> dict[str, int]:
        """Return the number of connected workers, by group."""
        return {group.name: len(group.streams) for group in self._groups.values()}

    def seats(self) -> dict[tuple[str, str], int]:
        """Return when each open stream began (ms), by group and process."""
        return {(stream.group, stream.id): stream.since for stream in self._all() if not stream.closed}

    def has_seat(self, group: str, pid: str) -> bool:
        """Return whether the process has a stream in this group."""
        return self._stream(group, pid) is not None

    def serves(self, execute: Execute) -> bool:
        """Return whether a worker here may get the task."""
        offer = _offer_of(execute)
        group = self._groups.get(offer.address.group)
        return group is not None and group.serves(offer)

    def is_listening(self, address: PollAddress) -> bool:
        """Return whether a worker here gets ``unblock`` messages sent there."""
        return self._listener(address) is not None

    def has_room_for(self, execute: Execute) -> bool:
        """Return whether a worker here can take the task now."""
        offer = _offer_of(execute)
        group = self._groups.get(offer.address.group)
        return group is not None and self._choose(group, offer) is not None

    def connect(self, group_name: str, id: str, pledge: Pledge = NO_PLEDGE, prefix: str = "") -> WorkerStream:
        """Open a worker's new stream, and close its stale one, if any: the newest wins. ``prefix``: of all ids that its
        token is for."""
        group = self._groups.setdefault(group_name, Group(group_name))
        stale = group.streams.get(id)
        if stale is not None:
            self._replace(stale)
            self._detach(group, stale)
        stream = WorkerStream(group_name, id, self._presence.now(), self._uptime, self._unblocks.taken, prefix)
        group.join(stream)
        group.more_in_store = group.more_in_store or not group.refilling
        again = self._presence.connected(group_name, id, pledge)
        if not again:
            self._source.request_recall(group_name)
        # A reconnect is not worth a line for people.
        logger.log(logging.DEBUG if again or stale is not None else logging.INFO, "worker connected: %s", stream)
        self._unblocks.join(stream)
        self._pump(group)
        if self._round is None:
            self._come_round_in(ROUND_S)
        return stream

    def disconnect(self, stream: WorkerStream, planned: bool) -> None:
        """Remove a stream that has ended, ``planned`` by this server or not.

        Tasks it was sent but did not claim go to other workers.
        """
        group = self._groups.get(stream.group)
        if group is None or group.streams.get(stream.id) is not stream:
            return
        unclaimed = len(stream.unclaimed)
        self._detach(group, stream)
        again = f", {unclaimed} tasks it had not claimed will be sent again" if unclaimed else ""
        logger.log(logging.DEBUG if planned else logging.INFO, "worker gone: %s%s", stream, again)
        self._presence.left(stream.group, stream.id, planned)
        for offer in list(group.waiting.values()):
            if not group.serves(offer):  # The store keeps it.
                self._forget(offer)
        self._pump(group)
        if not group.streams:
            del self._groups[group.name]

    def fell_silent(self, group: str, id: str) -> None:
        """Avoid a worker that let a lease lapse or was given up: it may be frozen with its stream open.

        Until it is heard from, others are preferred, and get the tasks it did not claim.
        """
        self._presence.fell_silent(group, id)
        stream = self._stream(group, id)
        if stream is not None and len(self._groups[group].streams) > 1:
            for offer in list(stream.unclaimed.values()):
                self._send_execute(offer.execute, offer.address)

    def is_at_work(self, group: str, id: str) -> None:
        if (stream := self._stream(group, id)) is not None:
            stream.is_at_work()

    def _is_silent(self, stream: WorkerStream) -> bool:
        return self._presence.is_silent(stream.group, stream.id)

    def _stream(self, group: str, id: str) -> WorkerStream | None:
        return self._groups[group].streams.get(id) if group in self._groups else None

    def end_before(self, group: str, id: str, since: int) -> None:
        """Close a stream of the worker that began before its stream to another server (``since``, ms)."""
        stream = self._stream(group, id)
        if stream is not None and stream.since < since:
            self._replace(stream)

    def _replace(self, stale: WorkerStream) -> None:
        if not stale.closed:
            stale.close()
            self._presence.replaced(stale.group, stale.id)

    def close_all(self) -> None:
        """End all streams; workers reconnect on their own."""
        for stream in self._all():
            stream.close()

    def stop(self) -> None:
        """Stop the rounds."""
        if self._round is not None:
            self._round.cancel()
            self._round = None

    def reset(self) -> None:
        for stream in self._all():
            stream.drop_everything()
            self._groups[stream.group].sort_in(stream)
        for group in self._groups.values():
            group.more_in_store = group.refilling = False
            group.waiting.clear()
        self._offers.clear()
        self._waiting_characters = 0
        self._unblocks.reset()

    def _all(self) -> list[WorkerStream]:
        return [stream for group in self._groups.values() for stream in group.streams.values()]

    def _detach(self, group: Group, stream: WorkerStream) -> None:
        group.leave(stream)
        for offer in reversed(stream.unclaimed.values()):
            self._wait(group, offer)
            group.waiting.move_to_end(offer.execute.task_id, last=False)
        lost = self._unblocks.leave(stream)
        other = _open_member(group)
        if other is not None and any(map(_is_for_anybody, lost)):
            self._unblocks.ask_again(other)

    # --- rounds -----------------------------------------------------------------------------------------------------

    def _come_round_in(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + seconds

        def begin() -> None:
            late_s = loop.time() - due
            self._still_s += late_s if late_s > ROUND_S else 0
            self.run_round()

        self._round = loop.call_at(due, begin)

    def _uptime(self) -> float:
        """Return the time in s, in which this server ran: what has arrived while it stood still is read first."""
        return time.monotonic() - self._still_s

    def run_round(self) -> None:
        """Visit streams for one time slice; schedule itself again while anybody is connected."""
        self._round = None
        self._to_visit = self._to_visit or self._all()
        end = time.monotonic() + SLICE_S
        while self._to_visit and time.monotonic() <= end:
            self._visit(self._to_visit.pop())
        if self._groups:
            self._come_round_in(SLICE_S if self._to_visit else ROUND_S)

    def _visit(self, stream: WorkerStream) -> None:
        if self._stream(stream.group, stream.id) is stream:
            self._take_overdue(stream)
            self._unblocks.confirm(stream)

    def _take_overdue(self, stream: WorkerStream) -> None:
        overdue = stream.take_overdue()
        if not overdue:
            return
        for execute in overdue:
            del self._offers[execute.task_id]
        logger.debug("%d tasks were not claimed by %s; other tasks get their places", len(overdue), stream)
        self._presence.left_unclaimed(stream.group, stream.id, int(UNCLAIMED_S * 1_000))
        self._source.unclaimed(stream.group, stream.id, overdue)
        group = self._groups[stream.group]
        group.sort_in(stream)
        self._pump(group)

    # --- messages ---------------------------------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        """Count and deliver the message."""
        self.count(message)
        self.deliver(message)

    def count(self, message: Message) -> None:
        """Count a message as sent, even by another server."""
        self._metrics.message("execute" if isinstance(message, Execute) else "unblock")

    def settled(self, ids: list[str]) -> None:
        """Do nothing: messages tell connected workers."""

    def deliver(self, message: Message) -> None:
        """Deliver now if a suitable worker is connected; otherwise leave the message in the store."""
        address = parse_address(message.target if isinstance(message, Execute) else message.address)
        if isinstance(address, PushAddress):
            self._push.send(message, address.url)
        elif isinstance(message, Execute):
            self._send_execute(message, address)
        else:
            self._unblocks.send(message, address)

    def take_in(self, execute: Execute) -> None:
        """Accept a task offered by another server, unless it has already come from the store."""
        known = self._offers.get(execute.task_id)
        if known is None or known.execute.version < execute.version:
            self.deliver(execute)

    # --- execute ----------------------------------------------------------------------------------------------------

    def withdraw(self, task_id: str, version: int) -> bool:
        """Drop the task up to this version, and reuse its place. Return whether a worker here was to get it."""
        self._push.withdraw(task_id, version)
        offer = self._offers.get(task_id)
        if offer is None or offer.execute.version > version:
            return False
        group, holder = self._groups[offer.address.group], offer.holder
        if holder is None:
            self._forget(offer)
            return True
        del self._offers[task_id]
        holder.claimed(task_id)
        group.sort_in(holder)
        self._pump(group)
        return True

    def refresh(self) -> None:
        self._source.request_unblocks("", "", after=0)
        self.ask_again()

    def ask_again(self) -> None:
        """Request everything undelivered for the connected workers."""
        for group in list(self._groups.values()):
            group.more_in_store, group.refilling = True, False
            self._refill_if_needed(group)
        for stream in self._all():
            self._unblocks.ask_again(stream)

    def look_for_tasks(self, groups: Iterable[str]) -> None:
        """Request the queued tasks of these groups: some may not be here."""
        for group in filter(None, map(self._groups.get, groups)):
            group.more_in_store = True
            self._refill_if_needed(group)

    def refill(self, group_name: str, messages: list[Execute], complete: bool) -> None:
        group = self._groups.get(group_name)
        if group is None:
            return
        group.refilling = False
        unknown = [each for each in messages if each.task_id not in self._offers]
        if unknown and group.streams:
            logger.info("queued tasks that waited for group %s: %d", group.name, len(unknown))
        taken = sum([self._offer(group, _offer_of(execute)) for execute in unknown])
        if taken and not complete:  # If nobody here may get any of these, asking again returns the same ones.
            group.more_in_store = True
        self._refill_if_needed(group)

    def _send_execute(self, execute: Execute, address: PollAddress) -> None:
        group = self._groups.get(address.group)
        if group is None or not group.streams:
            return
        offer = self._offers.get(execute.task_id)
        if offer is None:
            self._offer(group, Offer(execute, address))
            return
        offer.execute = execute
        if offer.holder is not None:
            self._move(group, offer, offer.holder)

    def _move(self, group: Group, offer: Offer, earlier: WorkerStream) -> None:
        """Prefer another worker for the task; the offer keeps its age."""
        earlier.forget(offer.execute.task_id)
        group.sort_in(earlier)
        logger.info("task sent again: %s, not claimed by %s", offer.execute.task_id, earlier)
        receiver = self._choose(group, offer, avoid=earlier)
        if receiver is None:
            self._wait(group, offer)
        else:
            self._hand_over(group, receiver, offer, offer.since)
        self._pump(group)

    def _offer(self, group: Group, offer: Offer) -> bool:
        """Return whether a worker has the task or it waits here, not only in the store."""
        receiver = self._choose(group, offer)
        if receiver is not None:
            self._hand_over(group, receiver, offer)
        elif not group.serves(offer):
            return False
        elif len(group.waiting) >= MAX_WAITING or self._waiting_characters >= MAX_WAITING_CHARACTERS:
            group.more_in_store = True
            return False
        else:
            self._wait(group, offer)
        return True

    def _wait(self, group: Group, offer: Offer) -> None:
        offer.holder = None
        self._offers[offer.execute.task_id] = group.waiting[offer.execute.task_id] = offer
        self._waiting_characters += offer.characters

    def _forget(self, offer: Offer) -> None:
        """Drop a task that waits here: it needs no worker any more, or only the store keeps it."""
        self._wait_no_longer(offer)
        del self._offers[offer.execute.task_id]

    def _wait_no_longer(self, offer: Offer) -> None:
        del self._groups[offer.address.group].waiting[offer.execute.task_id]
        self._waiting_characters -= offer.characters

    def _hand_over(self, group: Group, receiver: WorkerStream, offer: Offer, since: float | None = None) -> None:
        self._offers[offer.execute.task_id] = offer
        receiver.offer(offer, since)
        group.sort_in(receiver)
        self._presence.observer.task_sent(group.name, receiver.id, offer.execute)

    def _pump(self, group: Group) -> None:
        """Hand out waiting tasks as long as there is room, and request more if only few are left."""
        for offer in list(group.waiting.values()):
            if not group.has_room:
                break
            if (receiver := self._choose(group, offer)) is not None:
                self._wait_no_longer(offer)
                self._hand_over(group, receiver, offer)
        self._refill_if_needed(group)

    def _refill_if_needed(self, group: Group) -> None:
        if not group.more_in_store or group.refilling or not group.streams:
            return
        waiting = len(group.waiting)
        few = waiting < MAX_WAITING // 2 and self._waiting_characters < MAX_WAITING_CHARACTERS // 2
        if few or (not waiting and group.has_room):
            group.refilling, group.more_in_store = True, False
            unclaimed = sum(len(stream.unclaimed) for stream in group.streams.values())
            self._source.request_refill(group.name, MAX_WAITING + unclaimed)

    def _choose(self, group: Group, offer: Offer, avoid: WorkerStream | None = None) -> WorkerStream | None:
        """Return the worker that the address names, else the least loaded one; of equals, the one served longest ago.

        Avoid ``avoid`` and silent workers if others have room.
        """
        named = group.streams.get(offer.address.id)
        can_take = named is not None and named.room and named.may_claim(offer)
        if offer.address.exact:
            return named if can_take else None
        if named is not None and can_take and named is not avoid and not self._is_silent(named):
            return named
        return group.least_loaded(offer, lambda stream: stream is avoid or self._is_silent(stream))

    # --- unblock ----------------------------------------------------------------------------------------------------

    def heal(self) -> None:
        """See :meth:`Unblocks.heal`; needed where several servers write ``unblock`` messages."""
        for stream in self._all():
            self._unblocks.heal(stream)

    def give(self, group: str, pid: str, after: int, owed: list[OwedUnblock], complete: bool) -> None:
        if group:
            if (stream := self._stream(group, pid)) is not None:
                self._unblocks.give(stream, after, owed, complete)
            return
        for each in owed:
            self.deliver(each.unblock)
        if not complete:
            self._source.request_unblocks("", "", after=owed[-1].place)

    def _listener(self, address: PollAddress) -> WorkerStream | None:
        """Return the stream that the address names, else any member's."""
        group = self._groups.get(address.group)
        if group is None:
            return None
        named = group.streams.get(address.id)
        if address.exact or (named is not None and not named.closed):
            return named
        return _open_member(group)


def _open_member(group: Group) -> WorkerStream | None:
    return next((each for each in group.streams.values() if not each.closed), None)


def _offer_of(execute: Execute) -> Offer:
    address = parse_address(execute.target)
    assert isinstance(address, PollAddress)
    return Offer(execute, address)


def _is_for_anybody(key: UnblockKey) -> bool:
    address = parse_address(key[1])
    return isinstance(address, PollAddress) and not address.exact
