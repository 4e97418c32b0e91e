"""`bench recovery`: how many seconds after a fault a chain has its answer, as a distribution over many trials.

Beside our timing the same trials run with the leases and retries of the official server and SDK. Scenarios that mostly
wait run on several stacks side by side; the others have the machine to themselves.
"""

import random
import shutil
import tempfile
import threading
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import click
from msgspec import Struct, field

from bench.faults import IN_FLIGHT, KILL_WINDOW_SECONDS, SCENARIOS, Scenario, Stage, Timing
from bench.options import DEFAULT_SEED, reporting, seed_option, typed_command
from bench.report import Cell, Figure, Report, Samples, Spread, Table
from bench.stats import quantiles
from bench.witness import TooLate

OURS = Timing("ours", 10, {}, KILL_WINDOW_SECONDS)
OFFICIAL = Timing(
    "as official",
    60,
    {"RESONATE_TASKS__RETRY_TIMEOUT": "30000", "RESONATE_TASKS__WORKER_GRACE": str(24 * 60 * 60 * 1_000)},
    kill_window_seconds=15,
)
"""Only leases end the waiting for a dead worker, and it is killed at any moment between two heartbeats."""

NOTES = (
    "Repeated work is not counted; pauses end before the killed program is started again.",
    f"A killed server has {IN_FLIGHT} chains to continue; it is started again after their pauses.",
    "A lease ends when it expires, or when the server takes it back early because its holder's stream broke.",
    f"{OFFICIAL.name!r}: leases of 60 s, retries after 30 s, no lease taken back early. Always on: "
    "our server hands tasks over when a worker connects, and our workers reconnect every half second.",
)
ATTEMPTS = 5
"""How often a trial is made again whose fault came too late."""
LEAST_BATCH = 5
"""Trials that a stack is started for, at least, where there are so many."""


class Job(Struct, frozen=True):
    """Trials of one scenario, one after the other on one stack."""

    scenario: Scenario
    timing: Timing
    trials: tuple[int, ...]


class Outcome(Struct):
    """Seconds one by one, by what was measured."""

    values: dict[str, list[float]] = field(default_factory=dict)
    repeated: int = 0
    """Trials that were made again, because their fault came too late."""

    def add(self, other: "Outcome") -> None:
        for name, values in other.values.items():
            self.values.setdefault(name, []).extend(values)
        self.repeated += other.repeated


type Outcomes = dict[tuple[str, str], Outcome]
"""By scenario and timing."""


def measure(
    seed: int = DEFAULT_SEED,
    trials: int = 100,
    official_trials: int = 5,
    parallel: int = 4,
    scenarios: Iterable[Scenario] = SCENARIOS,
) -> Report:
    """Raises `bench.load.WrongAnswers` if any chain was answered wrongly or not at all, or ran more than it may."""
    chosen = tuple(scenarios)
    jobs = _jobs(chosen, trials, official_trials, parallel)
    folder = Path(tempfile.mkdtemp(prefix="bench-recovery-"))
    outcomes = _Runner(folder, seed).run(jobs, parallel)
    shutil.rmtree(folder)  # kept if anything failed: logs and databases tell why
    return _report(chosen, outcomes, seed)


def _jobs(scenarios: tuple[Scenario, ...], trials: int, official_trials: int, parallel: int) -> list[Job]:
    jobs = []
    for scenario in scenarios:
        for timing, number in ((OURS, trials), (OFFICIAL, official_trials)):
            shares = _shares(scenario, timing, number, parallel)
            jobs += [Job(scenario, timing, tuple(range(first, number, shares))) for first in range(shares)]
    return jobs


def _shares(scenario: Scenario, timing: Timing, number: int, parallel: int) -> int:
    """How many stacks share the trials of a scenario. Those that wait for official leases wait each on their own."""
    if number == 0 or not scenario.mostly_waits:
        return min(number, 1)
    return number if timing is OFFICIAL else max(min(parallel, number // LEAST_BATCH), 1)


class _Runner:
    """Runs jobs; one stack is started at a time, so that none takes too long for it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder = folder
        self._seed = seed
        self._starting = threading.Lock()
        self._outcomes: Outcomes = {}
        self._failed = threading.Event()
        self._numbers = count(1)

    def run(self, jobs: list[Job], parallel: int) -> Outcomes:
        """Those that mostly wait side by side, with official leases beside ours; then the others one by one."""
        with ExitStack() as pools:
            ours, official = (pools.enter_context(ThreadPoolExecutor(parallel)) for _ in range(2))
            pool_of = {OURS.name: ours, OFFICIAL.name: official}
            waiting = [job for job in jobs if job.scenario.mostly_waits]
            self._collect({pool_of[job.timing.name].submit(self._run, job): job for job in waiting})
        with ThreadPoolExecutor(1) as alone:
            busy = [job for job in jobs if not job.scenario.mostly_waits]
            self._collect({alone.submit(self._run, job): job for job in busy})
        return self._outcomes

    def _collect(self, running: dict[Future[Outcome], Job]) -> None:
        for future in as_completed(running):
            job = running[future]
            self._outcomes.setdefault((job.scenario.name, job.timing.name), Outcome()).add(future.result())
            click.echo(f"{job.scenario.name}, timing {job.timing.name}: {len(job.trials)} trials done", err=True)

    def _run(self, job: Job) -> Outcome:
        outcome = Outcome()
        stage = Stage(self._folder / f"stack-{next(self._numbers)}", job.timing, job.scenario.cast)
        try:
            with self._starting:
                stage.start()
            for trial in job.trials:
                if self._failed.is_set():
                    break
                _play(stage, job, trial, self._seed, outcome)
        except BaseException:
            self._failed.set()
            raise
        finally:
            stage.stop()
        return outcome


def _play(stage: Stage, job: Job, trial: int, seed: int, outcome: Outcome) -> None:
    for attempt in range(ATTEMPTS):
        chance = random.Random(f"{seed} {job.scenario.name} {job.timing.name} {trial} {attempt}")
        try:
            measures = job.scenario.play(stage, chance)
        except TooLate:
            outcome.repeated += 1
            continue
        outcome.add(Outcome({name: [seconds] for name, seconds in measures.items()}))
        return
    raise RuntimeError(f"{job.scenario.name}: the fault came too late {ATTEMPTS} times, this machine is too busy")


# ── the report ──

COLUMNS = ["from ... to ...", "timing", "trials", "p50 s", "p90 s", "p99 s", "max s"]


def _report(scenarios: tuple[Scenario, ...], outcomes: Outcomes, seed: int) -> Report:
    report = Report("recovery", typed_command(), seed, notes=list(NOTES))
    for scenario in scenarios:
        table = Table(scenario.name, COLUMNS)
        for timing in (OURS, OFFICIAL):
            outcome = outcomes.get((scenario.name, timing.name), Outcome())
            for what, values in outcome.values.items():
                table.rows.append(_row(what, timing, values))
                report.samples.append(Samples(f"{scenario.name}: {what} ({timing.name})", "s", values))
                if timing is OURS:
                    report.figures.append(_figure(scenario, what, values))
        report.tables.append(table)
    repeated = sum(outcome.repeated for outcome in outcomes.values())
    report.notes.append(f"Trials repeated because their fault came too late: {repeated}.")
    return report


def _row(what: str, timing: Timing, values: list[float]) -> list[Cell]:
    of = quantiles(values)
    return [what, timing.name, len(values), of.p50, of.p90, of.p99, of.max]


def _figure(scenario: Scenario, what: str, values: list[float]) -> Figure:
    """The 99th percentile: what is to be reached is to be reached nearly always."""
    of, name = quantiles(values), f"{scenario.name}: {what}, p99"
    return Figure(name, "s", of.p99, Spread(min(values), of.max), scenario.targets.get(what))


# ── the command ──


@click.command("recovery")
@seed_option
@click.option("--trials", type=click.IntRange(min=1), default=100, show_default=True, help="Of each scenario.")
@click.option(
    "--official-trials", type=click.IntRange(min=0), default=5, show_default=True, help="With the official timing."
)
@click.option(
    "--parallel", type=click.IntRange(min=1), default=4, show_default=True, help="Stacks that wait side by side."
)
@click.option("--only", default="", metavar="WORDS", help="Only scenarios whose name contains this.")
@reporting
def command(seed: int, trials: int, official_trials: int, parallel: int, only: str) -> Report:
    """Seconds from a fault to the answer: programs killed by SIGKILL, frozen by SIGSTOP, started again.

    Every trial is one chain with one fault at a moment drawn by the seed. A wrong answer, a missing one, or a baz that
    ran more often than the fault explains ends the benchmark with an error.
    """
    chosen = [scenario for scenario in SCENARIOS if only in scenario.name]
    if not chosen:
        raise click.UsageError(f"no scenario is named {only!r}: {'; '.join(scenario.name for scenario in SCENARIOS)}")
    return measure(seed, trials, official_trials, parallel, chosen)
