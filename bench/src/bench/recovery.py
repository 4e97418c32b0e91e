"""`bench recovery`: how many seconds after a fault a chain has its answer, as a distribution over many trials.

Beside our timing the same trials run with the leases and retries of the official server and SDK. Scenarios that mostly
wait run on several stacks side by side; the others have the machine to themselves. Each trial checks that the answer is
right, and that nothing ran more often than the fault explains.
"""

import random
import shutil
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Literal

import click
from msgspec import Struct

from bench.report import DEFAULT_SEED, Figure, Report, Samples, Spread, Table, Target, median, quantile
from bench.slow_baz import BAZ_SECONDS
from bench.stack import SERVER
from bench.stage import Stage, Timing, TooLate, moment_of, moment_when
from worker.beside import HEARTBEATS_PER_LEASE

OURS = Timing("ours", 10, {}, kill_window_seconds=0.4)
OFFICIAL = Timing(
    "as official",
    60,
    {"RESONATE_TASKS__RETRY_TIMEOUT": "30000", "RESONATE_TASKS__WORKER_GRACE": str(24 * 60 * 60 * 1_000)},
    kill_window_seconds=15,
)
"""Only leases end the waiting for a dead worker, and it is killed at any moment between two heartbeats."""

PAUSE_SECONDS = 0.8
JITTER_SECONDS = 0.2
"""The fault hits a suspended chain so long after its suspension, at most."""
AFTER_PAUSE_SECONDS = 0.05
"""So long after the pause's end is a program started again: then nothing is left to wait for."""
REST_SECONDS = 0.3
"""Work that is left, at least, when the fault hits it."""
ATTEMPTS = 5
"""How often a trial is made again whose fault came too late."""
LEAST_BATCH = 5
"""Trials that a stack is started for, at least, where there are so many."""

NOTES = (
    "Repeated work is not counted; pauses end before the killed program is started again.",
    "A killed server has 4 chains to continue; it is started again after their pauses.",
    "A lease ends when it expires, or when the server takes it back early because its holder's stream broke.",
    f"{OFFICIAL.name!r}: leases of 60 s, retries after 30 s, no lease taken back early. Always on: "
    "our server hands tasks over when a worker connects, and our workers reconnect every half second.",
)

type Measures = dict[str, float]
"""Seconds, by what was measured."""


class Scenario(Struct, frozen=True):
    """A fault of a program, ``victim``, while its chain (or ``chains``) is in this state."""

    name: str
    victim: str
    state: Literal["suspended", "at work"]
    fault: Literal["kill", "freeze"] = "kill"
    standby: bool = False
    """Whether another one of its kind takes over; else the victim is started again."""
    chains: int = 1
    targets: Mapping[str, Target] = {}
    """By what is measured."""

    def stage(self, folder: Path, timing: Timing) -> Stage:
        baz = "bench.slow_baz" if self.victim == "baz" else "baz"
        return Stage(folder, timing, self.victim if self.standby else "", baz)

    def play(self, stage: Stage, chance: random.Random) -> Measures:
        """One trial; all programs run again afterwards. Raises `bench.load.WrongAnswers` or :class:`TooLate`."""
        return (_hit_suspended if self.state == "suspended" else _hit_at_work)(stage, self, chance)


SCENARIOS = (
    Scenario("bar killed while suspended", "bar", "suspended", targets={"its reconnect to the answer": Target(0.1)}),
    Scenario("foo killed and asked again", "foo", "suspended"),
    Scenario("server killed", SERVER, "suspended", chains=4, targets={"its start to the last answer": Target(3)}),
    Scenario(
        *("bar killed at work, another standing by", "bar", "at work", "kill", True),
        targets={"the kill to the answer": Target(0.5)},
    ),
    Scenario("bar killed at work, started again", "bar", "at work"),
    Scenario(
        *("bar frozen at work, another standing by", "bar", "at work", "freeze", True),
        targets={"the freeze to the answer": Target(10.5)},
    ),
    Scenario("baz killed at work, another standing by", "baz", "at work", standby=True),
    Scenario("baz killed at work, started again", "baz", "at work"),
)


def _hit_suspended(stage: Stage, scenario: Scenario, chance: random.Random) -> Measures:
    """The victim held nothing: what comes back is told what is due, or reads it from the disk."""
    victim, calls = scenario.victim, [stage.call(pause=PAUSE_SECONDS) for _ in range(scenario.chains)]
    ends = [stage.pause_end(call) for call in calls]
    if min(ends) - JITTER_SECONDS < time.time():
        raise TooLate
    time.sleep(chance.uniform(0, JITTER_SECONDS))
    stage.kill_family(victim)
    time.sleep(max(max(ends) + AFTER_PAUSE_SECONDS - time.time(), 0))
    started = stage.start_again(victim)
    if victim == SERVER:
        ready = moment_when(stage.own_server.is_ready, "the server is ready")
    if victim == "foo":  # the caller's connection died with it
        calls = [stage.ask_again(call) for call in calls]
    answered = max(stage.answered(call, runs_of_baz=1) for call in calls)
    match victim:
        case "foo":
            return {"its start to the answer": answered - started}
        case "bar":
            connected = moment_of(stage.own_server.log, "worker connected: service-bar/", since=started)
            return {"its reconnect to the answer": answered - connected, "its start to the answer": answered - started}
    return {"its start to the last answer": answered - started, "its start to ready": ready - started}


def _hit_at_work(stage: Stage, scenario: Scenario, chance: random.Random) -> Measures:
    """Only the end of its lease, or of its stream, tells of the victim. Work that is done again is not counted."""
    if scenario.victim == "baz":
        work, window = BAZ_SECONDS, BAZ_SECONDS - REST_SECONDS
        call = stage.call()
        function, task, runs_of_baz = "baz", f"{call.id}:1.1", 2
    else:
        # How much of a frozen one's lease is left, its last heartbeat decides.
        heartbeat = stage.timing.lease_seconds / HEARTBEATS_PER_LEASE
        window = stage.timing.kill_window_seconds if scenario.fault == "kill" else heartbeat
        work = window + REST_SECONDS
        call = stage.call(running=work)
        function, task, runs_of_baz = "work", f"{call.id}:1", 1
    victim = stage.who_runs(function, call, task)
    time.sleep(chance.uniform(0, window))
    struck = stage.kill_family(victim) if scenario.fault == "kill" else stage.freeze(victim)
    if not scenario.standby:
        started = stage.start_again(victim)
        return {"its start to the answer": stage.answered(call, runs_of_baz) - work - started}
    answered = stage.answered(call, runs_of_baz) - work
    lease_end = moment_of(stage.own_server.log, f"lease lost: task {task},", since=struck)
    stage.restore(victim)
    return {
        f"the {scenario.fault} to the answer": answered - struck,
        f"the {scenario.fault} to the end of its lease": lease_end - struck,
        "the end of its lease to the answer": answered - lease_end,
    }


# ── many of them ──


def measure(
    seed: int = DEFAULT_SEED,
    trials: int = 100,
    official_trials: int = 5,
    parallel: int = 4,
    scenarios: Iterable[Scenario] = SCENARIOS,
) -> Report:
    """Raises `bench.load.WrongAnswers` if any chain was answered wrongly or not at all, or ran more than it may."""
    chosen = tuple(scenarios)
    made = _Trials(Path(tempfile.mkdtemp(prefix="bench-recovery-")), seed)
    with ThreadPoolExecutor(parallel) as ours, ThreadPoolExecutor(parallel) as official:
        running = []
        for scenario in (each for each in chosen if each.state == "at work"):
            stacks = max(min(parallel, trials // LEAST_BATCH), 1)
            shares = [range(first, trials, stacks) for first in range(stacks)]
            running += [ours.submit(made.on_one_stack, scenario, OURS, share) for share in shares]
            # Each of these waits for an official lease, on a stack of its own.
            alone = [[number] for number in range(official_trials)]
            running += [official.submit(made.on_one_stack, scenario, OFFICIAL, share) for share in alone]
        for future in as_completed(running):
            future.result()
    for scenario in (each for each in chosen if each.state == "suspended"):
        for timing, number in ((OURS, trials), (OFFICIAL, official_trials)):
            made.on_one_stack(scenario, timing, range(number))
    shutil.rmtree(made.folder)  # kept if anything failed: logs and databases tell why
    return _report(chosen, made, seed)


class _Trials:
    """Made so far: ``seconds`` one by one, by scenario, timing and what was measured."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.seconds: defaultdict[tuple[str, str], defaultdict[str, list[float]]] = defaultdict(
            lambda: defaultdict(list)
        )
        self.repeated: list[str] = []
        """The scenario of each trial that was made again, because its fault came too late."""
        self._seed = seed
        self._starting = threading.Lock()
        """One stack is started at a time, so that none takes too long for it."""
        self._failed = threading.Event()

    def on_one_stack(self, scenario: Scenario, timing: Timing, numbers: Sequence[int]) -> None:
        """One after the other. Nothing more is begun once a trial has failed."""
        if self._failed.is_set() or not numbers:
            return
        stage = scenario.stage(Path(tempfile.mkdtemp(prefix="stack-", dir=self.folder)), timing)
        try:
            with self._starting:
                stage.start()
            for number in numbers:
                for what, seconds in self._measured(stage, scenario, number).items():
                    self.seconds[scenario.name, timing.name][what].append(seconds)
                if self._failed.is_set():
                    return
        except BaseException:
            self._failed.set()
            raise
        finally:
            stage.kill()
        click.echo(f"{scenario.name}, timing {timing.name}: {len(numbers)} trials done", err=True)

    def _measured(self, stage: Stage, scenario: Scenario, number: int) -> Measures:
        for attempt in range(ATTEMPTS):
            chance = random.Random(f"{self._seed} {scenario.name} {stage.timing.name} {number} {attempt}")
            try:
                return scenario.play(stage, chance)
            except TooLate:
                self.repeated.append(scenario.name)
        raise RuntimeError(f"{scenario.name}: the fault came too late {ATTEMPTS} times, this machine is too busy")


# ── the report ──


def _report(scenarios: tuple[Scenario, ...], made: _Trials, seed: int) -> Report:
    report = Report("recovery", seed, notes=list(NOTES))
    for scenario in scenarios:
        table = Table(scenario.name, ["from ... to ...", "timing", "trials", "p50 s", "p90 s", "p99 s", "max s"])
        for timing in (OURS.name, OFFICIAL.name):
            for what, values in made.seconds[scenario.name, timing].items():
                p90, p99 = quantile(values, 0.9), quantile(values, 0.99)
                table.rows.append([what, timing, len(values), median(values), p90, p99, max(values)])
                report.samples.append(Samples(f"{scenario.name}: {what} ({timing})", "s", values))
                if timing == OURS.name:  # the 99th percentile: what is to be reached is to be reached nearly always
                    spread, target = Spread(min(values), max(values)), scenario.targets.get(what)
                    report.figures.append(Figure(f"{scenario.name}: {what}, p99", "s", p99, spread, target))
        report.tables.append(table)
    report.notes.append(f"Trials repeated because their fault came too late: {len(made.repeated)}.")
    return report
