"""How often a process waits for the disk: its fsync and fdatasync calls, counted by strace where that can be used."""

import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

CALLS = ("fsync", "fdatasync")


class Tally(Struct):
    """``calls`` stays ``None`` where they could not be counted; known when the counting has ended."""

    calls: int | None = None


@contextmanager
def counted(pid: int) -> Iterator[Tally]:
    """Count those of all threads of ``pid``, which is slower meanwhile."""
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="bench-strace-") as folder:
        summary = Path(folder) / "summary"
        strace = _attach(pid, summary)
        try:
            yield tally
        finally:
            if strace is not None:
                strace.send_signal(signal.SIGINT)
                strace.wait()
                tally.calls = count_in(summary.read_text())


def _attach(pid: int, summary: Path) -> "subprocess.Popen[str] | None":
    if shutil.which("strace") is None:
        return None
    command = ["strace", "-f", "-c", "-e", f"trace={','.join(CALLS)}", "-o", str(summary), "-p", str(pid)]
    strace = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert strace.stderr is not None
    if "attached" in strace.stderr.readline():
        return strace
    strace.kill()  # may not look at other processes here
    strace.wait()
    return None


def count_in(summary: str) -> int:
    """The calls in the table that ``strace -c`` prints: the fourth column of the lines that end with their names."""
    lines = [line.split() for line in summary.splitlines()]
    return sum(int(words[3]) for words in lines if words and words[-1] in CALLS)
