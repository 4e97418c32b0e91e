"""The time of all servers on one database: that of its machine, which each of them asks for once a second."""

import time
from collections.abc import Callable

STEP_MS = 1_000
"""If the database's clock is behind by up to this much, ours waits for it; if by more, somebody has set it back."""


class DatabaseClock:
    """Tells the time in ms since the epoch; between two looks it follows the machine's uptime. It never goes back."""

    def __init__(self, uptime: Callable[[], int] = lambda: time.monotonic_ns() // 1_000_000) -> None:
        self._uptime = uptime
        self._ahead = time.time_ns() // 1_000_000 - uptime()
        self._told = 0

    def __call__(self) -> int:
        self._told = max(self._told, self._uptime() + self._ahead)
        return self._told

    def begin(self, time: int) -> None:
        """It is ``time`` (ms), whatever was said before anybody could know."""
        self._ahead, self._told = time - self._uptime(), 0

    def measured(self, time: int, took: int) -> None:
        """The database said ``time`` (ms), in an answer that took so many ms: it is that by now, or up to so much
        later. What an earlier answer told more exactly stays."""
        least = time - self._uptime()
        most = least + took
        if self._ahead < least:
            self._ahead = least
        elif most < self._ahead <= most + STEP_MS:
            self._ahead = most
