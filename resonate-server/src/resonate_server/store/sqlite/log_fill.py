"""When is the log to be folded into the file? SQLite would do that by itself, but without what :mod:`.sessions` needs.

The log is written anew from its beginning after each fold, and never gets shorter, so its size tells nothing. But each
page in it has the number of its turn, two salts, before it; and so has the log's head (sqlite.org/fileformat2.html,
section 4.1).
"""

import os
from pathlib import Path

FULL_PAGES = 4_000
"""About 16 MiB."""

_HEAD_BYTES, _SALTS_IN_HEAD = 32, 16
_PAGE_HEAD_BYTES, _SALTS_IN_PAGE_HEAD = 24, 8
_SALTS_BYTES = 8


class LogFill:
    """Of a log that is in use; ``page_size`` in bytes."""

    def __init__(self, log: Path, page_size: int) -> None:
        self._descriptor = os.open(log, os.O_RDONLY | os.O_CLOEXEC)
        self._last = _HEAD_BYTES + (FULL_PAGES - 1) * (_PAGE_HEAD_BYTES + page_size) + _SALTS_IN_PAGE_HEAD

    def is_full(self) -> bool:
        """Whether it has :data:`FULL_PAGES` since it was begun anew."""
        salts = os.pread(self._descriptor, _SALTS_BYTES, self._last)
        return bool(salts) and salts == os.pread(self._descriptor, _SALTS_BYTES, _SALTS_IN_HEAD)

    def close(self) -> None:
        os.close(self._descriptor)
