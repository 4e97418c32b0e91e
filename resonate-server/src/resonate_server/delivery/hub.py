"""The hub: groups of connected workers, and what is on its way to one of them.

An ``execute`` belongs to the hub until its task is claimed, settled or halted (then it is withdrawn): waiting for a
worker with room, or with the worker it was sent to. If that worker's stream ends first, it goes to the next one. For a
group without any worker nothing is kept here: the store knows which tasks are queued, and is asked the moment a worker
connects. How ``unblock`` messages travel is told in :mod:`resonate_server.delivery.unblocks`.

A worker need not be able to claim what it is told of, and must not lose its places to that. After
:data:`~resonate_server.delivery.worker_stream.UNCLAIMED_S` seconds the hub forgets what was not claimed and reports it.
The kernel then sets the task aside: it comes again after a pause, which doubles each time. How often a task was handed
out in vain stands in its row, so that it survives whatever happens to streams, hubs and servers, and ends with the
first claim. A worker that connects ends the pauses of its group: it may be the one that can.

A worker that is full does not claim either: it has the message in its own queue, and a second one would only cost it a
refusal. Two things tell it from one that cannot. SDKs claim in the order in which they were told, so what was passed
over by a later claim is hopeless. And the store knows whether the process holds tasks: if so, it is given longer, twice
as long each time, until it has claimed everything that it was told of. It still may claim what was set aside.

It knows the workers that are connected to this server. Where others share its store, :mod:`resonate_server.peers` joins
their hubs.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Protocol

from resonate_server.delivery import unblocks
from resonate_server.delivery.group import ANYBODY, Group
from resonate_server.delivery.presence import NO_PLEDGE, Pledge, Presence
from resonate_server.delivery.unblocks import Unblocks
from resonate_server.delivery.worker_observer import WorkerObserver
from resonate_server.delivery.worker_stream import WorkerStream
from resonate_server.protocol.address import PollAddress, PushAddress, parse_address
from resonate_server.protocol.messages import Execute, Message, OwedUnblock, UnblockKey

logger = logging.getLogger(__name__)

MAX_WAITING = 1_000
"""Tasks per group that are kept in memory. Those beyond are fetched from the store when there is room again."""

MAX_WAITING_CHARACTERS = 4 * 1_024 * 1_024
"""Of the ids and targets of all tasks that are kept in memory because no worker has room for them."""

UNBLOCK_KEPT_S = 600
"""How long an ``unblock`` waits for its listener to connect.

Process ids are random: a dead process never comes back for it.
"""

ROUND_S = 1.0
"""Pause between two looks at what was not claimed, and at what was read without doubt."""

NEWEST = 2**63
"""No task has such a version."""

SLICE_S = 0.005
"""After so long a round lets others have the event loop for a moment."""


class MessageSource(unblocks.UnblockSource, Protocol):
    """Who knows what is owed."""

    def request_refill(self, group: str, limit: int) -> None:
        """Send up to ``limit`` queued tasks of the group through :meth:`Hub.refill`."""

    def request_recall(self, group: str) -> None:
        """Dispatch at once what was set aside, as somebody new may be able to claim it."""

    def request_pushes(self, after: int) -> None:
        """Send what is owed to HTTP addresses, from after a place on, through :meth:`Hub.give`, as if to nobody."""

    def unclaimed(self, pid: str, executes: list[Execute]) -> None:
        """The process was told of these tasks and did not claim them; they are not with it any more."""


class Hub:
    """Used on the event loop only; ``source`` is asked for what is owed, and told what becomes of it; ``push`` delivers
    to HTTP addresses; ``presence`` knows who lives."""

    def __init__(self, source: MessageSource, push: Callable[[Message, str], None], presence: Presence) -> None:
        self._source = source
        self._push = push
        self._presence = presence
        self.heard_from = presence.heard_from
        self.observer = WorkerObserver()
        self._groups: dict[str, Group] = {}
        self._streams: dict[str, set[WorkerStream]] = defaultdict(set)
        """Of each process: it may have one in several groups."""
        self._holders: dict[str, WorkerStream] = {}
        """Who was told of a task and has not claimed it."""
        self._waiting: dict[str, Group] = {}
        """Where a task waits for a worker with room."""
        self._waiting_characters = 0
        self._unblocks = Unblocks(source, self._listener)
        self._round: asyncio.TimerHandle | None = None
        self._to_visit: list[WorkerStream] = []
        """Those whom the present round has not come to yet."""

    # --- workers come and go ----------------------------------------------------------------------------------------

    @property
    def streams(self) -> int:
        """Streams that are open now."""
        return sum(map(len, self._streams.values()))

    def workers(self) -> dict[str, int]:
        """How many are connected, of each group that has any."""
        return {group.name: len(group.streams) for group in self._groups.values()}

    def seats(self) -> dict[tuple[str, str], int]:
        """By group and process: when each open stream began (ms)."""
        return {(stream.group, stream.id): stream.since for stream in self._all() if not stream.closed}

    def has_stream_of(self, pid: str) -> bool:
        return pid in self._streams

    def has_seat(self, group: str, pid: str) -> bool:
        """Whether the process has a stream in this group."""
        return group in self._groups and pid in self._groups[group].streams

    def serves(self, address: PollAddress) -> bool:
        """Whether somebody here may get a task that is sent there."""
        group = self._groups.get(address.group)
        return group is not None and _is_for_somebody(group, address)

    def is_listening(self, address: PollAddress) -> bool:
        """Whether somebody here gets what is sent there."""
        return self._listener(address) is not None

    def has_room_for(self, execute: Execute) -> bool:
        """Whether a worker here may be told of it now."""
        address = _poll_address(execute)
        group = self._groups.get(address.group)
        return group is not None and self._choose(group, address) is not None

    def connect(self, group_name: str, id: str, pledge: Pledge = NO_PLEDGE) -> WorkerStream:
        """A worker's new stream. If it already has one, that is stale: the newest wins."""
        group = self._groups.setdefault(group_name, Group(group_name))
        stale = group.streams.get(id)
        if stale is not None:
            stale.close()
            self._detach(group, stale)
        stream = WorkerStream(group_name, id, self._presence.now(), self._unblocks.taken)
        group.join(stream)
        self._streams[id].add(stream)
        group.more_in_store = group.more_in_store or not group.refilling
        again = self._presence.connected(group_name, id, pledge)
        if not again:
            self._source.request_recall(group_name)
        # That a worker is back after its stream was ended as planned is nothing that people want to read.
        logger.log(logging.DEBUG if again else logging.INFO, "worker connected: %s", stream)
        self._unblocks.join(stream)
        self._pump_all(group)
        if self._round is None:
            self._come_round_in(ROUND_S)
        return stream

    def disconnect(self, stream: WorkerStream, planned: bool) -> None:
        """The stream has ended, ``planned`` by this server or not.

        What it was sent but did not claim goes to the others.
        """
        group = self._groups.get(stream.group)
        if group is None or group.streams.get(stream.id) is not stream:
            return
        unclaimed = len(stream.unclaimed)
        self._detach(group, stream)
        again = f", {unclaimed} tasks it had not claimed will be sent again" if unclaimed else ""
        logger.log(logging.DEBUG if planned else logging.INFO, "worker gone: %s%s", stream, again)
        self._presence.left(stream.group, stream.id, planned)
        self._pump_all(group)
        self._drop_if_deserted(group)

    def fell_silent(self, pid: str) -> None:
        """It let a lease lapse or was given up, and may be frozen with its stream open.

        Until it is heard of again others are preferred, and get what it was sent but did not claim.
        """
        self._presence.fell_silent(pid)
        for stream in list(self._streams.get(pid, ())):
            if len(self._groups[stream.group].streams) > 1:
                for offer in list(stream.unclaimed.values()):
                    self._send_execute(offer.execute, _poll_address(offer.execute))

    def is_at_work(self, pid: str) -> None:
        """The process holds tasks, and so may be full."""
        for stream in self._streams.get(pid, ()):
            stream.is_at_work()

    def _is_silent(self, stream: WorkerStream) -> bool:
        return self._presence.is_silent(stream.id)

    def end_before(self, group_name: str, id: str, since: int) -> None:
        """The worker has a stream to another server since then (ms): one that began here before is stale."""
        group = self._groups.get(group_name)
        stream = None if group is None else group.streams.get(id)
        if stream is not None and stream.since < since:
            stream.close()

    def close_all(self) -> None:
        """End all streams: workers come back on their own."""
        for stream in self._all():
            stream.close()

    def stop(self) -> None:
        """Do nothing by itself any more."""
        if self._round is not None:
            self._round.cancel()
            self._round = None

    def reset(self) -> None:
        """Everything there was is deleted: nobody is told of it any more."""
        for stream in self._all():
            stream.drop_everything()
            self._groups[stream.group].sort_in(stream)
        for group in self._groups.values():
            group.waiting.clear()
            group.more_in_store = group.refilling = False
        self._holders.clear()
        self._waiting.clear()
        self._waiting_characters = 0
        self._unblocks.reset()

    def _all(self) -> list[WorkerStream]:
        return [stream for streams in self._streams.values() for stream in streams]

    def _detach(self, group: Group, stream: WorkerStream) -> None:
        group.leave(stream)
        self._streams[stream.id].discard(stream)
        if not self._streams[stream.id]:
            del self._streams[stream.id]
        for offer in reversed(stream.unclaimed.values()):
            del self._holders[offer.execute.task_id]
            self._put_back(group, offer.execute)
        for execute in group.waiting.drop(stream.id):
            self._waits_no_more(execute)
        lost = self._unblocks.leave(stream)
        other = _open_member(group)
        if other is not None and any(map(_is_for_anybody, lost)):
            self._unblocks.ask_again(other)

    def _drop_if_deserted(self, group: Group) -> None:
        if not group.streams:
            for execute in group.waiting.clear():
                self._waits_no_more(execute)
            self._groups.pop(group.name, None)

    # --- by the clock -----------------------------------------------------------------------------------------------

    def _come_round_in(self, seconds: float) -> None:
        self._round = asyncio.get_running_loop().call_later(seconds, self.go_round)

    def go_round(self) -> None:
        """Comes by itself as long as somebody is connected."""
        self._round = None
        self._to_visit = self._to_visit or self._all()
        end = time.monotonic() + SLICE_S
        while self._to_visit and time.monotonic() <= end:
            self._visit(self._to_visit.pop())
        if self._streams:
            self._come_round_in(SLICE_S if self._to_visit else ROUND_S)

    def _visit(self, stream: WorkerStream) -> None:
        if stream in self._streams.get(stream.id, ()):
            self._take_overdue(stream)
            self._unblocks.confirm(stream)

    def _take_overdue(self, stream: WorkerStream) -> None:
        overdue = stream.take_overdue()
        if not overdue:
            return
        for execute in overdue:
            del self._holders[execute.task_id]
        logger.debug("%d tasks were not claimed by %s; other tasks get their places", len(overdue), stream)
        self._source.unclaimed(stream.id, overdue)
        group = self._groups[stream.group]
        group.sort_in(stream)
        self._pump(group, stream)
        self._refill_if_needed(group)

    # --- execute ----------------------------------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        """Deliver now if somebody suitable is connected; else it stays owed."""
        address = parse_address(message.target if isinstance(message, Execute) else message.address)
        if isinstance(address, PushAddress):
            self._push(message, address.url)
        elif isinstance(message, Execute):
            self._send_execute(message, address)
        else:
            self._unblocks.send(message, address)

    def take_in(self, execute: Execute) -> None:
        """Another server has offered it; perhaps it came out of the store before that was heard."""
        known = self._known(execute.task_id)
        if known is None or known.version < execute.version:
            self.send(execute)

    def withdraw(self, task_id: str, version: int = NEWEST) -> bool:
        """Nobody needs to be told of the task at this version any more, or at a former one; whoever was makes room for
        the next one. Tells whether it was here."""
        known = self._known(task_id)
        if known is None or known.version > version:
            return False
        holder = self._holders.pop(task_id, None)
        if holder is not None:
            holder.claimed(task_id)
            group = self._groups[holder.group]
            group.sort_in(holder)
            self._pump(group, holder)
            self._refill_if_needed(group)
        else:
            self._take_from_waiting(task_id)
        return True

    def _known(self, task_id: str) -> Execute | None:
        """As a worker was told of it, or as it waits for one."""
        holder, group = self._holders.get(task_id), self._waiting.get(task_id)
        if holder is not None:
            return holder.unclaimed[task_id].execute
        return None if group is None else group.waiting.get(task_id)

    def refresh(self) -> None:
        """Ask again for everything that is owed, because some of it was not sent."""
        self._source.request_pushes(after=0)
        self.ask_again()

    def ask_again(self) -> None:
        """Ask for everything that is owed to those who are connected."""
        for group in list(self._groups.values()):
            group.more_in_store, group.refilling = True, False
            self._refill_if_needed(group)
        for stream in self._all():
            self._unblocks.ask_again(stream)

    def look_for_tasks(self, groups: Iterable[str]) -> None:
        """Some are queued for these groups, perhaps such that are not here."""
        for group in filter(None, map(self._groups.get, groups)):
            group.more_in_store = True
            self._refill_if_needed(group)

    def refill(self, group_name: str, messages: list[Execute], complete: bool) -> None:
        """Queued tasks of a group, as asked for; ``complete`` if these are all there are."""
        group = self._groups.get(group_name)
        if group is None:
            return
        group.refilling = False
        unknown = [each for each in messages if each.task_id not in self._holders and each.task_id not in self._waiting]
        if unknown and group.streams:
            logger.info("queued tasks that waited for group %s: %d", group.name, len(unknown))
        taken = sum([self._hand_over_or_wait(group, message, _poll_address(message)) for message in unknown])
        if taken and not complete:  # If none was for anybody here, asking again would give the same ones.
            group.more_in_store = True
        self._refill_if_needed(group)

    def _send_execute(self, execute: Execute, address: PollAddress) -> None:
        group = self._groups.get(address.group)
        if group is None or not group.streams:
            return
        earlier = self._holders.pop(execute.task_id, None)
        if earlier is None:
            self._hand_over_or_wait(group, execute, address)
        else:
            self._move(group, execute, address, earlier)

    def _move(self, group: Group, execute: Execute, address: PollAddress, earlier: WorkerStream) -> None:
        """Rather to another worker; that does not make it any newer."""
        offer = earlier.forget(execute.task_id)
        group.sort_in(earlier)
        logger.info("task sent again: %s, not claimed by %s", execute.task_id, earlier)
        receiver = self._choose(group, address, avoid=earlier)
        if receiver is None or offer is None:
            self._wait(group, execute, address)
        else:
            self._hand_over(group, receiver, execute, offer.since)
        self._pump(group, earlier)

    def _hand_over_or_wait(self, group: Group, execute: Execute, address: PollAddress) -> bool:
        """Whether it is with a worker, or waits here and not only in the store."""
        receiver = self._choose(group, address)
        if receiver is None:
            return self._wait(group, execute, address)
        self._take_from_waiting(execute.task_id)
        self._hand_over(group, receiver, execute)
        return True

    def _wait(self, group: Group, execute: Execute, address: PollAddress) -> bool:
        if not _is_for_somebody(group, address):
            return False
        if execute.task_id not in self._waiting and not self._may_wait(group):
            group.more_in_store = True
            return False
        self._count_waiting(group, execute)
        group.waiting.add(execute, _recipient(address))
        return True

    def _put_back(self, group: Group, execute: Execute) -> None:
        """To wait first, unless that is for the store to do."""
        address = _poll_address(execute)
        if not address.exact or address.id in group.streams:
            self._count_waiting(group, execute)
            group.waiting.put_back(execute, _recipient(address))

    def _hand_over(self, group: Group, receiver: WorkerStream, execute: Execute, since: float | None = None) -> None:
        self._holders[execute.task_id] = receiver
        receiver.offer(execute, since)
        group.sort_in(receiver)
        self.observer.task_sent(group.name, receiver.id, execute)

    def _pump(self, group: Group, member: WorkerStream) -> None:
        """Hand out tasks that wait, as long as ``member`` has room."""
        while member.room and (execute := group.waiting.take(member.id)) is not None:
            self._waits_no_more(execute)
            self._hand_over(group, self._choose(group, _poll_address(execute)) or member, execute)

    def _pump_all(self, group: Group) -> None:
        if group.waiting:
            for member in list(group.streams.values()):
                self._pump(group, member)
        self._refill_if_needed(group)

    def _refill_if_needed(self, group: Group) -> None:
        if not group.more_in_store or group.refilling or not group.streams:
            return
        few = len(group.waiting) < MAX_WAITING // 2 and self._waiting_characters < MAX_WAITING_CHARACTERS // 2
        if few or (not group.waiting and group.has_room):
            group.refilling, group.more_in_store = True, False
            unclaimed = sum(len(stream.unclaimed) for stream in group.streams.values())
            self._source.request_refill(group.name, MAX_WAITING + unclaimed)

    def _choose(self, group: Group, address: PollAddress, avoid: WorkerStream | None = None) -> WorkerStream | None:
        """The stream an address names, else the least loaded member, the one served longest ago first.

        Rather not one that is to be avoided, or is silent.
        """
        named = group.streams.get(address.id)
        if address.exact:
            return named if named is not None and named.room else None
        if named is not None and named.room and named is not avoid and not self._is_silent(named):
            return named
        return group.least_loaded(lambda stream: stream is avoid or self._is_silent(stream))

    # --- tasks that wait --------------------------------------------------------------------------------------------

    def _may_wait(self, group: Group) -> bool:
        return len(group.waiting) < MAX_WAITING and self._waiting_characters < MAX_WAITING_CHARACTERS

    def _count_waiting(self, group: Group, execute: Execute) -> None:
        if execute.task_id not in self._waiting:
            self._waiting[execute.task_id] = group
            self._waiting_characters += _characters(execute)

    def _take_from_waiting(self, task_id: str) -> None:
        group = self._waiting.get(task_id)
        execute = None if group is None else group.waiting.discard(task_id)
        if execute is not None:
            self._waits_no_more(execute)

    def _waits_no_more(self, execute: Execute) -> None:
        del self._waiting[execute.task_id]
        self._waiting_characters -= _characters(execute)

    def heal(self) -> None:
        """Once in a while, where several servers write what is owed: see :meth:`Unblocks.heal`."""
        for stream in self._all():
            self._unblocks.heal(stream)

    # --- unblock ----------------------------------------------------------------------------------------------------

    def give(self, group: str, pid: str, after: int, owed: list[OwedUnblock], complete: bool) -> None:
        """What the store has for a member of a group, as asked for; for HTTP addresses if ``group`` is empty."""
        if group:
            listening = self._groups.get(group)
            stream = None if listening is None else listening.streams.get(pid)
            if stream is not None:
                self._unblocks.give(stream, after, owed, complete)
            return
        for each in owed:
            self.send(each.unblock)
        if not complete:
            self._source.request_pushes(after=owed[-1].place)

    def _listener(self, address: PollAddress) -> WorkerStream | None:
        """The one it names, else any member."""
        group = self._groups.get(address.group)
        if group is None:
            return None
        named = group.streams.get(address.id)
        if address.exact or (named is not None and not named.closed):
            return named
        return _open_member(group)


def _open_member(group: Group) -> WorkerStream | None:
    return next((each for each in group.streams.values() if not each.closed), None)


def _poll_address(execute: Execute) -> PollAddress:
    address = parse_address(execute.target)
    assert isinstance(address, PollAddress)
    return address


def _is_for_anybody(key: UnblockKey) -> bool:
    address = parse_address(key[1])
    return isinstance(address, PollAddress) and not address.exact


def _recipient(address: PollAddress) -> str:
    return address.id if address.exact else ANYBODY


def _is_for_somebody(group: Group, address: PollAddress) -> bool:
    return address.id in group.streams if address.exact else bool(group.streams)


def _characters(execute: Execute) -> int:
    return len(execute.task_id) + len(execute.target)
