"""Where the milliseconds of a chain go, one at a time and with 64 in flight: who runs, who waits for what. Needs Linux.

With one chain at a time, everything that happens serves that chain. So a sampler keeps looking at all threads of the
stack, and counts each look for one thing: a process runs; else the disk is waited for; else nobody does anything, as a
message or a wake-up is under way. With many in flight, chains share the cores, and the kernel's counters show who used
them. Both add up to the measured time, or say by how much they do not.

py-spy shows which code runs (in a second phase, as it slows down what it observes), and the smallest steps are measured
by themselves.
"""

import math
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import timeit
from bisect import bisect
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import click
import msgspec
import numpy as np
import psutil

from bench import load
from bench.load import Played, Workload
from bench.meters import family, usage
from bench.report import DEFAULT_SEED, Figure, Report, Table, Target, median
from bench.stack import OurServices, OwnServer

LOADS = (1, 64)
WARM_UP = Workload("request to foo", in_flight=8, seconds=2)
LOOK_S = 0.0005
RELISTED_S = 0.1
"""How often threads are listed; new ones are missed until then."""
PROFILE_RATE = 200
SHOWN = 5
"""Places in the code that are shown for each process."""
COMMITS = 8
"""Commits that a chain waits for, one after the other."""
STEPS = 300
"""How often each of the smallest steps is measured."""
PAUSE_S = 0.002

TRIED = Path(__file__).with_suffix(".md").read_text().strip().split("\n\n")
"""What is known about figures that miss their targets."""

CLIENT, DISK, NOBODY = "the client", "waiting for the disk", "a message or a wake-up under way"
RUNS = b"R"


def measure(seed: int = DEFAULT_SEED, seconds: float = 3) -> Report:
    """``seconds``: of each phase. Raises `bench.load.WrongAnswers`."""
    if sys.platform != "linux":
        raise click.UsageError("only Linux shows what each thread is doing")
    report = Report("budget", seed, notes=[*TRIED])
    with tempfile.TemporaryDirectory(prefix="bench-budget-") as name:
        folder = Path(name)
        with OurServices(folder / "own", OwnServer(folder)) as stack:
            chain = msgspec.structs.replace(WARM_UP, url=stack.foo_url, seconds=seconds, seed=seed)
            load.run(msgspec.structs.replace(chain, seconds=WARM_UP.seconds))
            one, many = (msgspec.structs.replace(chain, in_flight=in_flight) for in_flight in LOADS)
            _one_at_a_time(report, one, stack.pids())
            _many(report, many, stack.pids())
            for workload in (one, many):
                report.tables.append(_code(workload, stack.pids(), folder))
        report.tables.append(_steps(folder))
        report.figures.append(Figure(f"p99 / median of {COMMITS} syncs in a row", "x", _spread_of_the_disk(folder)))
    return report


# ── one at a time: what happens at each moment ──


def _one_at_a_time(report: Report, workload: Workload, pids: Mapping[str, int]) -> None:
    with Looking({**pids, CLIENT: None}) as looking:
        played = load.run(workload)
    spans = _typical(played)
    mean_ms = 1_000 * sum(end - begin for begin, end in spans) / len(spans)
    table = Table("one chain at a time", ["what happens", "ms of a chain", "share"])
    for what, share in sorted(looking.shares(spans).items(), key=lambda each: -each[1]):
        table.rows.append([what, mean_ms * share, f"{share:.0%}"])
    report.tables.append(table)
    _check(report, "one at a time", mean_ms, played)


def _typical(played: Played) -> list[tuple[float, float]]:
    """Return when the middle half of all chains, by duration, began and ended: a slow tail moves means, not medians."""
    spans = sorted(played.starts.values(), key=lambda span: span[1] - span[0])
    return sorted(spans[len(spans) // 4 : -(len(spans) // 4) or None])


def _check(report: Report, when: str, sum_ms: float, played: Played) -> None:
    apart = abs(sum_ms / (1_000 * median(played.chain_s)) - 1)
    report.figures += [
        Figure(f"chain median, {when}", "ms", 1_000 * median(played.chain_s)),
        Figure(f"sum of the parts / chain median, apart by, {when}", "%", 100 * apart, target=Target(5)),
    ]


class Looking:
    """A sampler. ``pids``: of processes with all their children; ``None`` is the load generator, once it runs.

    ``looks``: when it looked (s, by the clock of the load generator), and who was running, or else what was waited for.
    """

    def __init__(self, pids: Mapping[str, int | None]) -> None:
        self._pids = pids
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.looks: list[tuple[float, list[str]]] = []

    def __enter__(self) -> "Looking":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ends.is_set():
            with ExitStack() as opened:
                files = {name: list(_threads(pid, opened)) for name, pid in self._pids.items()}
                relist_at = time.monotonic() + RELISTED_S
                while time.monotonic() < relist_at and not self._ends.wait(LOOK_S):
                    running = [name for name, of_it in files.items() if RUNS in map(_state, of_it)]
                    if files[CLIENT]:
                        seen = running or [DISK if _disk_is_waited_for() else NOBODY]
                        self.looks.append((time.perf_counter(), seen))

    def shares(self, spans: list[tuple[float, float]]) -> dict[str, float]:
        """Return the share that each had of the time in ``spans``, which are in order and do not overlap."""
        seen: defaultdict[str, float] = defaultdict(float)
        for at, names in self.looks:
            span = bisect(spans, (at, math.inf)) - 1
            if span >= 0 and at <= spans[span][1]:
                for name in names:
                    seen[name] += 1 / len(names)
        return {name: looks / sum(seen.values()) for name, looks in seen.items()}


def _threads(pid: int | None, opened: ExitStack) -> Iterator[int]:
    """Open what tells the states of its threads."""
    with suppress(psutil.Error, OSError):  # it has ended meanwhile
        for process in family(pid) if pid else _load_generator():
            for path in Path(f"/proc/{process.pid}/task").glob("*/stat"):
                opened.callback(os.close, file := os.open(path, os.O_RDONLY))
                yield file


def _disk_is_waited_for() -> bool:
    """Return whether any thread waits for the disk: the kernel's own threads do so for the server."""
    return b"\nprocs_blocked 0\n" not in Path("/proc/stat").read_bytes()


def _state(file: int) -> bytes:
    """Return a thread's state: the letter after its name, which may contain anything."""
    try:
        return os.pread(file, 512, 0).rpartition(b") ")[2][:1]
    except ProcessLookupError:
        return b""


def _load_generator() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if load.__name__ in child.cmdline()]


# ── many in flight: who has the cores ──


def _many(report: Report, workload: Workload, pids: Mapping[str, int]) -> None:
    before, began = _cpu_seconds(pids), time.monotonic()
    psutil.cpu_times_percent()
    played = load.run(workload)
    machine: Any = psutil.cpu_times_percent()  # since the last call
    all_s = (time.monotonic() - began) * (psutil.cpu_count() or 1)
    idle_s = all_s * (machine.idle + machine.iowait) / 100
    used = {name: after - before[name] for name, after in _cpu_seconds(pids).items()} | {CLIENT: played.cpu_seconds}
    used |= {"nobody": idle_s, "other programs, and the kernel for all": all_s - idle_s - sum(used.values())}
    sum_ms = 1_000 * sum(played.chain_s) / played.chains
    title = f"{workload.in_flight} chains in flight: of the time of each, they take turns"
    table = Table(title, ["who has the cores", "ms of a chain", "core ms per chain", "share"])
    for name, seconds in sorted(used.items(), key=lambda each: -each[1]):
        share = seconds / all_s
        table.rows.append([name, sum_ms * share, 1_000 * seconds / played.chains, f"{share:.0%}"])
    report.tables.append(table)
    _check(report, f"{workload.in_flight} in flight", sum_ms, played)


def _cpu_seconds(pids: Mapping[str, int]) -> dict[str, float]:
    return {name: usage(pid).cpu_seconds for name, pid in pids.items()}


# ── which code runs ──


def _code(workload: Workload, pids: Mapping[str, int], folder: Path) -> Table:
    table = Table(f"code that runs, {workload.in_flight} in flight", ["process", "place", "share of its samples"])
    spies = {name: _spied(pid, workload.seconds, folder / f"{name}.raw") for name, pid in pids.items()}
    load.run(workload)
    for name, spy in spies.items():
        spy.wait()
        places = Counter[str]()
        for line in (folder / f"{name}.raw").read_text().splitlines():
            stack, _, count = line.rpartition(" ")
            places[_place(stack.rpartition(";")[2])] += int(count)
        table.rows += [[name, place, f"{seen / places.total():.0%}"] for place, seen in places.most_common(SHOWN)]
    return table


def _place(frame: str) -> str:
    """Turn py-spy's ``function (package/module.py:12)`` into Markdown: code, because it may have <locals>."""
    found = re.fullmatch(r"(.+) \((.+)\.py:\d+\)", frame)
    return f"`{found[1]}, {found[2].replace('/', '.')}`" if found else f"`{frame}`"


def _spied(pid: int, seconds: float, file: Path) -> subprocess.Popen[bytes]:
    """Record functions of the process and its children, without waiting ones as far as py-spy can tell."""
    command = [
        *(str(Path(sys.executable).with_name("py-spy")), "record", "--nonblocking", "--subprocesses", "--function"),
        *("--rate", str(PROFILE_RATE), "--duration", str(round(seconds)), "--format", "raw"),
        *("--output", str(file), "--pid", str(pid)),
    ]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


# ── what the smallest steps cost ──


def _steps(folder: Path) -> Table:
    """Return medians, on the machine as it is now."""
    steps = {
        "a page appended and on the disk (fdatasync)": _sync(folder / "synced", STEPS),
        "to another process by a socket, and back": _echo(),
    }
    return Table("smallest steps", ["step", "us"], [[name, 1e6 * median(times)] for name, times in steps.items()])


def _spread_of_the_disk(folder: Path) -> float:
    """Return what the spread of a chain would be if only the disk took time."""
    chains = np.reshape(_sync(folder / "in-a-row", COMMITS * STEPS), (STEPS, COMMITS)).sum(axis=1)
    return float(np.quantile(chains, 0.99) / np.median(chains))


def _timed(step: Callable[[], object], times_over: int) -> list[float]:
    """Return times in seconds. Pause before each step, as everything sleeps between two requests."""
    return timeit.repeat(step, lambda: time.sleep(PAUSE_S), repeat=times_over, number=1)


def _sync(path: Path, times_over: int) -> list[float]:
    with path.open("wb", buffering=0) as file:

        def append() -> None:
            file.write(bytes(4_096))
            os.fdatasync(file.fileno())

        return _timed(append, times_over)


def _echo() -> list[float]:
    code = "import socket, sys; peer = socket.socket(fileno=int(sys.argv[1]))\nwhile peer.send(peer.recv(1)): pass"
    ours, theirs = socket.socketpair()
    with ours, subprocess.Popen([sys.executable, "-c", code, str(theirs.fileno())], pass_fds=[theirs.fileno()]) as peer:
        theirs.close()
        times = _timed(lambda: (ours.send(b"."), ours.recv(1)), STEPS)
        ours.close()
        peer.kill()
    return times
