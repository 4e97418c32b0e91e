"""Records when this server was down or stood still: it checks the clock continually, and notices missing time.

Outages are kept in a small file beside the database, so that a restart knows how long the server was down. Nothing
depends on the file: if it is missing or cannot be written, outages before the last start are unknown.
"""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct, field

from resonate_server.protocol.payload import NOT_JSON

BEAT_S = 0.25
NOTICEABLE_MS = 1_000
"""A shorter gap is not an outage."""

MAX_OUTAGES = 20
"""Only the latest are kept."""


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
            if writing is not None:
                await writing
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
