"""When each worker was connected: a list of periods (spells), in bounded memory. Pure."""

from collections.abc import Iterator

from msgspec import Struct

FOREVER = 1 << 62
"""End of a period that still lasts."""

MAX_WORKERS = 2_000
MAX_SPELLS = 50
"""ConnectionHistory kept of one worker."""


class _Spell(Struct, gc=False):
    """From ``begin`` to ``end``, in ms."""

    begin: int
    end: int = FOREVER


class ConnectionHistory:
    """``since`` (ms): before that time, nothing is known of any worker.

    ``all_known_since`` (ms): from then on all workers are known, those of other servers as well; ``None`` while they
    are not. Only then does a worker count as absent: at other times, one that was not heard of may have been connected.
    """

    def __init__(self, since: int) -> None:
        self.since = since
        self.all_known_since: int | None = since
        self._of: dict[tuple[str, str], list[_Spell]] = {}
        """By group and pid, the least recent to connect first."""
        self._acted: dict[str, int] = {}
        """Time (ms) of the last known request of each process, least recent first."""

    def connected(self, group: str, pid: str, at: int) -> None:
        """Note that a worker connected at ``at``. The report may be late, or repeated."""
        spells = self._of.pop((group, pid), [])
        self._of[group, pid] = spells
        if not spells:
            spells.append(_Spell(at))
        elif (end := spells[-1].end) != FOREVER:
            acted = self._acted.get(pid, 0)
            if end < acted < (end + at) // 2:  # A later request may have come when it was back.
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
        """Note a request: the worker was connected, so any end reported by another clock came later."""
        self._acted[pid] = max(at, self._acted.pop(pid, 0))
        if len(self._acted) > MAX_WORKERS:
            del self._acted[next(iter(self._acted))]

    def away(self, pid: str) -> list[tuple[int, int]]:
        """Return when a worker was not connected, after its first connection."""
        there = [time for (_, each), spells in self._of.items() if each == pid for time in self._times(each, spells)]
        return self._certain(_between(there))

    def absent(self, group: str) -> list[tuple[int, int]]:
        """Return when no worker of ``group`` was connected, as far back as known. Nobody ever connects to a URL."""
        if "://" in group:
            return []
        there = [time for (each, pid), spells in self._of.items() if each == group for time in self._times(pid, spells)]
        return self._certain(_between(there) if there else [(self.since, FOREVER)])

    def _times(self, pid: str, spells: list[_Spell]) -> Iterator[tuple[int, int]]:
        for spell in spells[:-1]:
            yield spell.begin, spell.end
        yield spells[-1].begin, max(spells[-1].end, self._acted.get(pid, 0))

    def _certain(self, holes: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Return the parts of ``holes`` in the time for which all workers are known."""
        since = self.all_known_since
        return [] if since is None else [(max(begin, since), end) for begin, end in holes if end > since]


def _between(there: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the times that none of these covers, from the first begin on."""
    holes: list[tuple[int, int]] = []
    if not there:
        return holes
    until = min(there)[0]
    for begin, end in sorted(there):
        if begin > until:
            holes.append((until, begin))
        until = max(until, end)
    return holes if until == FOREVER else [*holes, (until, FOREVER)]
