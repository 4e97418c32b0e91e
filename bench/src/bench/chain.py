"""What a request to foo costs, beside the same chain without durability and the SDK without a server."""

import random
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench.load import Workload
from bench.report import DEFAULT_SEED, MEGABYTE, Figure, Report, Table, Target
from bench.rounds import LoadPhase, Rounds, Subject
from bench.stack import OtherServer, OurServices, OwnServer, PlainStack

OWN = "our stack"
PLAIN = "plain chain"
IN_PROCESS = "SDK in one process"
LOADS = (1, 8, 64, 256)
"""Requests in flight."""
COMPARED_LOAD = 64


def measure(
    seed: int = DEFAULT_SEED, rounds: int = 5, seconds: float = 3, loads: tuple[int, ...] = LOADS, server_url: str = ""
) -> Report:
    """``seconds`` per contender, load and round. Raises `bench.load.WrongAnswers`."""
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="bench-chain-")))
        stacks: dict[str, OurServices | PlainStack] = {
            OWN: OurServices(folder / "own", OwnServer(folder)),
            PLAIN: PlainStack(folder / "plain"),
        }
        if server_url:
            stacks[OtherServer.name] = OurServices(folder / "other", OtherServer(server_url))
        subjects = []
        for name, stack in stacks.items():
            running.enter_context(stack)
            subjects.append(Subject(name, Workload("request to foo", stack.foo_url), stack.pids, stack.metrics_port))
        subjects.insert(2, Subject(IN_PROCESS, Workload("SDK alone")))
        measured = Rounds(subjects, random.Random(seed))
        measured.play(rounds, loads, seconds, left_out={(IN_PROCESS, load) for load in loads if load != COMPARED_LOAD})
    speeds = measured.speeds("latency and throughput", "contender", loads)
    report = Report("chain", seed, tables=[speeds, _cost(measured, loads), _requests(measured, loads)])
    report.figures = [figure for load in (1, COMPARED_LOAD) if load in loads for figure in _figures(measured, load)]
    if 1 in loads:
        report.samples = [measured.samples(name, 1) for name in measured.subjects if name != IN_PROCESS]
    return report


# ── the report ──


def _figures(measured: Rounds, load: int) -> list[Figure]:
    targets: dict[str, Target]
    if load == 1:
        value, targets, title = LoadPhase.median_ms, {PLAIN: Target(4)}, "chain median / {0} median, one at a time"
        more = [
            ("chain p99 / chain median, one at a time", "x", LoadPhase.tail, Target(1.4)),
            ("server CPU per chain, one at a time", "ms", LoadPhase.cpu_ms_per_chain, Target(4)),
            ("requests per chain, one at a time", "", LoadPhase.requests_per_chain, Target(18)),
        ]
    else:
        value, title = LoadPhase.rate, f"throughput at {load} in flight / {{0}}"
        targets = {PLAIN: Target(0.5, "at least"), IN_PROCESS: Target(0.9, "at least")}
        more = [
            (f"server CPU per chain, {load} in flight", "ms", LoadPhase.cpu_ms_per_chain, Target(2.5)),
            (f"commits per request, {load} in flight", "", LoadPhase.commits_per_request, Target(0.35)),
        ]
    others = [name for name in measured.subjects if name != OWN and measured.of(name, load)]
    return [
        *(measured.ratio(title.format(name), OWN, name, load, value, targets.get(name)) for name in others),
        *(measured.figure(name, unit, OWN, load, each, target) for name, unit, each, target in more),
    ]


def _cost(measured: Rounds, loads: tuple[int, ...]) -> Table:
    table = Table(
        "cost per process", ["contender", "process", *(f"CPU ms/chain at {load}" for load in loads), "peak MB"]
    )
    for name in measured.subjects:
        phases = [phase for load in loads for phase in measured.of(name, load)]
        for process in phases[0].usage if phases else ():
            cpu = partial(LoadPhase.cpu_ms_per_chain, process=process)
            peak = max(phase.usage[process].peak_bytes for phase in phases) / MEGABYTE
            table.rows.append([name, process, *(measured.medians(name, load, cpu)[0] for load in loads), peak])
    return table


def _requests(measured: Rounds, loads: tuple[int, ...]) -> Table:
    table = Table("what our server was asked", ["in flight", "requests/chain", "commits/chain", "commits/request"])
    values = (LoadPhase.requests_per_chain, LoadPhase.commits_per_chain, LoadPhase.commits_per_request)
    table.rows = [[load, *measured.medians(OWN, load, *values)] for load in loads]
    return table
