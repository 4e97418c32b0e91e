"""The write-ahead log, beside SQLite: when is it on disk, and when is it to be folded into the file?

SQLite would do both by itself: sync the log on the thread that commits, and fold it without what :mod:`.sessions`
needs.

The log is written anew from its beginning after each fold, and never gets shorter, so its size tells nothing. But each
page in it has the number of its turn, two salts, before it; and so has the log's head (sqlite.org/fileformat2.html,
section 4.1).
"""

import os
from pathlib import Path

FULL_BYTES = 32 * 1_024 * 1_024
"""Some 200 chains of three calls, one by one: fewer than one in a hundred waits for the fold."""

_HEAD_BYTES, _SALTS_IN_HEAD = 32, 16
_PAGE_HEAD_BYTES, _SALTS_IN_PAGE_HEAD = 24, 8
_SALTS_BYTES = 8

_sync = getattr(os, "fdatasync", os.fsync)


class Log:
    """One that is in use; ``page_size`` in bytes."""

    def __init__(self, path: Path, page_size: int) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        pages = FULL_BYTES // page_size
        self._last = _HEAD_BYTES + (pages - 1) * (_PAGE_HEAD_BYTES + page_size) + _SALTS_IN_PAGE_HEAD

    def sync(self) -> None:
        """Return once all that was written is on disk; raises ``OSError``."""
        _sync(self.descriptor)

    def is_full(self) -> bool:
        """Whether it has :data:`FULL_BYTES` of pages since it was begun anew."""
        salts = os.pread(self.descriptor, _SALTS_BYTES, self._last)
        return bool(salts) and salts == os.pread(self.descriptor, _SALTS_BYTES, _SALTS_IN_HEAD)

    def close(self) -> None:
        os.close(self.descriptor)
