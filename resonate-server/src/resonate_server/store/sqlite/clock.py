"""The server's time in ms since the epoch, taken from the machine's clock only once, at the very first start.

From then on it follows the machine's uptime, so setting the machine's clock, by hand or by NTP, moves no lease, sleep
or deadline. A restart continues from the mark kept in the store: exactly, unless the machine was rebooted meanwhile;
then from the machine's clock, but no earlier than anything stored.

A machine may boot with a clock that is hours or years ahead, and be put right later. If nothing was stored meanwhile, a
restart puts the server's time right, too. Else it stays ahead, and the log says so: rows may not come from the future.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from msgspec import Struct

logger = logging.getLogger(__name__)

AHEAD_MS = 60_000
"""A server that is further ahead of its machine's clock says so; so does the alert ResonateClockSet."""

MARK_MS = 1_000
"""A mark in the store is at most this much older than any row stored with it."""

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""Its text changes at each boot of the machine; containers see their host's. Linux only."""


class ClockMark(Struct, frozen=True):
    """The server's ``time`` (ms since the epoch) at an ``uptime`` (ms) of its machine since ``boot``."""

    time: int
    uptime: int
    boot: str


# Includes the time in which the machine is suspended, where the system has such a clock.
_UPTIME: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock(Protocol):
    """Returns the time in ms since the epoch; never goes back."""

    def __call__(self) -> int: ...

    def mark(self) -> ClockMark:
        """Return the mark from which a restart continues."""


class MachineClock(Struct, frozen=True):
    """Readings of the machine: wall time and uptime in ms; ``boot`` identifies the current boot."""

    wall: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    uptime: Callable[[], int] = lambda: time.clock_gettime_ns(_UPTIME) // 1_000_000
    boot: Callable[[], str] = lambda: BOOT_ID.read_text().strip() if BOOT_ID.exists() else ""


class ServerClock:
    """Continues from ``mark``, or starts at the wall clock if there is none. ``latest``: returns the time of the
    youngest row (ms).
    """

    def __init__(
        self, mark: ClockMark | None, machine: MachineClock | None = None, latest: Callable[[], int] | None = None
    ) -> None:
        self._machine = machine or MachineClock()
        start = self._start(mark)
        if start > self._machine.wall() + AHEAD_MS and latest is not None:
            start = min(start, max(self._machine.wall(), latest() + 1))
        self._ahead = start - self._machine.uptime()
        if (ahead := start - self._machine.wall()) > AHEAD_MS:
            logger.warning(
                "the server's time is %.1f h ahead of this machine's clock, because rows from then are stored. "
                "Deadlines that clients take from their own clocks pass early. Wait, or start with an empty database",
                ahead / 3_600_000,
            )

    def __call__(self) -> int:
        return self._machine.uptime() + self._ahead

    def mark(self) -> ClockMark:
        uptime = self._machine.uptime()
        return ClockMark(time=uptime + self._ahead, uptime=uptime, boot=self._machine.boot())

    def _start(self, mark: ClockMark | None) -> int:
        wall = self._machine.wall()
        if mark is None:
            return wall
        boot, uptime = self._machine.boot(), self._machine.uptime()
        if boot and boot == mark.boot and uptime >= mark.uptime:
            return mark.time + uptime - mark.uptime
        return max(wall, mark.time + MARK_MS)
