"""Syncing the write-ahead log, and telling when to fold it into the file.

SQLite would do both itself, but it syncs the log on the thread that commits, and folds it without the steps that
:mod:`.sessions` needs.

After each fold the log is overwritten from its beginning and never shrinks, so its size says nothing. But the log's
header and the header of each page contain two salts that change with each new log (sqlite.org/fileformat2.html, section
4.1).
"""

import os
from pathlib import Path

FULL_BYTES = 32 * 1_024 * 1_024
"""About 200 chains of three calls, run one by one, so that fewer than one in a hundred waits for the fold."""

_HEAD_BYTES, _SALTS_IN_HEAD = 32, 16
_PAGE_HEAD_BYTES, _SALTS_IN_PAGE_HEAD = 24, 8
_SALTS_BYTES = 8

_sync = getattr(os, "fdatasync", os.fsync)


class Log:
    """A log in use; ``page_size`` in bytes."""

    def __init__(self, path: Path, page_size: int) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        pages = FULL_BYTES // page_size
        self._last = _HEAD_BYTES + (pages - 1) * (_PAGE_HEAD_BYTES + page_size) + _SALTS_IN_PAGE_HEAD

    def sync(self) -> None:
        """Return once everything written is on disk. Raises ``OSError``."""
        _sync(self.descriptor)

    def is_full(self) -> bool:
        """Return whether it has :data:`FULL_BYTES` of pages since it was last overwritten."""
        salts = os.pread(self.descriptor, _SALTS_BYTES, self._last)
        return bool(salts) and salts == os.pread(self.descriptor, _SALTS_BYTES, _SALTS_IN_HEAD)

    def close(self) -> None:
        os.close(self.descriptor)
