"""The time of all servers on one database: the clock of its machine, which each server reads once a second."""

import time
from collections.abc import Callable

STEP_MS = 1_000
"""If the database's clock is behind by up to this much, ours waits for it; if by more, it was set back."""


class DatabaseClock:
    """Returns the time in ms since the epoch; between two readings, follows the machine's uptime. Never goes back."""

    def __init__(self, uptime: Callable[[], int] = lambda: time.monotonic_ns() // 1_000_000) -> None:
        self._uptime = uptime
        self._ahead = time.time_ns() // 1_000_000 - uptime()
        self._told = 0

    def __call__(self) -> int:
        self._told = max(self._told, self._uptime() + self._ahead)
        return self._told

    def begin(self, time: int) -> None:
        """Set the time (ms), whatever was returned before it was known."""
        self._ahead, self._told = time - self._uptime(), 0

    def measured(self, time: int, took: int) -> None:
        """Adjust to ``time`` (ms), from an answer of the database that took ``took`` ms: by now it is that, or up to
        ``took`` later. An earlier, more exact answer stays in force."""
        least = time - self._uptime()
        most = least + took
        if self._ahead < least:
            self._ahead = least
        elif most < self._ahead <= most + STEP_MS:
            self._ahead = most
