"""When each worker was connected: spells of time, in bounded memory. Pure."""

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

    def connected(self, group: str, pid: str, at: int) -> None:
        """It came at ``at``; may be told late, and again."""
        spells = self._of.pop((group, pid), [])
        self._of[group, pid] = spells
        if not spells or spells[-1].end != FOREVER:
            spells.append(_Spell(at))
        spells[-1].begin = min(spells[-1].begin, at)
        del spells[:-MAX_SPELLS]
        if len(self._of) > MAX_WORKERS:
            del self._of[next(iter(self._of))]

    def left(self, group: str, pid: str, at: int) -> None:
        spells = self._of.get((group, pid))
        if spells and spells[-1].end == FOREVER:
            spells[-1].end = at

    def away(self, pid: str) -> list[tuple[int, int]]:
        """When it was not connected, after it was once."""
        spells = [spell for (_, each), spells in self._of.items() if each == pid for spell in spells]
        return self._certain(_between(spells))

    def absent(self, group: str) -> list[tuple[int, int]]:
        """When nobody of ``group`` was connected, as far back as anything is known. To a URL nobody ever connects."""
        if "://" in group:
            return []
        spells = [spell for (each, _), spells in self._of.items() if each == group for spell in spells]
        return self._certain(_between(spells) if spells else [(self.since, FOREVER)])

    def _certain(self, holes: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """What of them lies in the time in which everybody is known of."""
        since = self.all_known_since
        return [] if since is None else [(max(begin, since), end) for begin, end in holes if end > since]


def _between(spells: list[_Spell]) -> list[tuple[int, int]]:
    """The times that no spell covers, after the first one began."""
    holes: list[tuple[int, int]] = []
    if not spells:
        return holes
    spells = sorted(spells, key=lambda spell: spell.begin)
    until = spells[0].begin
    for spell in spells:
        if spell.begin > until:
            holes.append((until, spell.begin))
        until = max(until, spell.end)
    return holes if until == FOREVER else [*holes, (until, FOREVER)]
