"""`bench chain`: what a request to foo costs, beside the same chain without durability and the SDK without a server.

A round measures every contender at every load, in an order drawn by the seed; ratios are taken within a round.
"""

import random
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import click

from bench import in_process
from bench.contenders import OTHER_BY_COMMAND, OTHER_BY_URL, OWN, PLAIN, SERVER, Contender, Phase, start_contenders
from bench.load import Generator
from bench.options import DEFAULT_SEED, reporting, rounds_option, seed_option, typed_command
from bench.report import Figure, Report, Samples, Spread, Table, Target
from bench.stats import Ratio, median, quantile, ratio_of_rounds, spread

IN_PROCESS = "SDK in one process"
LOADS = (1, 8, 64, 256)
"""Requests in flight."""
COMPARED_LOAD = 64
WARM_UP_LOAD = 8
WARM_UP_SECONDS = 1.0
MEGABYTE = 1_000_000


class Rounds:
    """All phases that were measured: of each contender and load one per round."""

    def __init__(self) -> None:
        self._phases: dict[tuple[str, int], list[Phase]] = {}

    def add(self, phase: Phase) -> None:
        self._phases.setdefault((phase.contender, phase.in_flight), []).append(phase)

    def contenders(self) -> list[str]:
        """In the order in which they are told of, whatever the order of the turns was."""
        measured = {name for name, _ in self._phases}
        return [name for name in (OWN, PLAIN, IN_PROCESS, OTHER_BY_URL, OTHER_BY_COMMAND) if name in measured]

    def of(self, contender: str, in_flight: int) -> list[Phase]:
        return self._phases.get((contender, in_flight), [])

    def each(self, contender: str, in_flight: int, value: Callable[[Phase], float]) -> list[float]:
        """One value per round."""
        return [value(phase) for phase in self.of(contender, in_flight)]


def measure(
    seed: int = DEFAULT_SEED,
    rounds: int = 5,
    seconds: float = 3,
    loads: tuple[int, ...] = LOADS,
    server_url: str = "",
    server_command: str = "",
) -> Report:
    """``seconds`` per contender, load and round. Raises `bench.load.WrongAnswers`."""
    measured = Rounds()
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="bench-chain-")))
        generator = running.enter_context(Generator())
        contenders = start_contenders(running, folder, server_url, server_command)
        for contender in contenders.values():
            contender.phase(generator, WARM_UP_LOAD, WARM_UP_SECONDS)
        order = _Order(random.Random(seed), folder, generator, contenders)
        for _ in range(rounds):
            order.run_round(measured, loads, seconds)
    return _report(measured, loads, seed)


class _Order:
    """Runs rounds; whose turn it is when is left to chance."""

    def __init__(
        self, chance: random.Random, folder: Path, generator: Generator, contenders: dict[str, Contender]
    ) -> None:
        self._chance = chance
        self._folder = folder
        self._generator = generator
        self._contenders = contenders

    def run_round(self, measured: Rounds, loads: tuple[int, ...], seconds: float) -> None:
        for in_flight in loads:
            turns = [*self._contenders, *([IN_PROCESS] if in_flight == COMPARED_LOAD else [])]
            self._chance.shuffle(turns)
            for name in turns:
                measured.add(self._phase(name, in_flight, seconds))

    def _phase(self, name: str, in_flight: int, seconds: float) -> Phase:
        if name != IN_PROCESS:
            return self._contenders[name].phase(self._generator, in_flight, seconds)
        result = in_process.measure(in_flight, seconds, self._folder / "in-process.log")
        return Phase(IN_PROCESS, in_flight, result, {}, None)


# ── the report ──


def _report(measured: Rounds, loads: tuple[int, ...], seed: int) -> Report:
    report = Report("chain", typed_command(), seed)
    report.tables = [_speed(measured, loads), _cost(measured, loads), _requests(measured, loads)]
    if 1 in loads:
        report.figures += _figures_one_at_a_time(measured)
        report.samples = [
            Samples(name, "s", [value for phase in measured.of(name, 1) for value in phase.result.latencies_s])
            for name in measured.contenders()
            if measured.of(name, 1)
        ]
    if COMPARED_LOAD in loads:
        report.figures += _figures_under_load(measured)
    return report


def _figures_one_at_a_time(measured: Rounds) -> list[Figure]:
    medians = {name: measured.each(name, 1, _median_s) for name in measured.contenders()}
    cpu = spread(measured.each(OWN, 1, _server_cpu_ms))
    requests = spread(measured.each(OWN, 1, _requests_per_chain))
    tails = ratio_of_rounds(measured.each(OWN, 1, _p99_s), medians[OWN])
    figures = [
        _figure("chain p99 / chain median, one at a time", "x", tails, Target(3)),
        _figure("server CPU per chain, one at a time", "ms", cpu, Target(6)),
        _figure("requests per chain, one at a time", "", requests, Target(18)),
    ]
    for name, others in medians.items():
        if name != OWN and others:
            target = Target(8) if name == PLAIN else None
            ratio = ratio_of_rounds(medians[OWN], others)
            figures.insert(0, _figure(f"chain median / {name} median, one at a time", "x", ratio, target))
    return figures


def _figures_under_load(measured: Rounds) -> list[Figure]:
    own = measured.each(OWN, COMPARED_LOAD, _per_second)
    figures = []
    for name in measured.contenders():
        if name != OWN:
            ratio = ratio_of_rounds(own, measured.each(name, COMPARED_LOAD, _per_second))
            target = Target(0.20, "at least") if name == IN_PROCESS else None
            figures.append(_figure(f"throughput at {COMPARED_LOAD} in flight / {name}", "x", ratio, target))
    commits = spread(measured.each(OWN, COMPARED_LOAD, _commits_per_request))
    cpu = spread(measured.each(OWN, COMPARED_LOAD, _server_cpu_ms))
    figures += [
        _figure(f"server CPU per chain, {COMPARED_LOAD} in flight", "ms", cpu, Target(6)),
        _figure(f"commits per request, {COMPARED_LOAD} in flight", "", commits, Target(0.35)),
    ]
    return figures


def _figure(name: str, unit: str, ratio: Ratio, target: Target | None) -> Figure:
    return Figure(name, unit, ratio.median, Spread(ratio.low, ratio.high), target)


def _speed(measured: Rounds, loads: tuple[int, ...]) -> Table:
    table = Table("latency and throughput", ["in flight", "contender", "median ms", "p99 ms", "chains/s"])
    for in_flight in loads:
        for name in measured.contenders():
            if measured.of(name, in_flight):
                latencies = [median(measured.each(name, in_flight, of)) * 1_000 for of in (_median_s, _p99_s)]
                table.rows.append([in_flight, name, *latencies, median(measured.each(name, in_flight, _per_second))])
    return table


def _cost(measured: Rounds, loads: tuple[int, ...]) -> Table:
    columns = [f"CPU ms/chain at {in_flight}" for in_flight in loads]
    table = Table("cost per process", ["contender", "process", *columns, "peak MB"])
    for name in measured.contenders():
        phases = [phase for in_flight in loads for phase in measured.of(name, in_flight)]
        for process in phases[0].usage:
            cpu = [_median_cpu_ms(measured.of(name, in_flight), process) for in_flight in loads]
            peak = max(phase.usage[process].peak_rss_bytes for phase in phases) / MEGABYTE
            table.rows.append([name, process, *cpu, peak])
    return table


def _median_cpu_ms(phases: list[Phase], process: str) -> float | None:
    return median(phase.cpu_ms_per_chain(process) for phase in phases) if phases else None


def _requests(measured: Rounds, loads: tuple[int, ...]) -> Table:
    table = Table("what our server was asked", ["in flight", "requests/chain", "commits/chain", "commits/request"])
    for in_flight in loads:
        each = (_requests_per_chain, _commits_per_chain, _commits_per_request)
        table.rows.append([in_flight, *(median(measured.each(OWN, in_flight, value)) for value in each)])
    return table


# ── what is read off a phase ──


def _median_s(phase: Phase) -> float:
    return median(phase.result.latencies_s)


def _p99_s(phase: Phase) -> float:
    return quantile(phase.result.latencies_s, 0.99)


def _per_second(phase: Phase) -> float:
    return phase.result.per_second


def _server_cpu_ms(phase: Phase) -> float:
    return phase.cpu_ms_per_chain(SERVER)


def _requests_per_chain(phase: Phase) -> float:
    assert phase.counts is not None
    return phase.counts.requests / phase.chains


def _commits_per_chain(phase: Phase) -> float:
    assert phase.counts is not None
    return phase.counts.commits / phase.chains


def _commits_per_request(phase: Phase) -> float:
    assert phase.counts is not None
    return phase.counts.commits / phase.counts.requests


# ── the command ──


@click.command("chain")
@rounds_option
@seed_option
@click.option("--seconds", type=click.FloatRange(min=0.1), default=3.0, show_default=True, help="Of each phase.")
@click.option("--server-url", default="", help="Compare with our services on the Resonate server that runs there.")
@click.option("--server-command", default="", help="... or on one that this command starts on {port}.")
@reporting
def command(rounds: int, seed: int, seconds: float, server_url: str, server_command: str) -> Report:
    """What POST /foo costs: latency, throughput, CPU, memory, requests and commits.

    Beside our stack run the plain chain (the same three services calling each other by HTTP, without durability), the
    SDK without any server, and our services on any other Resonate server that is given. For example:

      bench chain --server-command "resonate serve --server-port {port}"
    """
    return measure(seed, rounds, seconds, LOADS, server_url, server_command)
