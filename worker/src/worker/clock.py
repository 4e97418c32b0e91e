"""The server's time, as the server has reported it: the SDK computes every deadline from it.

The server judges deadlines by its own clock, which never jumps. If a worker used its machine's clock, a sleep of 30 s
could end at once, or after an hour, because somebody set that clock.
"""

import time
from collections.abc import Callable

from resonate.timing import now_ms


def uptime_ms() -> int:
    """Return milliseconds since some fixed moment, including time spent in suspend if the system can tell."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime_ns(clock) // 1_000_000


class ServerClock:
    """A clock for the SDK. Until a server reports its time (only ours does), it shows the machine's."""

    def __init__(self, uptime: Callable[[], int] = uptime_ms, wall: Callable[[], int] = now_ms) -> None:
        self._uptime = uptime
        self._wall = wall
        self._ahead: int | None = None
        """How many ms the server's time is ahead of the uptime."""
        self._is_new_stream = True

    def __call__(self) -> int:
        return self._wall() if self._ahead is None else self._uptime() + self._ahead

    def connection_changed(self, connected: bool) -> None:
        """Start afresh with a new connection: it may lead to another server, or to one that was restarted."""
        self._is_new_stream = connected

    def synchronise(self, server_ms: int) -> None:
        """Take the server's time. A delayed message carries too early a time, so the greatest value counts."""
        ahead = server_ms - self._uptime()
        if self._is_new_stream or self._ahead is None or ahead > self._ahead:
            self._ahead = ahead
        self._is_new_stream = False
