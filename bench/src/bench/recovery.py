"""`bench recovery`: how many seconds after a fault a chain continues, as a distribution over many trials.

Scenarios that mostly wait run on several stacks side by side; the others have the machine to themselves. Each trial
checks that the answer is right, and that every function ran exactly as often as the faults explain.
"""

import random
import shutil
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from pathlib import Path
from typing import Literal

import click
from msgspec import Struct

from bench.crowd import Crowd
from bench.report import DEFAULT_SEED, Figure, Report, Samples, Spread, Table, Target, median, quantile
from bench.stack import SERVER, OtherServer, OwnServer
from bench.stage import LEASE_SECONDS, Bars, Stage, TooLate, moment_when
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
    """What one trial does, how many programs it needs, and its targets."""

    name: str
    state: Literal["suspended", "at work"]
    victim: str = "bar"
    fault: Literal["kill", "freeze", "cut"] = "kill"
    faults: int = 1
    """One after the other; each hits whoever is at work then."""
    bars: int = 1
    """A single one is started again after it was struck."""
    chains: int = 1
    share: int = 1
    """There is one trial for this many of other scenarios."""
    targets: Mapping[str, Target] = {}
    """By what is measured."""

    @property
    def is_crowd(self) -> bool:
        return self.chains > 1 and self.state == "at work"

    @property
    def mostly_waits(self) -> bool:
        return self.state == "at work" and not self.is_crowd

    def stage(self, folder: Path, url: str) -> Stage:
        """``url``: of a running server; empty for one of its own."""
        bars = Bars(
            self.bars, "bench.gated_bar" if self.is_crowd else "bar", max(self.chains, 64), wired=self.fault == "cut"
        )
        return Stage(folder, OtherServer(url) if url else OwnServer(folder), bars)

    def play(self, stage: Stage, chance: random.Random) -> Measures:
        """Play one trial; afterwards all programs run again. Raises `bench.load.WrongAnswers` or :class:`TooLate`."""
        if self.state == "suspended":
            return _hit_suspended(stage, self, chance)
        return (_hit_crowd if self.is_crowd else _hit_at_work)(stage, self, chance)


SCENARIOS = (
    Scenario("bar killed while suspended", "suspended", targets={RECONNECT: Target(0.02)}),
    Scenario("foo killed and asked again", "suspended", "foo"),
    Scenario("server killed", "suspended", SERVER, chains=4, targets={"its start to the last answer": Target(0.6)}),
    Scenario(
        "bar killed at work, another standing by",
        "at work",
        bars=2,
        targets={"the kill to the answer": Target(0.5)},
    ),
    Scenario("bar killed at work, started again", "at work", targets={RECONNECT: Target(0.2)}),
    Scenario(
        "bar killed at work, and whoever took over killed as well",
        "at work",
        faults=2,
        bars=3,
        targets={"the last kill to the answer": Target(0.5)},
    ),
    Scenario(
        "bar frozen at work, another standing by",
        "at work",
        "bar",
        "freeze",
        bars=2,
        targets={"the freeze to the answer": Target(5.5)},
    ),
    Scenario(
        "bar's machine gone without a word, another standing by",
        "at work",
        "bar",
        "cut",
        bars=2,
        targets={"the cut to the answer": Target(5)},
    ),
    Scenario(
        f"a third of {CROWD_BARS} bars killed, {CROWD:,} chains at work",
        "at work",
        bars=CROWD_BARS,
        chains=CROWD,
        share=20,
        targets={"the kill until all of them go on": Target(3)},
    ),
)


def _hit_suspended(stage: Stage, scenario: Scenario, chance: random.Random) -> Measures:
    """The victim held nothing. When it is back, it is told what is due, or reads it from the disk."""
    victim, calls = scenario.victim, [stage.call(pause=PAUSE_SECONDS) for _ in range(scenario.chains)]
    ends = [stage.pause_end(call) for call in calls]
    if min(ends) - JITTER_SECONDS < time.time():
        raise TooLate
    time.sleep(chance.uniform(0, JITTER_SECONDS))
    stage.kill_family(victim)
    time.sleep(max(max(ends) + AFTER_PAUSE_SECONDS - time.time(), 0))
    started = stage.start_again(victim)
    if victim == SERVER:
        ready = moment_when(stage.is_server_ready, "the server is ready")
    if victim == "foo":  # the caller's connection died with it
        calls = [stage.ask_again(call) for call in calls]
    answered = max(stage.answered(call) for call in calls)
    match victim:
        case "foo":
            return {"its start to the answer": answered - started}
        case "bar":
            return _since_start(stage, victim, started, answered)
    return {"its start to the last answer": answered - started, "its start to ready": ready - started}


def _hit_at_work(stage: Stage, scenario: Scenario, chance: random.Random) -> Measures:
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


def _hit_crowd(stage: Stage, scenario: Scenario, chance: random.Random) -> Measures:
    crowd = Crowd(stage, scenario.chains)
    held = crowd.by_bar()
    time.sleep(chance.uniform(0, JITTER_SECONDS))
    victims = chance.sample(sorted(held), scenario.bars // 3)
    struck = min([stage.kill_family(victim) for victim in victims])
    lost = {id for victim in victims for id in held[victim]}
    seconds = [at - struck for at in crowd.goes_on(lost, since=struck)]
    crowd.end(lost)
    for victim in victims:
        stage.restore(victim)
    return {"the kill until half of them go on": median(seconds), "the kill until all of them go on": max(seconds)}


# ── many of them ──


def measure(
    seed: int = DEFAULT_SEED,
    trials: int = 100,
    parallel: int = 4,
    scenarios: Iterable[Scenario] = SCENARIOS,
    url: str = "",
) -> Report:
    """``url``: of a running Resonate server that nobody else uses, as the stack's workers join their groups there.

    Raises `bench.load.WrongAnswers` if any chain was answered wrongly or not at all, or ran more often than it may.
    """
    chosen = tuple(each for each in scenarios if not url or each.victim != SERVER)
    made = _Trials(Path(tempfile.mkdtemp(prefix="bench-recovery-")), seed, url)
    stacks = 1 if url else max(min(parallel, trials // LEAST_BATCH), 1)
    with ThreadPoolExecutor(stacks) as side_by_side:
        running = [
            side_by_side.submit(made.on_one_stack, scenario, range(first, trials, stacks))
            for scenario in chosen
            if scenario.mostly_waits
            for first in range(stacks)
        ]
        try:
            for future in as_completed(running):
                future.result()
        except BaseException:
            made.end(running)
            raise
    for scenario in chosen:
        if not scenario.mostly_waits:
            made.on_one_stack(scenario, range(max(trials // scenario.share, 1)))
    shutil.rmtree(made.folder)  # kept if anything failed: logs and databases tell why
    return _report(chosen, made, seed)


class _Trials:
    """The trials so far. ``seconds``: one by one, by scenario and what was measured."""

    def __init__(self, folder: Path, seed: int, url: str) -> None:
        self.folder = folder
        self.seconds: defaultdict[str, defaultdict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        self.repeated: list[str] = []
        """The scenario of each trial that was repeated because its fault came too late."""
        self._seed = seed
        self._url = url
        self._starting = threading.Lock()
        """Only one stack starts at a time, so that none takes too long."""
        self._failed = threading.Event()
        self._stages: list[Stage] = []

    def end(self, running: Collection[Future[None]]) -> None:
        """Stop the trials under way by closing their stacks, so that an interrupt need not wait for them."""
        self._failed.set()
        left = {future for future in running if not future.cancel()}
        while left:
            for stage in self._stages:
                stage.close()
            left = wait(left, timeout=0.5).not_done

    def on_one_stack(self, scenario: Scenario, numbers: Sequence[int]) -> None:
        """Make trials one after the other. Begin none once a trial has failed."""
        if self._failed.is_set() or not numbers:
            return
        stage = scenario.stage(Path(tempfile.mkdtemp(prefix="stack-", dir=self.folder)), self._url)
        self._stages.append(stage)
        try:
            with self._starting:
                stage.start()
            for number in numbers:
                for what, seconds in self._measured(stage, scenario, number).items():
                    self.seconds[scenario.name][what].append(seconds)
                if self._failed.is_set():
                    return
        except BaseException:
            self._failed.set()
            raise
        finally:
            stage.close()
        click.echo(f"{scenario.name}: {len(numbers)} trials done", err=True)

    def _measured(self, stage: Stage, scenario: Scenario, number: int) -> Measures:
        for attempt in range(ATTEMPTS):
            chance = random.Random(f"{self._seed} {scenario.name} {number} {attempt}")
            try:
                return scenario.play(stage, chance)
            except TooLate:
                self.repeated.append(scenario.name)
        raise RuntimeError(f"{scenario.name}: the fault came too late {ATTEMPTS} times, this machine is too busy")


# ── the report ──


def _report(scenarios: tuple[Scenario, ...], made: _Trials, seed: int) -> Report:
    report = Report("recovery", seed, method=METHOD)
    for scenario in scenarios:
        table = Table(scenario.name, ["from ... to ...", "trials", "p50 s", "p90 s", "p99 s", "max s"])
        for what, values in made.seconds[scenario.name].items():
            p90, p99 = quantile(values, 0.9), quantile(values, 0.99)
            table.rows.append([what, len(values), median(values), p90, p99, max(values)])
            report.samples.append(Samples(f"{scenario.name}: {what}", "s", values))
            # The 99th percentile: targets must be reached nearly always.
            spread, target = Spread(min(values), max(values)), scenario.targets.get(what)
            report.figures.append(Figure(f"{scenario.name}: {what}, p99", "s", p99, spread, target))
        report.tables.append(table)
    report.notes.append(f"Trials repeated because their fault came too late: {len(made.repeated)}.")
    return report
