"""What processes cost: CPU, memory, waits for the disk, requests and commits; and which cores they may use."""

import os
import re
import shutil
import signal
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import psutil
from harness.metrics import samples
from msgspec import Struct

REQUESTS = "resonate_request_total"
COMMITS = "resonate_commit_batch_size_count"
DISK_CALLS = ("fsync", "fdatasync", "io_submit")
"""io_submit: makes the kernel sync a file asynchronously; our server submits nothing else."""


class Usage(Struct, frozen=True):
    """Usage of a process and its living children. ``peak_bytes``: of resident memory, as if all peaked at once."""

    cpu_seconds: float
    rss_bytes: int
    peak_bytes: int

    def since(self, before: "Usage") -> "Usage":
        return msgspec.structs.replace(self, cpu_seconds=self.cpu_seconds - before.cpu_seconds)


def family(pid: int) -> list[psutil.Process]:
    """A process and its living children."""
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def usage(pid: int) -> Usage:
    """Return the usage of a process since its start."""
    members = family(pid)
    cpu_seconds = sum(times.user + times.system for times in (member.cpu_times() for member in members))
    rss_bytes = sum(member.memory_info().rss for member in members)
    return Usage(cpu_seconds, rss_bytes, sum(map(_peak_bytes, members)))


def _peak_bytes(process: psutil.Process) -> int:
    status = Path(f"/proc/{process.pid}/status")
    peak = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(peak[1]) * 1_024 if peak else int(process.memory_info().rss)


# ── requests and commits ──


def server_counts(metrics_port: int) -> dict[str, float]:
    """Return `COMMITS` and `REQUESTS` of our server since its start, the latter also by kind."""
    counts: defaultdict[str, float] = defaultdict(float)
    for sample in samples(metrics_port):
        counts[sample.name] += sample.value
        if sample.name == REQUESTS:
            counts[sample.labels["kind"]] += sample.value
    return counts


# ── waits for the disk ──


@contextmanager
def counted_disk_calls(pid: int) -> Iterator[list[int]]:
    """Count with strace how often the threads of ``pid`` sync a file. They are slower meanwhile.

    The list has the number once the counting has ended, and stays empty if strace is missing or not permitted.
    """
    calls: list[int] = []
    if not shutil.which("strace"):
        yield calls
        return
    command = ["strace", "-f", "-c", "-e", f"trace={','.join(DISK_CALLS)}", "-p", str(pid)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
        assert strace.stderr is not None
        is_permitted = "attached" in strace.stderr.readline()
        try:
            yield calls
        finally:
            strace.send_signal(signal.SIGINT)
        if is_permitted:
            calls.append(disk_calls_in(strace.stderr.read()))


def disk_calls_in(summary: str) -> int:
    """Add up the calls in the table of ``strace -c``: the fourth column of the lines that end with their names."""
    lines = [line.split() for line in summary.splitlines()]
    return sum(int(words[3]) for words in lines if words and words[-1] in DISK_CALLS)


# ── cores ──


def two_cores() -> tuple[int | None, int | None]:
    """Return one core for what is measured and one for the load; ``None`` where processes cannot be pinned."""
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return (usable[0], usable[1]) if len(usable) > 1 else (None, None)


def tie(pid: int, core: int | None) -> None:
    """Pin every thread of a process to a core; later threads inherit that."""
    if core is not None:
        for thread in psutil.Process(pid).threads():
            os.sched_setaffinity(thread.id, {core})
