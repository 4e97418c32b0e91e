"""When this server did not run, or stood still: it looks at the clock all the time, and finds that time is missing.

The times are kept in a small file beside the database, so that a restart knows how long it took. Nothing depends on it:
without the file, or if it cannot be written, outages before the last start are not known.
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
"""What is missing for less time is no outage."""

MAX_OUTAGES = 20
"""The latest are kept."""


RECORD_BYTES = 1_024
"""More than so many outages take; the rest is blank."""


class Outage(Struct, frozen=True):
    """From ``begin`` to ``end``, in ms."""

    begin: int = field(name="from")
    end: int = field(name="to")


class _Record(Struct):
    """``alive``: when the server last ran (ms)."""

    alive: int
    outages: list[Outage]


class Outages:
    """``path`` of the file; ``None`` for none. ``now`` tells the time in ms, ``ended`` is told of each outage."""

    def __init__(self, path: Path | None, now: Callable[[], int], ended: Callable[[Outage], None]) -> None:
        self._path = path
        self._now = now
        self._ended = ended
        self._record = _read(path) or _Record(now(), [])
        self.look()

    def between(self, begin: int, end: int) -> list[Outage]:
        """Those of which a part was between ``begin`` and ``end``, oldest first."""
        return [outage for outage in self._record.outages if outage.end > begin and outage.begin < end]

    def look(self) -> None:
        now, record = self._now(), self._record
        if now - record.alive >= NOTICEABLE_MS:
            record.outages = [*record.outages, Outage(record.alive, now)][-MAX_OUTAGES:]
            self._ended(record.outages[-1])
        record.alive = now

    async def run(self) -> None:
        """Look again and again, until cancelled. A disk that takes its time for the file holds up no look."""
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
        """In its place: a file that is emptied first is given a new place on the disk each time, while commits wait."""
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
