"""The server's time: milliseconds since the epoch, by the machine's clock at the very first start, and never again.

After that it only goes on, at the pace of the machine's uptime. Whoever sets the machine's clock, by hand or by NTP,
moves no lease, sleep or deadline. A restart goes on from the mark that the store keeps: exactly where it would be, as
long as the machine has not been booted meanwhile; else at the machine's clock, but not before what is stored.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from msgspec import Struct

MARK_MS = 1_000
"""A mark in the store is at most this much older than anything stored beside it."""

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""Another text after each boot of the machine; containers see that of their host. Linux only."""


class ClockMark(Struct, frozen=True):
    """Where the server's clock stood, in ms since the epoch, at an uptime (ms) of its machine; ``boot`` names that."""

    time: int
    uptime: int
    boot: str


# It goes on while the machine is suspended, where the system has such a clock.
_UPTIME: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock(Protocol):
    """Tells the time in ms since the epoch; it never goes back."""

    def __call__(self) -> int: ...

    def mark(self) -> ClockMark:
        """What a restart goes on from."""


class MachineClock(Struct, frozen=True):
    """What the clock reads: wall time and uptime in ms; ``boot`` names the time since the machine was booted."""

    wall: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    uptime: Callable[[], int] = lambda: time.clock_gettime_ns(_UPTIME) // 1_000_000
    boot: Callable[[], str] = lambda: BOOT_ID.read_text().strip() if BOOT_ID.exists() else ""


class ServerClock:
    """Goes on from ``mark``, or begins with the wall clock if there is none."""

    def __init__(self, mark: ClockMark | None, machine: MachineClock | None = None) -> None:
        self._machine = machine or MachineClock()
        self._ahead = self._start(mark) - self._machine.uptime()

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
