"""The server's time, as far as this worker has heard it: every deadline that the SDK computes is in it.

The server judges deadlines by its own clock, which never jumps. A worker that took them from the clock of its machine
would have a sleep of 30 s end at once, or in an hour, after somebody set that clock.
"""

import time
from collections.abc import Callable

from resonate.timing import now_ms


def uptime_ms() -> int:
    """Milliseconds since some moment; it goes on while the machine is suspended, where the system can tell."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime_ns(clock) // 1_000_000


class ServerClock:
    """A clock for the SDK. Until a server has told its time (only ours does), it is that of the machine."""

    def __init__(self, uptime: Callable[[], int] = uptime_ms, wall: Callable[[], int] = now_ms) -> None:
        self._uptime = uptime
        self._wall = wall
        self._ahead: int | None = None
        """By how many ms the server's time is ahead of the uptime."""
        self._is_new_stream = True

    def __call__(self) -> int:
        return self._wall() if self._ahead is None else self._uptime() + self._ahead

    def connection_changed(self, connected: bool) -> None:
        """What a new connection tells may come from another server, or from one that was restarted."""
        self._is_new_stream = connected

    def synchronise(self, server_ms: int) -> None:
        """The server has told its time. A message that was on its way for long tells too little, so the most counts."""
        ahead = server_ms - self._uptime()
        if self._is_new_stream or self._ahead is None or ahead > self._ahead:
            self._ahead = ahead
        self._is_new_stream = False
