"""How many seconds after a fault a chain continues: programs killed by SIGKILL, frozen by SIGSTOP, cut off, restarted.

Scenarios that mostly wait run on several stacks side by side; the others have the machine to themselves. A wrong or
missing answer, or a function that ran more often than the faults explain, ends the benchmark with an error. With --url,
the scenarios that kill the server are skipped. The report describes the method.
"""

import random
import shutil
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import click
from msgspec import Struct

from bench.crowd import Crowd
from bench.report import DEFAULT_SEED, Figure, Report, Samples, Spread, Table, Target, median, quantile
from bench.stack import SERVER, OtherServer, OwnServer
from bench.stage import LEASE_SECONDS, Stage, TooLate, moment_when
from worker.heartbeats import SIGN_SECONDS

PAUSE_SECONDS = 0.8
JITTER_SECONDS = 0.2
"""The fault hits a suspended chain at most this long after its suspension."""
AFTER_PAUSE_SECONDS = 0.05
"""A program is started again this long after the end of the pause: then nothing is left to wait for."""
REST_SECONDS = 0.3
"""The work that is left, at least, when the fault hits it."""
KILL_WINDOW_SECONDS = 0.4
CROWD, CROWD_BARS = 1_000, 6
ATTEMPTS = 5
"""How often to try a trial whose fault comes too late."""
LEAST_BATCH = 5
"""The fewest trials to start a further stack for."""

METHOD = Path(__file__).with_suffix(".md").read_text().format_map({**globals(), "LEASE_SECONDS": LEASE_SECONDS})
"""In words, for people who want to repeat it."""
RECONNECT = "its reconnect to the answer"

type Measures = dict[str, float]
"""Seconds, by what was measured."""


class Scenario(Struct, frozen=True):
    """``trial`` plays one trial, and raises `bench.load.WrongAnswers` or `TooLate`; afterwards all programs run again.

    ``targets``: what is measured, and at most how many seconds. ``faults``: one after the other; each hits whoever is
    at work then. A single one of the ``bars`` is started again after it was struck. ``share``: there is one trial for
    this many of other scenarios.
    """

    name: str
    trial: "Callable[[Stage, Scenario, random.Random], Measures]"
    targets: dict[str, float] = {}
    victim: str = "bar"
    fault: Literal["kill", "freeze", "cut"] = "kill"
    faults: int = 1
    bars: int = 1
    chains: int = 1
    share: int = 1

    @property
    def mostly_waits(self) -> bool:
        return self.trial is hit_at_work

    def stage(self, folder: Path, url: str) -> Stage:
        """``url``: of a running server; empty for one of its own."""
        server = OtherServer(url) if url else OwnServer(folder)
        module = "bench.crowd" if self.trial is hit_crowd else "bar"
        return Stage(folder, server, self.bars, module, places=max(self.chains, 64), wired=self.fault == "cut")


def hit_suspended(stage: Stage, scenario: Scenario, chance: random.Random) -> Measures:
    """The victim held nothing. When it is back, it is told what is due, or reads it from the disk."""
    victim, calls = scenario.victim, [stage.call(pause=PAUSE_SECONDS) for _ in range(scenario.chains)]
    ends = [stage.pause_end(call) for call in calls]
    if min(ends) - JITTER_SECONDS < time.time():
        raise TooLate
    time.sleep(chance.uniform(0, JITTER_SECONDS))
    stage.strike(victim)
    time.sleep(max(max(ends) + AFTER_PAUSE_SECONDS - time.time(), 0))
    started = stage.start_again(victim)
    if victim == SERVER:
        ready = moment_when(stage.is_server_ready, "the server is ready")
    answered = max(stage.answered(call) for call in calls)
    match victim:
        case "foo":
            return {"its start to the answer": answered - started}
        case "bar":
            return _since_start(stage, victim, started, answered)
    return {"its start to the last answer": answered - started, "its start to ready": ready - started}


def hit_at_work(stage: Stage, scenario: Scenario, chance: random.Random) -> Measures:
    """Only a broken stream, or silence, gives the victim away. Repeated work is not counted."""
    fault = scenario.fault
    # How long the server waits for a silent worker depends on its last sign of life.
    window = KILL_WINDOW_SECONDS if fault == "kill" else SIGN_SECONDS
    work = window + REST_SECONDS
    call = stage.call(running=work)
    victims: list[str] = []
    runs = {"baz": 1, "work": 1 + scenario.faults}
    try:
        for _ in range(scenario.faults):
            victims.append(stage.who_works(call, besides=victims))
            time.sleep(chance.uniform(0, window))
            struck = stage.strike(victims[-1], fault)
        if scenario.bars == 1:
            started = stage.start_again(scenario.victim)
            return _since_start(stage, scenario.victim, started, stage.answered(call, runs) - work)
        answered = stage.answered(call, runs) - work
    finally:
        for victim in victims if scenario.bars > 1 else ():
            stage.restore(victim)
    return {f"the {'last ' if scenario.faults > 1 else ''}{fault} to the answer": answered - struck}


def _since_start(stage: Stage, victim: str, started: float, answered: float) -> Measures:
    connected = stage.connected_at(victim, since=started)
    return {RECONNECT: answered - connected, "its start to the answer": answered - started}


def hit_crowd(stage: Stage, scenario: Scenario, chance: random.Random) -> Measures:
    crowd = Crowd(stage, scenario.chains)
    held = crowd.by_bar()
    time.sleep(chance.uniform(0, JITTER_SECONDS))
    victims = chance.sample(sorted(held), scenario.bars // 3)
    struck = min([stage.strike(victim) for victim in victims])
    lost = {id for victim in victims for id in held[victim]}
    seconds = [at - struck for at in crowd.goes_on(lost, since=struck)]
    crowd.end(lost)
    for victim in victims:
        stage.restore(victim)
    return {"the kill until half of them go on": median(seconds), "the kill until all of them go on": max(seconds)}


SCENARIOS = (
    Scenario("bar killed while suspended", hit_suspended, {RECONNECT: 0.02}),
    Scenario("foo killed and asked again", hit_suspended, victim="foo"),
    Scenario("server killed", hit_suspended, {"its start to the last answer": 0.6}, SERVER, chains=4),
    Scenario("bar killed at work, another standing by", hit_at_work, {"the kill to the answer": 0.5}, bars=2),
    Scenario("bar killed at work, started again", hit_at_work, {RECONNECT: 0.2}),
    Scenario(
        "bar killed at work, and whoever took over killed as well",
        hit_at_work,
        {"the last kill to the answer": 0.5},
        faults=2,
        bars=3,
    ),
    Scenario(
        "bar frozen at work, another standing by",
        hit_at_work,
        {"the freeze to the answer": 5.5},
        fault="freeze",
        bars=2,
    ),
    Scenario(
        "bar's machine gone without a word, another standing by",
        hit_at_work,
        {"the cut to the answer": 5},
        fault="cut",
        bars=2,
    ),
    Scenario(
        f"a third of {CROWD_BARS} bars killed, {CROWD:,} chains at work",
        hit_crowd,
        {"the kill until all of them go on": 3},
        bars=CROWD_BARS,
        chains=CROWD,
        share=20,
    ),
)


# ── many of them ──


def measure(
    seed: int = DEFAULT_SEED,
    trials: int = 100,
    parallel: int = 4,
    only: str = "",
    url: str = "",
    scenarios: Sequence[Scenario] = SCENARIOS,
) -> Report:
    """``url``: of a running Resonate server that nobody else uses, as the stack's workers join their groups there.

    Raises `bench.load.WrongAnswers` if any chain was answered wrongly or not at all, or ran more often than it may.
    """
    chosen = [each for each in scenarios if only in each.name and not (url and each.victim == SERVER)]
    if not chosen:
        raise click.UsageError(f"no scenario is named {only!r}: {'; '.join(each.name for each in scenarios)}")
    made = _Trials(Path(tempfile.mkdtemp(prefix="bench-recovery-")), seed, url)
    stacks = 1 if url else max(min(parallel, trials // LEAST_BATCH), 1)
    made.play(
        stacks,
        [(each, range(first, trials, stacks)) for each in chosen if each.mostly_waits for first in range(stacks)],
    )
    made.play(1, [(each, range(max(trials // each.share, 1))) for each in chosen if not each.mostly_waits])
    shutil.rmtree(made.folder)  # kept if anything failed: logs and databases tell why
    report = Report("recovery", seed, method=METHOD)
    for scenario in chosen:
        _add(report, scenario, made.seconds[scenario.name])
    report.notes.append(f"Trials repeated because their fault came too late: {made.repeated}.")
    return report


def _add(report: Report, scenario: Scenario, seconds: dict[str, list[float]]) -> None:
    """Add a scenario. Figures are the 99th percentile: targets must be reached nearly always."""
    table = Table(scenario.name, ["from ... to ...", "trials", "p50 s", "p90 s", "p99 s", "max s"])
    for what, values in seconds.items():
        name, p99 = f"{scenario.name}: {what}", quantile(values, 0.99)
        table.rows.append([what, len(values), median(values), quantile(values, 0.9), p99, max(values)])
        report.samples.append(Samples(name, "s", values))
        target = Target(scenario.targets[what]) if what in scenario.targets else None
        report.figures.append(Figure(f"{name}, p99", "s", p99, Spread(min(values), max(values)), target))
    report.tables.append(table)


class _Trials:
    """``seconds``: one by one, by scenario and what was measured; ``repeated``: trials whose fault came too late."""

    def __init__(self, folder: Path, seed: int, url: str) -> None:
        self.folder, self._seed, self._url = folder, seed, url
        self.seconds: defaultdict[str, defaultdict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        self.repeated = 0
        self._starting = threading.Lock()  # one stack at a time, so that none takes too long
        self._ends = threading.Event()

    def play(self, stacks: int, shares: Sequence[tuple[Scenario, Sequence[int]]]) -> None:
        """Play these trials on so many stacks side by side. Once one has failed, or at Ctrl-C, begin no other."""
        with ThreadPoolExecutor(stacks) as side_by_side:
            running = [side_by_side.submit(self._on_one_stack, *share) for share in shares]
            try:
                for future in as_completed(running):
                    future.result()
            except BaseException:
                self._ends.set()
                side_by_side.shutdown(wait=False, cancel_futures=True)
                raise

    def _on_one_stack(self, scenario: Scenario, numbers: Sequence[int]) -> None:
        stage = scenario.stage(Path(tempfile.mkdtemp(prefix="stack-", dir=self.folder)), self._url)
        with ExitStack() as running:
            with self._starting:
                running.enter_context(stage)
            for number in numbers:
                if self._ends.is_set():
                    return
                for what, seconds in self._measured(stage, scenario, number).items():
                    self.seconds[scenario.name][what].append(seconds)
        click.echo(f"{scenario.name}: {len(numbers)} trials done", err=True)

    def _measured(self, stage: Stage, scenario: Scenario, number: int) -> Measures:
        for attempt in range(ATTEMPTS):
            chance = random.Random(f"{self._seed} {scenario.name} {number} {attempt}")
            try:
                return scenario.trial(stage, scenario, chance)
            except TooLate:
                self.repeated += 1
        raise RuntimeError(f"{scenario.name}: the fault came too late {ATTEMPTS} times, this machine is too busy")
