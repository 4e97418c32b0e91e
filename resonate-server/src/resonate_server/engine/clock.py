"""Wall time for the engine: milliseconds since the epoch, never running backwards within a process."""

import time
from collections.abc import Callable

type Clock = Callable[[], int]


def monotonic_wall_clock() -> Clock:
    """A clock that repeats its last value while the system clock is set back, so that no lease or deadline moves
    away."""
    last = 0

    def now() -> int:
        nonlocal last
        last = max(last, time.time_ns() // 1_000_000)
        return last

    return now
