"""When workers and this server were away.

Of each worker, the periods (spells) in which it was connected are kept, in bounded memory. When the server itself was
down or stood still, it notices by checking the clock continually. Its outages are kept in a small file beside the
database, so that a restart knows how long the server was down. Nothing depends on the file: if it is missing or cannot
be written, outages before the last start are unknown.
"""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct, field

from resonate_server.protocol.payload import NOT_JSON

FOREVER = 1 << 62
"""End of a period that still lasts."""

MAX_WORKERS = 2_000
MAX_SPELLS = 50
"""Spells kept of one worker."""


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
        return self._certain(_between(self._there(lambda worker: worker[1] == pid)))

    def absent(self, group: str) -> list[tuple[int, int]]:
        """Return when no worker of ``group`` was connected, as far back as known. Nobody ever connects to a URL."""
        if "://" in group:
            return []
        there = self._there(lambda worker: worker[0] == group)
        return self._certain(_between(there) if there else [(self.since, FOREVER)])

    def _there(self, wanted: Callable[[tuple[str, str]], bool]) -> list[tuple[int, int]]:
        """Return when the wanted workers, by group and pid, were connected."""
        times: list[tuple[int, int]] = []
        for worker in filter(wanted, self._of):
            *past, last = self._of[worker]
            times += [(spell.begin, spell.end) for spell in past]
            times.append((last.begin, max(last.end, self._acted.get(worker[1], 0))))
        return times

    def _certain(self, holes: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Return the parts of ``holes`` in the time for which all workers are known."""
        since = self.all_known_since
        return [] if since is None else [(max(begin, since), end) for begin, end in holes if end > since]


def _between(there: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the times that none of these covers, from the first begin on."""
    holes: list[tuple[int, int]] = []
    until = min(there, default=(FOREVER, FOREVER))[0]
    for begin, end in [*sorted(there), (FOREVER, FOREVER)]:
        if begin > until:
            holes.append((until, begin))
        until = max(until, end)
    return holes


# ── outages of the server ──

BEAT_S = 0.25
NOTICEABLE_MS = 1_000
"""A shorter gap is not an outage."""

MAX_OUTAGES = 20
"""Only the latest are kept."""


LAST_WRITE_S = 1.0
"""A disk that takes longer keeps the server from ending."""

RECORD_BYTES = 1_024
"""Size of the file: more than the outages take, padded with blanks."""


class Outage(Struct, frozen=True):
    """From ``begin`` to ``end``, in ms."""

    begin: int = field(name="from")
    end: int = field(name="to")


class _Record(Struct):
    """``alive``: when the server last ran (ms)."""

    alive: int
    outages: list[Outage]


class Outages:
    """``path``: the file, or ``None`` for none. ``now`` returns the time in ms; ``ended`` is called with each
    outage."""

    def __init__(self, path: Path | None, now: Callable[[], int], ended: Callable[[Outage], None]) -> None:
        self._path = path
        self._now = now
        self._ended = ended
        self._record = _read(path) or _Record(now(), [])
        self.look()

    def between(self, begin: int, end: int) -> list[Outage]:
        """Return the outages that overlap the time from ``begin`` to ``end``, oldest first."""
        return [outage for outage in self._record.outages if outage.end > begin and outage.begin < end]

    def look(self) -> None:
        now, record = self._now(), self._record
        if now - record.alive >= NOTICEABLE_MS:
            record.outages = [*record.outages, Outage(record.alive, now)][-MAX_OUTAGES:]
            self._ended(record.outages[-1])
        record.alive = now

    async def run(self) -> None:
        """Check the clock until cancelled. A disk that is slow to write the file does not delay the checks."""
        writing: asyncio.Future[None] | None = None
        try:
            while True:
                if writing is None or writing.done():
                    writing = asyncio.ensure_future(asyncio.to_thread(self._write))
                await asyncio.sleep(BEAT_S)
                self.look()
        finally:
            if writing is None or (await asyncio.wait([writing], timeout=LAST_WRITE_S))[0]:
                self._record.alive = self._now()
                self._write()

    def _write(self) -> None:
        """Overwrite the file in place: a truncated one gets new space on the disk each time, while commits wait."""
        if self._path is None:
            return
        with suppress(OSError):
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                os.write(descriptor, msgspec.json.encode(self._record).ljust(RECORD_BYTES))
            finally:
                os.close(descriptor)


def _read(path: Path | None) -> _Record | None:
    try:
        return None if path is None else msgspec.json.decode(path.read_bytes(), type=_Record)
    except (OSError, *NOT_JSON):
        return None
