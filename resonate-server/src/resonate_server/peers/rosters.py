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
"""Of a stream that nobody says the beginning of."""


class Roster(Struct, frozen=True, array_like=True):
    """Group and process of each stream; and of those who are missed: their server is to judge them.

    ``since``: when each of the streams began (ms); a server of another version may not say so.
    """

    seats: list[tuple[str, str]] = []
    missed: list[tuple[str, str]] = []
    since: list[int] = []

    @property
    def pids(self) -> set[str]:
        """Those who have a stream."""
        return {pid for _, pid in self.seats}

    @property
    def begun(self) -> dict[tuple[str, str], int]:
        """When each of the streams began (ms)."""
        return dict(zip(self.seats, self.since or repeat(LATEST), strict=False))


encode_roster = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Roster)


def decode_roster(data: bytes) -> Roster:
    """One that cannot be read, of another version, is empty."""
    try:
        return _decoder.decode(data)
    except msgspec.DecodeError:
        return Roster()


class Others:
    """``me``: the number of this server."""

    def __init__(self, me: int) -> None:
        self._me = me
        self._rosters: dict[int, Roster] = {}
        self._of_group: dict[str, dict[int, set[str]]] = {}
        self._members: dict[int, list[Member]] = {}

    def are(self, rosters: Rosters) -> set[tuple[tuple[str, str], int]]:
        """So they are now; tells group and process of those who have come to one of them that was known before, and
        when (ms)."""
        before = self._rosters
        self._rosters = {id: decode_roster(data) for id, data in rosters.items()}
        self._of_group = {}
        for id, roster in self._rosters.items():
            for group, pid in roster.seats:
                self._of_group.setdefault(group, {}).setdefault(id, set()).add(pid)
        self._members = {id: members for id, members in self._members.items() if id in rosters}
        known = self._rosters.keys() & before.keys()
        return {come for id in known for come in self._rosters[id].begun.items() - before[id].begun.items()}

    def has_members(self, of: int, members: list[Member], more: bool) -> None:
        """``more``: besides those that it has been said to have."""
        if of in self._rosters:
            self._members[of] = [*self._members.get(of, ()), *members] if more else members

    @property
    def untold(self) -> set[int]:
        """Those that have not said yet which members they have."""
        return self._rosters.keys() - self._members.keys()

    def with_members(self, ours: Iterable[Member]) -> list[Member]:
        """Everybody, as whoever knows best says: the server to which it is connected, or was last."""
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
        """How many are connected to them."""
        return sum(map(len, self._of_group.get(group, {}).values()))

    @property
    def groups(self) -> Iterable[str]:
        """Those of which somebody is connected to them."""
        return self._of_group

    def with_member(self, address: PollAddress) -> int | None:
        """The one to which the process is connected that an address names."""
        servers = self._of_group.get(address.group, {})
        return next((id for id, pids in servers.items() if address.id and address.id in pids), None)

    def with_listener(self, address: PollAddress) -> int | None:
        """One to which somebody is connected who gets what is sent there."""
        named = self.with_member(address)
        if named is not None or address.exact:
            return named
        return next(iter(self._of_group.get(address.group, {})), None)

    def owner(self, task_id: str, address: PollAddress, is_here: bool) -> int | None:
        """The server whose workers are offered the task, the same one wherever it is asked; ``None`` if nobody could
        get it. ``is_here``: whether one of the group is connected to this server.
        """
        named = self.with_member(address)
        if named is not None or address.exact:
            return self._me if named is None and is_here else named
        candidates = [*self._of_group.get(address.group, {}), *([self._me] if is_here else [])]
        return max(candidates, key=lambda id: crc32(f"{id} {task_id}".encode()), default=None)
