"""The hub: groups of connected workers, and what is on its way to one of them.

An ``execute`` belongs to the hub until its task is claimed, settled or halted (then it is withdrawn): waiting for a
worker with room, or with the worker it was sent to. If that worker's stream ends first, it goes to the next one. For a
group without any worker nothing is kept here: the store knows which tasks are queued, and is asked the moment a worker
connects.

This is the part that assumes a single server process: workers of another process's hub are not seen here.
"""

import logging
import math
import time
from collections.abc import Callable
from itertools import count, islice
from typing import Protocol

from msgspec import Struct, field

from resonate_server.delivery.connection import Connection
from resonate_server.delivery.observer import Nobody, Observer
from resonate_server.protocol.address import PollAddress, PushAddress, parse_address
from resonate_server.protocol.messages import Execute, Message, Unblock

logger = logging.getLogger(__name__)

MAX_WAITING = 10_000
"""Messages per group that are kept in memory. Tasks beyond that are fetched from the store when there is room again."""

UNBLOCK_KEPT_S = 600
"""How long an ``unblock`` waits for its listener to connect.

Process ids are random: a dead process never comes back for it.
"""

SILENT_S = 30
"""How long a worker that let a lease lapse is passed over, unless it is heard of before: as long as it takes until an
unclaimed task is dispatched again."""

ANYBODY = ""
"""Recipient of what every member of a group may get."""

type UnblockKey = tuple[str, str]


class KeptUnblock(Struct, frozen=True):
    """``since``: monotonic seconds."""

    unblock: Unblock
    since: float

    @property
    def key(self) -> UnblockKey:
        """There is one of them per promise and address."""
        return self.unblock.promise.id, self.unblock.address


class Group(Struct, eq=False):
    """The workers of one group and the messages that none of them has been sent.

    ``unblocks``: by the id of the process they are for, or :data:`ANYBODY`.
    ``more_in_store``: there may be queued tasks that ``waiting`` does not hold.
    """

    name: str
    connections: dict[str, Connection] = field(default_factory=dict)
    waiting: dict[str, Execute] = field(default_factory=dict)
    unblocks: dict[str, dict[UnblockKey, KeptUnblock]] = field(default_factory=dict)
    more_in_store: bool = False
    refilling: bool = False

    @property
    def kept_unblocks(self) -> int:
        """How many ``unblock`` messages wait."""
        return sum(map(len, self.unblocks.values()))

    @property
    def room(self) -> int:
        """How many more tasks the workers may be told of."""
        return sum(connection.room for connection in self.connections.values())


class Owner(Protocol):
    """Who knows what is owed."""

    def request_refill(self, group: str, limit: int) -> None:
        """Send up to ``limit`` queued tasks of the group through :meth:`Hub.refill`."""

    def delivered(self, unblock: Unblock) -> None:
        """It was handed to a live stream."""

    def worker_connected(self, pid: str) -> None:
        """The process has a stream."""

    def worker_lost(self, pid: str) -> None:
        """The stream of the process broke without this server having ended it."""


class Hub:
    """Used on the event loop only; ``owner`` is told what happens, ``push`` delivers to HTTP addresses."""

    def __init__(self, owner: Owner, push: Callable[[Message, str], None]) -> None:
        self._owner = owner
        self._push = push
        self.observer: Observer = Nobody()
        self._groups: dict[str, Group] = {}
        self._group_of_task: dict[str, Group] = {}
        self._expected: set[str] = set()
        """Processes whose stream this server has ended; they come back at once."""
        self._silent: dict[str, float] = {}
        """Processes that let a lease lapse and were not heard of since: when that was, in monotonic seconds."""
        self._turn = count()
        self._served: dict[Connection, int] = {}

    # --- workers come and go ----------------------------------------------------------------------------------------

    @property
    def connections(self) -> int:
        """Streams that are open now."""
        return len(self._served)

    def figures(self) -> list[tuple[str, int, int]]:
        """Of each group: name, connected workers, messages that wait for one."""
        return [
            (group.name, len(group.connections), len(group.waiting) + group.kept_unblocks)
            for group in self._groups.values()
        ]

    def connect(self, group_name: str, id: str) -> Connection:
        """A worker's new stream. If it already has one, that is stale: the newest wins."""
        group = self._group(group_name)
        stale = group.connections.get(id)
        if stale is not None:
            stale.close()
            self._detach(group, stale)
        connection = Connection(group_name, id, self._unblocks_taken)
        group.connections[id] = connection
        self._served[connection] = next(self._turn)
        group.more_in_store = True
        logger.log(self._level_of_return(id), "worker connected: %s", connection)
        self.heard(id)
        self.observer.connected(group_name, id)
        self._owner.worker_connected(id)
        self._hand_over_unblocks(group, connection)
        self._pump(group)
        return connection

    def disconnect(self, connection: Connection, planned: bool) -> None:
        """The stream has ended, ``planned`` by this server or not.

        What it was sent but did not claim goes to the others.
        """
        group = self._groups.get(connection.group)
        if group is None or group.connections.get(connection.id) is not connection:
            return
        unclaimed = len(connection.unclaimed)
        self._detach(group, connection)
        again = f", {unclaimed} tasks it had not claimed are sent again" if unclaimed else ""
        logger.log(logging.DEBUG if planned else logging.INFO, "worker gone: %s%s", connection, again)
        self.observer.left(connection.group, connection.id, planned)
        if planned:
            self._expected.add(connection.id)
        else:
            self._report_lost(connection.id)
        self._pump(group)
        self._drop_if_deserted(group)

    def _level_of_return(self, id: str) -> int:
        """That a worker is back after its stream was ended as planned is nothing that people want to read."""
        if id not in self._expected:
            return logging.INFO
        self._expected.discard(id)
        return logging.DEBUG

    def _report_lost(self, pid: str) -> None:
        """A process may have streams in several groups: one that is left proves that it lives."""
        if not any(pid in group.connections for group in self._groups.values()):
            self._owner.worker_lost(pid)

    def silent(self, pid: str) -> None:
        """It let a lease lapse, and may be frozen with its stream open.

        Until it is heard of again others are preferred, and get what it was sent but did not claim.
        """
        self._silent[pid] = time.monotonic()
        self.observer.silent(pid)
        for group in self._groups.values():
            connection = group.connections.get(pid)
            if connection is None or len(group.connections) == 1:
                continue
            for execute in list(connection.unclaimed.values()):
                self._send_execute(execute, _poll_address(execute))

    def heard(self, pid: str) -> None:
        """It lives: it has sent a request of its own."""
        self._silent.pop(pid, None)
        self.observer.heard(pid)

    def _is_silent(self, connection: Connection) -> bool:
        return self._silent.get(connection.id, -math.inf) > time.monotonic() - SILENT_S

    def close_all(self) -> None:
        """End all streams: workers come back on their own."""
        for connection in list(self._served):
            connection.close()

    def _detach(self, group: Group, connection: Connection) -> None:
        del group.connections[connection.id]
        del self._served[connection]
        group.waiting = {**connection.unclaimed, **group.waiting}
        self._leave_absent_to_store(group, connection.id)
        for unblock in connection.undelivered_unblocks():
            self._keep_unblock(group, KeptUnblock(unblock, time.monotonic()))
        for kept in group.unblocks.pop(connection.id, {}).values():
            self._keep_unblock(group, kept)
        for other in group.connections.values():
            self._hand_over_unblocks(group, other)

    def _leave_absent_to_store(self, group: Group, id: str) -> None:
        """What only the worker ``id`` may get waits in the store while it is away."""
        for execute in list(group.waiting.values()):
            if _poll_address(execute) == PollAddress(group.name, id, exact=True):
                del group.waiting[execute.task_id]
                del self._group_of_task[execute.task_id]

    def _drop_if_deserted(self, group: Group) -> None:
        if group.connections:
            return
        for task_id in group.waiting:
            del self._group_of_task[task_id]
        group.waiting.clear()
        if not group.unblocks:
            self._groups.pop(group.name, None)

    # --- execute ----------------------------------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        """Deliver now if somebody suitable is connected; else it stays owed."""
        address = parse_address(message.target if isinstance(message, Execute) else message.address)
        if isinstance(address, PushAddress):
            self._push(message, address.url)
        elif isinstance(message, Execute):
            self._send_execute(message, address)
        else:
            self._send_unblock(message, address)

    def withdraw(self, task_id: str) -> None:
        """Nobody needs to be told of the task any more; whoever was makes room for the next one."""
        group = self._group_of_task.pop(task_id, None)
        if group is None:
            return
        group.waiting.pop(task_id, None)
        for connection in group.connections.values():
            if connection.forget(task_id):
                break
        self._pump(group)

    def refresh(self) -> None:
        """Ask again for everything that is owed, because some of it was not sent."""
        for group in list(self._groups.values()):
            group.more_in_store, group.refilling = True, False
            self._pump(group)

    def refill(self, group_name: str, messages: list[Execute], complete: bool) -> None:
        """Queued tasks of a group, as asked for; ``complete`` if these are all there are."""
        group = self._groups.get(group_name)
        if group is None:
            return
        group.refilling = False
        group.more_in_store = not complete
        unknown = [message for message in messages if message.task_id not in self._group_of_task]
        if unknown and group.connections:
            logger.info("queued tasks that waited for group %s: %d", group.name, len(unknown))
        for message in unknown:
            self._wait(group, message)
        self._pump(group)

    def _send_execute(self, execute: Execute, address: PollAddress) -> None:
        group = self._groups.get(address.group)
        if group is None or not group.connections:
            return
        earlier = self._holder(group, execute.task_id)
        if earlier is not None:
            earlier.forget(execute.task_id)
            logger.info("task sent again: %s, not claimed by %s", execute.task_id, earlier)
        receiver = self._choose(group, address, avoid=earlier)
        if receiver is None:
            self._wait(group, execute)
        else:
            group.waiting.pop(execute.task_id, None)
            self._hand_over(group, receiver, execute)

    def _wait(self, group: Group, execute: Execute) -> None:
        address = _poll_address(execute)
        if not group.connections or (address.exact and address.id not in group.connections):
            self._group_of_task.pop(execute.task_id, None)
            return
        if execute.task_id in group.waiting or len(group.waiting) < MAX_WAITING:
            group.waiting[execute.task_id] = execute
            self._group_of_task[execute.task_id] = group
        else:
            self._group_of_task.pop(execute.task_id, None)
            group.more_in_store = True

    def _hand_over(self, group: Group, receiver: Connection, execute: Execute) -> None:
        self._group_of_task[execute.task_id] = group
        self._served[receiver] = next(self._turn)
        receiver.push(execute)
        self.observer.sent(group.name, receiver.id, execute)

    def _pump(self, group: Group) -> None:
        """Hand waiting tasks to workers that have room; one that must wait for its own worker goes to the back."""
        examined = 0
        while (room := group.room) and examined < len(group.waiting):
            for execute in list(islice(group.waiting.values(), room)):
                examined += 1
                self._hand_over_or_requeue(group, execute)
        if group.more_in_store and group.connections and not group.refilling and len(group.waiting) < MAX_WAITING // 2:
            group.refilling = True
            unclaimed = sum(len(connection.unclaimed) for connection in group.connections.values())
            self._owner.request_refill(group.name, MAX_WAITING + unclaimed)

    def _hand_over_or_requeue(self, group: Group, execute: Execute) -> None:
        del group.waiting[execute.task_id]
        receiver = self._choose(group, _poll_address(execute))
        if receiver is None:
            group.waiting[execute.task_id] = execute
        else:
            self._hand_over(group, receiver, execute)

    def _choose(self, group: Group, address: PollAddress, avoid: Connection | None = None) -> Connection | None:
        """The connection an address names, else the least loaded member, the one served longest ago first.

        Rather not one that is to be avoided, or is silent.
        """
        named = group.connections.get(address.id)
        if address.exact:
            return named if named is not None and named.room else None
        if named is not None and named.room and named is not avoid and not self._is_silent(named):
            return named

        def preference(connection: Connection) -> tuple[bool, int, int]:
            doubtful = connection is avoid or self._is_silent(connection)
            return doubtful, len(connection.unclaimed), self._served[connection]

        return min((c for c in group.connections.values() if c.room), key=preference, default=None)

    def _holder(self, group: Group, task_id: str) -> Connection | None:
        """The worker that was sent the task and has not claimed it."""
        if self._group_of_task.get(task_id) is not group or task_id in group.waiting:
            return None
        return next((c for c in group.connections.values() if task_id in c.unclaimed), None)

    # --- unblock ----------------------------------------------------------------------------------------------------

    def _send_unblock(self, unblock: Unblock, address: PollAddress) -> None:
        group = self._group(address.group)
        self._keep_unblock(group, KeptUnblock(unblock, time.monotonic()))
        for connection in group.connections.values():
            self._hand_over_unblocks(group, connection)

    def _keep_unblock(self, group: Group, kept: KeptUnblock) -> None:
        if group.kept_unblocks >= MAX_WAITING:
            self._drop_oldest_unblock(group)
        waiting = group.unblocks.setdefault(_recipient(group, kept.unblock), {})
        waiting.setdefault(kept.key, kept)

    def _drop_oldest_unblock(self, group: Group) -> None:
        recipient, waiting = next(iter(group.unblocks.items()))
        del waiting[next(iter(waiting))]
        if not waiting:
            del group.unblocks[recipient]

    def _hand_over_unblocks(self, group: Group, connection: Connection) -> None:
        for recipient in (connection.id, ANYBODY):
            waiting = group.unblocks.get(recipient, {})
            while waiting and connection.has_room_for_unblock:
                connection.push(waiting.pop(next(iter(waiting))).unblock)
            if not waiting:
                group.unblocks.pop(recipient, None)

    def _unblocks_taken(self, connection: Connection, unblocks: list[Unblock]) -> None:
        """The stream has taken them: the store may forget them, and there is room for more."""
        for unblock in unblocks:
            self._owner.delivered(unblock)
        group = self._groups.get(connection.group)
        if group is not None and group.connections.get(connection.id) is connection:
            self._hand_over_unblocks(group, connection)

    def forget_stale_unblocks(self) -> None:
        """Housekeeping: drop those whose listener has been away for too long.

        Their result stays readable; only the news goes.
        """
        self._expected.clear()
        self._silent = {pid: since for pid, since in self._silent.items() if since > time.monotonic() - SILENT_S}
        oldest = time.monotonic() - UNBLOCK_KEPT_S
        for group in list(self._groups.values()):
            for recipient, waiting in list(group.unblocks.items()):
                fresh = {key: kept for key, kept in waiting.items() if kept.since >= oldest}
                group.unblocks[recipient] = fresh
                if not fresh:
                    del group.unblocks[recipient]
            self._drop_if_deserted(group)

    def _group(self, name: str) -> Group:
        group = self._groups.get(name)
        if group is None:
            group = self._groups[name] = Group(name=name)
        return group


def _poll_address(execute: Execute) -> PollAddress:
    address = parse_address(execute.target)
    assert isinstance(address, PollAddress)
    return address


def _recipient(group: Group, unblock: Unblock) -> str:
    """Whom it waits for: the one process it is for, or the one that is preferred and there, else anybody."""
    address = parse_address(unblock.address)
    assert isinstance(address, PollAddress)
    return address.id if address.exact or address.id in group.connections else ANYBODY
