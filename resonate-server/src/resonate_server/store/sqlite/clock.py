"""The server's time in ms since the epoch, taken from the machine's clock only once, at the very first start.

From then on it follows the machine's uptime, so setting the machine's clock, by hand or by NTP, moves no lease, sleep
or deadline. A restart continues from the mark kept in the store: exactly, unless the machine was rebooted meanwhile;
then from the machine's clock, but no earlier than anything stored.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from msgspec import Struct

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
    """Continues from ``mark``, or starts at the wall clock if there is none."""

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
