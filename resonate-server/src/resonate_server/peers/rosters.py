"""Who is connected to which server: what each of them publishes, and what this one knows of the others."""

from collections.abc import Iterable
from itertools import repeat
from zlib import crc32

import msgspec
from msgspec import Struct

from resonate_server.delivery.presence import Member
from resonate_server.protocol.address import PollAddress
from resonate_server.store.sharing import Rosters

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
    def pids(self) -> set[str]:
        """Processes that have a stream."""
        return {pid for _, pid in self.seats}

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
    def pids(self) -> set[str]:
        """Processes that have a stream to one of them."""
        return set().union(*(roster.pids for roster in self._rosters.values()))

    def workers(self, group: str) -> int:
        """Return how many of the group's workers are connected to them."""
        return sum(map(len, self._of_group.get(group, {}).values()))

    @property
    def groups(self) -> Iterable[str]:
        """Groups of the workers connected to them."""
        return self._of_group

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
