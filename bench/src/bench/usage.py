"""What processes cost: CPU seconds and peak memory, of each with all its children, over a phase."""

from pathlib import Path

import psutil
from msgspec import Struct


class Usage(Struct, frozen=True):
    """``peak_rss_bytes``: the greatest resident memory since the process began, or that of now where unknown."""

    cpu_seconds: float
    peak_rss_bytes: int


class Meter:
    """Measures the processes ``pids`` (by name) from its making on. Those that end meanwhile are missed."""

    def __init__(self, pids: dict[str, int]) -> None:
        self._pids = pids
        self._before = {name: cpu_seconds(pid) for name, pid in pids.items()}

    def read(self) -> dict[str, Usage]:
        """What each has used since this meter was made."""
        return {
            name: Usage(cpu_seconds=cpu_seconds(pid) - self._before[name], peak_rss_bytes=peak_rss_bytes(pid))
            for name, pid in self._pids.items()
        }


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its living children."""
    return sum(times.user + times.system for times in (member.cpu_times() for member in _family(pid)))


def peak_rss_bytes(pid: int) -> int:
    """Of a process and its living children, as if all had their peak at once."""
    return sum(_peak_of_one(member) for member in _family(pid))


def rss_bytes(pid: int) -> int:
    """Resident memory now, of a process and its living children."""
    return sum(member.memory_info().rss for member in _family(pid))


def _family(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def _peak_of_one(process: psutil.Process) -> int:
    status = Path(f"/proc/{process.pid}/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1_024
    return int(process.memory_info().rss)
