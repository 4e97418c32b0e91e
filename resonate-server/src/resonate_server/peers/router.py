"""Who is connected to which server, and where the engine's messages therefore go: to workers here, or to the server
that has them.

A lost hint costs a moment: every second, each server checks the store for tasks of its groups. Tasks are divided by
their ids, so that no two servers offer the same one; a server with room takes over tasks that another one has left
waiting, and says so.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import repeat
from zlib import crc32

import msgspec
from msgspec import Struct

from resonate_server.delivery import Hub
from resonate_server.delivery.presence import Member
from resonate_server.peers import hints
from resonate_server.protocol.address import PollAddress, parse_address
from resonate_server.protocol.messages import Execute, Message, Unblock
from resonate_server.store.sharing import Rosters, Sharing

PATIENCE_S = 1.0
"""A server with room may take over a task that its own server has left waiting for this long."""

MAX_TAKEN_OVER = 16
"""Tasks of a group to take over at a time."""

MAX_SETTLED, MAX_SETTLED_CHARACTERS = 4, 200
"""Most promises to announce, and the longest id. Suspensions that wait for others run out of patience."""

HEARD_EVERY_S = 0.5
"""Minimum time between two hints that a process was heard from."""

MAX_HEARD = 10_000
"""Processes for which to remember the time of that."""

NOT_URGENT = (hints.Withdrawn, hints.Happened, hints.Present)
"""Nobody waits for these."""

LATEST = 2**63 - 1
"""In place of the beginning of a stream, if unknown."""


class Roster(Struct, frozen=True, array_like=True):
    """Group and process of each stream, and of each missed worker, which the roster's own server is to judge.

    ``since``: when each stream began (ms); servers of another version may leave it out.
    """

    seats: list[tuple[str, str]] = []
    missed: list[tuple[str, str]] = []
    since: list[int] = []

    @property
    def begun(self) -> dict[tuple[str, str], int]:
        """When each stream began (ms)."""
        return dict(zip(self.seats, self.since or repeat(LATEST), strict=False))


encode_roster = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Roster)


def decode_roster(data: bytes) -> Roster:
    """Return an empty roster for data of another version that cannot be read."""
    try:
        return _decoder.decode(data)
    except msgspec.DecodeError:
        return Roster()


class Others:
    """Other servers and their workers. ``me``: the number of this server."""

    def __init__(self, me: int) -> None:
        self._me = me
        self._rosters: dict[int, Roster] = {}
        self._of_group: dict[str, dict[int, set[str]]] = {}
        self._members: dict[int, list[Member]] = {}

    def are(self, rosters: Rosters) -> set[tuple[tuple[str, str], int]]:
        """Replace the rosters. Return new streams at servers known before: group and process, and their start (ms)."""
        before = self._rosters
        self._rosters = {id: decode_roster(data) for id, data in rosters.items()}
        self._of_group = {}
        for id, roster in self._rosters.items():
            for group, pid in roster.seats:
                self._of_group.setdefault(group, {}).setdefault(id, set()).add(pid)
        self._members = {id: members for id, members in self._members.items() if id in rosters}
        known = self._rosters.keys() & before.keys()
        return {come for id in known for come in self._rosters[id].begun.items() - before[id].begun.items()}

    def set_members(self, of: int, members: list[Member], more: bool) -> None:
        """Record a server's members; ``more``: besides those recorded."""
        if of in self._rosters:
            self._members[of] = [*self._members.get(of, ()), *members] if more else members

    @property
    def without_members(self) -> set[int]:
        """Servers whose members are not known yet."""
        return self._rosters.keys() - self._members.keys()

    def with_members(self, ours: Iterable[Member]) -> list[Member]:
        """Return all members, each as described by the server that has, or last had, its stream."""
        best: dict[tuple[str, str], Member] = {}
        for member in (*ours, *(each for members in self._members.values() for each in members)):
            known = best.get((member.group, member.pid))
            if known is None or (member.gone_at is None, member.heard) > (known.gone_at is None, known.heard):
                best[member.group, member.pid] = member
        return list(best.values())

    @property
    def seats(self) -> set[tuple[str, str]]:
        """Group and process of each stream to one of them."""
        return set().union(*(roster.seats for roster in self._rosters.values()))

    def workers(self) -> Counter[str]:
        """Return how many workers of each group are connected to them."""
        return Counter(group for roster in self._rosters.values() for group, _ in roster.seats)

    def with_member(self, address: PollAddress) -> int | None:
        """Return the server that has the process named by the address."""
        servers = self._of_group.get(address.group, {})
        return next((id for id, pids in servers.items() if address.id and address.id in pids), None)

    def with_listener(self, address: PollAddress) -> int | None:
        """Return a server that has a stream for what is sent there."""
        named = self.with_member(address)
        if named is not None or address.exact:
            return named
        return next(iter(self._of_group.get(address.group, {})), None)

    def owner(self, task_id: str, address: PollAddress, is_here: bool) -> int | None:
        """Return the server whose workers are offered the task, the same wherever it is computed; ``None`` if nobody
        could get it. ``is_here``: whether a worker of the group is connected to this server."""
        named = self.with_member(address)
        if named is not None or address.exact:
            return self._me if named is None and is_here else named
        candidates = [*self._of_group.get(address.group, {}), *([self._me] if is_here else [])]
        return max(candidates, key=lambda id: crc32(f"{id} {task_id}".encode()), default=None)


class Router:
    """Implements :class:`resonate_server.engine.Outbound`. ``now`` returns the time that all share, in ms."""

    def __init__(self, sharing: Sharing, others: Others, hub: Hub, now: Callable[[], int]) -> None:
        self._sharing = sharing
        self._others = others
        self._hub = hub
        self._now = now
        self._seen: dict[str, dict[tuple[str, int], float]] = {}
        """By group: since when tasks of other servers were seen waiting (monotonic seconds)."""
        self._heard: dict[tuple[str, str], float] = {}
        self.give = hub.give
        self.is_at_work = hub.is_at_work
        self.refresh = hub.refresh

    def ring(self, hint: hints.AnyHint) -> None:
        """Send the hint to the other servers, if any."""
        if self._sharing.has_others:
            to = hint.to if isinstance(hint, hints.Offered | hints.Owed) else None
            self._sharing.ring(hints.encode(hint), to, is_urgent=not isinstance(hint, NOT_URGENT))

    # --- messages ---------------------------------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        hint = self._hint(message) if self._sharing.has_others else None
        if hint is None:
            self._hub.send(message)
        else:
            self._hub.count(message)
            self.ring(hint)

    def _hint(self, message: Message) -> hints.AnyHint | None:
        """Return what to tell others; ``None`` if the message is for this server to deliver, or for nobody."""
        address = parse_address(message.target if isinstance(message, Execute) else message.address)
        if not isinstance(address, PollAddress):
            return None
        return self._offer(message, address) if isinstance(message, Execute) else self._owed(message, address)

    def _offer(self, execute: Execute, address: PollAddress) -> hints.Offered | None:
        """Offer the task to the server of the worker it names; otherwise only if nobody here has room."""
        is_named_elsewhere = not self._hub.has_seat(address.group, address.id) and self._others.with_member(address)
        if self._hub.has_room_for(execute) and not is_named_elsewhere:
            return None
        to = self._others.owner(execute.task_id, address, self._hub.serves(execute))
        if to is None or to == self._sharing.id:
            return None
        return hints.Offered(to, execute.task_id, execute.version, execute.target)

    def _owed(self, unblock: Unblock, address: PollAddress) -> hints.Owed | None:
        """What is for one process alone goes to all others: the process may have moved a moment ago."""
        if self._hub.has_seat(address.group, address.id):
            return None
        to = self._others.with_member(address)
        if to is None and self._hub.is_listening(address):
            return None
        to = None if address.exact else to or self._others.with_listener(address)
        return hints.Owed(unblock.promise.id, unblock.address, to, unblock.promise)

    def withdraw(self, task_id: str, version: int) -> None:
        if not self._hub.withdraw(task_id, version):
            self.ring(hints.Withdrawn(task_id, version))

    def settled(self, ids: list[str]) -> None:
        """Announce a few at a time, as when a function returns: nobody waits for many that time out together."""
        if 0 < len(ids) <= MAX_SETTLED and max(map(len, ids)) <= MAX_SETTLED_CHARACTERS:
            self.ring(hints.Settled(ids))

    def reset(self) -> None:
        self._hub.reset()
        self.ring(hints.WasReset())

    # --- processes --------------------------------------------------------------------------------------------------

    def heard_from(self, pid: str, prefix: str = "") -> None:
        self._hub.heard_from(pid, prefix)
        if not self._sharing.has_others or self._hub.has_stream_of(pid):
            return
        now = time.monotonic()
        if now - self._heard.get((pid, prefix), 0) >= HEARD_EVERY_S:
            if len(self._heard) == MAX_HEARD:
                self._heard.clear()
            self._heard[pid, prefix] = now
            self.ring(hints.Heard(pid, self._now(), prefix))

    def fell_silent(self, group: str, pid: str) -> None:
        self._hub.fell_silent(group, pid)
        if not self._hub.has_seat(group, pid):
            self.ring(hints.Silent(pid, group))

    # --- queued tasks -----------------------------------------------------------------------------------------------

    def refill(self, group: str, messages: list[Execute], complete: bool) -> None:
        if self._sharing.has_others:
            messages = self._ours(group, messages)
        self._hub.refill(group, messages, complete)

    def _ours(self, group: str, executes: list[Execute]) -> list[Execute]:
        """Return the tasks that this server is to offer, and some that others have left waiting."""
        now, before = time.monotonic(), self._seen.get(group, {})
        seen: dict[tuple[str, int], float] = {}
        ours: list[Execute] = []
        taken_over = 0
        for execute in executes:
            if self._is_ours(execute):
                ours.append(execute)
                continue
            key = execute.task_id, execute.version
            seen[key] = before.get(key, now)
            if now - seen[key] >= PATIENCE_S and taken_over < MAX_TAKEN_OVER and self._hub.has_room_for(execute):
                taken_over += 1
                self.ring(hints.Withdrawn(*key))
                ours.append(execute)
        self._seen.pop(group, None)
        if seen:
            self._seen[group] = seen
        return ours

    def _is_ours(self, execute: Execute) -> bool:
        address = parse_address(execute.target)
        assert isinstance(address, PollAddress)
        owner = self._others.owner(execute.task_id, address, self._hub.serves(execute))
        return owner in (None, self._sharing.id)
