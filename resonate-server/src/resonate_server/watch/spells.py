"""When each worker was connected: spells of time, in bounded memory. Pure."""

from collections.abc import Iterator

from msgspec import Struct

FOREVER = 1 << 62
"""End of what lasts."""

MAX_WORKERS = 2_000
MAX_SPELLS = 50
"""Of one worker."""


class _Spell(Struct, gc=False):
    """From ``begin`` to ``end``, in ms."""

    begin: int
    end: int = FOREVER


class Spells:
    """``since`` (ms): before that time nothing is known of anybody.

    ``all_known_since`` (ms): from then on every worker is known of, those of other servers as well; ``None`` while that
    is not so. Nobody is missed at any other time: who has not been heard of may have been there.
    """

    def __init__(self, since: int) -> None:
        self.since = since
        self.all_known_since: int | None = since
        self._of: dict[tuple[str, str], list[_Spell]] = {}
        """By group and pid; who came longest ago first."""
        self._acted: dict[str, int] = {}
        """When each process was last heard to ask for something (ms), the longest ago first."""

    def connected(self, group: str, pid: str, at: int) -> None:
        """It came at ``at``; may be told late, and again."""
        spells = self._of.pop((group, pid), [])
        self._of[group, pid] = spells
        if not spells:
            spells.append(_Spell(at))
        elif (end := spells[-1].end) != FOREVER:
            acted = self._acted.get(pid, 0)
            if end < acted < (end + at) // 2:  # What it asked for later, it may have asked when it was back.
                spells[-1].end = acted
            spells.append(_Spell(at))
        spells[-1].begin = min(spells[-1].begin, at)
        del spells[:-MAX_SPELLS]
        if len(self._of) > MAX_WORKERS:
            del self._of[next(iter(self._of))]

    def left(self, group: str, pid: str, at: int) -> None:
        spells = self._of.get((group, pid))
        if spells and spells[-1].end == FOREVER and spells[-1].begin <= at:
            spells[-1].end = at

    def acted(self, pid: str, at: int) -> None:
        """It has asked for something, so it was there: what is told of its end, by another clock, came after that."""
        self._acted[pid] = max(at, self._acted.pop(pid, 0))
        if len(self._acted) > MAX_WORKERS:
            del self._acted[next(iter(self._acted))]

    def away(self, pid: str) -> list[tuple[int, int]]:
        """When it was not connected, after it was once."""
        there = [time for (_, each), spells in self._of.items() if each == pid for time in self._times(each, spells)]
        return self._certain(_between(there))

    def absent(self, group: str) -> list[tuple[int, int]]:
        """When nobody of ``group`` was connected, as far back as anything is known. To a URL nobody ever connects."""
        if "://" in group:
            return []
        there = [time for (each, pid), spells in self._of.items() if each == group for time in self._times(pid, spells)]
        return self._certain(_between(there) if there else [(self.since, FOREVER)])

    def _times(self, pid: str, spells: list[_Spell]) -> Iterator[tuple[int, int]]:
        for spell in spells[:-1]:
            yield spell.begin, spell.end
        yield spells[-1].begin, max(spells[-1].end, self._acted.get(pid, 0))

    def _certain(self, holes: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """What of them lies in the time in which everybody is known of."""
        since = self.all_known_since
        return [] if since is None else [(max(begin, since), end) for begin, end in holes if end > since]


def _between(there: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The times that none of these covers, after the first one began."""
    holes: list[tuple[int, int]] = []
    if not there:
        return holes
    until = min(there)[0]
    for begin, end in sorted(there):
        if begin > until:
            holes.append((until, begin))
        until = max(until, end)
    return holes if until == FOREVER else [*holes, (until, FOREVER)]
