"""`bench chain`: what a request to foo costs, beside the same chain without durability and the SDK without a server."""

import random
import tempfile
from contextlib import ExitStack
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
    seed: int = DEFAULT_SEED,
    rounds: int = 5,
    seconds: float = 3,
    loads: tuple[int, ...] = LOADS,
    server_url: str = "",
) -> Report:
    """``seconds`` per contender, load and round. Raises `bench.load.WrongAnswers`."""
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="bench-chain-")))
        stacks = {OWN: OurServices(folder / "own", OwnServer(folder))}
        if server_url:
            stacks[OtherServer.name] = OurServices(folder / "other", OtherServer(server_url))
        own, *others = [
            Subject(name, _workload(running.enter_context(stack)), stack.pids, stack.metrics_url)
            for name, stack in stacks.items()
        ]
        plain = running.enter_context(PlainStack(folder / "plain"))
        beside = [Subject(PLAIN, _workload(plain), plain.pids), Subject(IN_PROCESS, Workload("SDK alone"))]
        measured = Rounds([own, *beside, *others], random.Random(seed))
        measured.play(rounds, loads, seconds, left_out={(IN_PROCESS, load) for load in loads if load != COMPARED_LOAD})
    speeds = measured.speeds("latency and throughput", "contender", loads)
    report = Report("chain", seed, tables=[speeds, _cost(measured, loads), _requests(measured, loads)])
    if 1 in loads:
        report.figures += _figures_one_at_a_time(measured)
        report.samples = [measured.samples(name, 1) for name in measured.subjects if name != IN_PROCESS]
    if COMPARED_LOAD in loads:
        report.figures += _figures_under_load(measured)
    return report


def _workload(stack: OurServices | PlainStack) -> Workload:
    return Workload("request to foo", stack.foo_url)


# ── the report ──


def _figures_one_at_a_time(measured: Rounds) -> list[Figure]:
    when = "one at a time"
    figures = [
        measured.ratio(
            f"chain median / {name} median, {when}",
            OWN,
            name,
            1,
            LoadPhase.median_ms,
            Target(4) if name == PLAIN else None,
        )
        for name in measured.subjects
        if name not in (OWN, IN_PROCESS)
    ]
    return [
        *figures,
        measured.figure(f"chain p99 / chain median, {when}", "x", OWN, 1, LoadPhase.tail, Target(1.4)),
        measured.figure(f"server CPU per chain, {when}", "ms", OWN, 1, LoadPhase.cpu_ms_per_chain, Target(4)),
        measured.figure(f"requests per chain, {when}", "", OWN, 1, LoadPhase.requests_per_chain, Target(18)),
    ]


def _figures_under_load(measured: Rounds) -> list[Figure]:
    load, when = COMPARED_LOAD, f"{COMPARED_LOAD} in flight"
    targets = {PLAIN: Target(0.5, "at least"), IN_PROCESS: Target(0.9, "at least")}
    figures = [
        measured.ratio(f"throughput at {when} / {name}", OWN, name, load, LoadPhase.rate, targets.get(name))
        for name in measured.subjects
        if name != OWN
    ]
    return [
        *figures,
        measured.figure(f"server CPU per chain, {when}", "ms", OWN, load, LoadPhase.cpu_ms_per_chain, Target(2.5)),
        measured.figure(f"commits per request, {when}", "", OWN, load, LoadPhase.commits_per_request, Target(0.35)),
    ]


def _cost(measured: Rounds, loads: tuple[int, ...]) -> Table:
    table = Table(
        "cost per process", ["contender", "process", *(f"CPU ms/chain at {load}" for load in loads), "peak MB"]
    )
    for name in measured.subjects:
        phases = [phase for load in loads for phase in measured.of(name, load)]
        for process in phases[0].usage if phases else ():

            def cpu(phase: LoadPhase, process: str = process) -> float:
                return phase.cpu_ms_per_chain(process)

            peak = max(phase.usage[process].peak_bytes for phase in phases) / MEGABYTE
            table.rows.append([name, process, *(measured.medians(name, load, cpu)[0] for load in loads), peak])
    return table


def _requests(measured: Rounds, loads: tuple[int, ...]) -> Table:
    table = Table("what our server was asked", ["in flight", "requests/chain", "commits/chain", "commits/request"])
    values = (LoadPhase.requests_per_chain, LoadPhase.commits_per_chain, LoadPhase.commits_per_request)
    table.rows = [[load, *measured.medians(OWN, load, *values)] for load in loads]
    return table
