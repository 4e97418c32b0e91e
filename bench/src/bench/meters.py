"""What processes cost: CPU, memory, waits for the disk, requests and commits; and which cores they may use."""

import os
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from msgspec import Struct
from prometheus_client.metrics_core import Sample
from prometheus_client.parser import text_string_to_metric_families

REQUESTS = "resonate_request_total"
COMMITS = "resonate_commit_batch_size_count"
DISK_CALLS = ("fsync", "fdatasync")


class Usage(Struct, frozen=True):
    """Of a process and its living children, as if all had their peak at once."""

    cpu_seconds: float
    peak_rss_bytes: int

    def since(self, before: "Usage") -> "Usage":
        return Usage(self.cpu_seconds - before.cpu_seconds, self.peak_rss_bytes)


def usage(pid: int) -> Usage:
    """User and system time, and the greatest resident memory, since the start (that of now where unknown)."""
    family = _family(pid)
    times = [member.cpu_times() for member in family]
    return Usage(sum(time.user + time.system for time in times), sum(_peak_rss_bytes(member) for member in family))


def rss_bytes(pid: int) -> int:
    """Resident memory now, of a process and its living children."""
    return sum(member.memory_info().rss for member in _family(pid))


def _family(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def _peak_rss_bytes(process: psutil.Process) -> int:
    status = Path(f"/proc/{process.pid}/status")
    lines = status.read_text().splitlines() if status.exists() else []
    peaks = [int(line.split()[1]) * 1_024 for line in lines if line.startswith("VmHWM:")]
    return peaks[0] if peaks else int(process.memory_info().rss)


# ── requests and commits ──


def server_counts(metrics_url: str) -> dict[str, float]:
    """`REQUESTS` and `COMMITS` of our server since its start."""
    found = samples(metrics_url)
    return {name: sum(each.value for each in found if each.name == name) for name in (REQUESTS, COMMITS)}


def samples(metrics_url: str) -> list[Sample]:
    """All that our server tells Prometheus."""
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(metrics_url, timeout=10) as response:
        families = text_string_to_metric_families(response.read().decode())
        return [sample for family in families for sample in family.samples]


# ── waits for the disk ──


@contextmanager
def counted_disk_calls(pid: int) -> Iterator[list[int]]:
    """Count, by strace, how often all threads of ``pid`` wait for the disk; it is slower meanwhile.

    The list has the number once the counting has ended, and stays empty where strace is not there or not allowed.
    """
    calls: list[int] = []
    with TemporaryDirectory(prefix="bench-strace-") as folder, ExitStack() as running:
        summary = Path(folder) / "summary"
        command = ["strace", "-f", "-c", "-e", f"trace={','.join(DISK_CALLS)}", "-o", str(summary), "-p", str(pid)]
        if shutil.which("strace"):
            strace = running.enter_context(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
            assert strace.stderr is not None
            if "attached" in strace.stderr.readline():
                running.callback(lambda: calls.append(disk_calls_in(summary.read_text())))
                running.callback(strace.wait)
            running.callback(strace.send_signal, signal.SIGINT)
        yield calls
        running.close()


def disk_calls_in(summary: str) -> int:
    """The calls in the table that ``strace -c`` prints: the fourth column of the lines that end with their names."""
    lines = [line.split() for line in summary.splitlines()]
    return sum(int(words[3]) for words in lines if words and words[-1] in DISK_CALLS)


# ── cores ──


def two_cores() -> tuple[int | None, int | None]:
    """One for what is measured, one for the load; ``None`` where processes cannot be tied to cores."""
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return (usable[0], usable[1]) if len(usable) > 1 else (None, None)


def tie(pid: int, core: int | None) -> None:
    """Every thread of a process; those that are made later inherit it."""
    if core is not None:
        for thread in psutil.Process(pid).threads():
            os.sched_setaffinity(thread.id, {core})
