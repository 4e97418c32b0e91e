"""Rounds: each puts every subject under every load, in random order. Ratios are taken within a round, so that whatever
disturbs the machine disturbs both sides."""

import random
from collections.abc import Callable, Container, Iterable, Mapping, Sequence

import msgspec
from msgspec import Struct

from bench import load, meters
from bench.load import Played, Workload
from bench.meters import Usage
from bench.report import Cell, Figure, Samples, Table, Target, median, quantile
from bench.stack import SERVER

SEEDS = 2**32
WARM_UP_LOAD = 8
WARM_UP_SECONDS = 1.0

type Value = Callable[[LoadPhase], float]
"""Computes a value from a phase."""


class LoadPhase(Struct, frozen=True):
    """One subject under one load. ``usage``: by process, of this phase; ``counts``: of our server, else empty."""

    played: Played
    usage: Mapping[str, Usage]
    counts: Mapping[str, float]

    def median_ms(self) -> float:
        """Of a request."""
        return 1_000 * median(self.played.request_s)

    def p99_ms(self) -> float:
        """Of a request."""
        return 1_000 * quantile(self.played.request_s, 0.99)

    def tail(self) -> float:
        return self.p99_ms() / self.median_ms()

    def chain_ms(self) -> float:
        """The median of a chain."""
        return 1_000 * median(self.played.chain_s)

    def rate(self) -> float:
        """Requests per second."""
        return self.played.rate

    def headroom(self) -> float:
        """How many times the load could have been generated."""
        return self.played.elapsed_s / self.played.cpu_seconds

    def cpu_ms_per_chain(self, process: str = SERVER) -> float:
        return 1_000 * self.usage[process].cpu_seconds / self.played.chains

    def cpu_ms_per_request(self) -> float:
        return 1_000 * self.usage[SERVER].cpu_seconds / self.played.requests

    def requests_per_chain(self) -> float:
        return self.counts[meters.REQUESTS] / self.played.chains

    def commits_per_chain(self) -> float:
        return self.counts[meters.COMMITS] / self.played.chains

    def commits_per_request(self) -> float:
        return self.counts[meters.COMMITS] / self.counts[meters.REQUESTS]


class Subject(Struct, frozen=True):
    """Something to put under load. ``workload``: what its phases have in common; ``metrics_port``: our server's."""

    name: str
    workload: Workload
    pids: Callable[[], Mapping[str, int]] = dict
    metrics_port: int = 0

    def phase(self, in_flight: int, seconds: float, seed: int) -> LoadPhase:
        """Raises :class:`bench.load.WrongAnswers`."""
        usage, counts = self._now()
        played = load.run(msgspec.structs.replace(self.workload, in_flight=in_flight, seconds=seconds, seed=seed))
        usage_after, counts_after = self._now()
        used = {name: after.since(usage[name]) for name, after in usage_after.items()}
        return LoadPhase(played, used, {name: after - counts[name] for name, after in counts_after.items()})

    def _now(self) -> tuple[dict[str, Usage], Mapping[str, float]]:
        usage = {name: meters.usage(pid) for name, pid in self.pids().items()}
        return usage, meters.server_counts(self.metrics_port) if self.metrics_port else {}


class Rounds:
    """Plays rounds, and keeps the phases of each subject under each load: one per round."""

    def __init__(self, subjects: Sequence[Subject], chance: random.Random) -> None:
        self.subjects = [subject.name for subject in subjects]
        self._subjects = subjects
        self._chance = chance
        self._phases: dict[tuple[str, int], list[LoadPhase]] = {}

    def play(
        self, rounds: int, loads: Iterable[int], seconds: float, left_out: Container[tuple[str, int]] = ()
    ) -> None:
        """``seconds`` for each phase, after a second to warm up; ``left_out``: subjects with their loads."""
        for subject in self._subjects:
            subject.phase(WARM_UP_LOAD, WARM_UP_SECONDS, self._chance.randrange(SEEDS))
        for in_flight in [*loads] * rounds:
            for subject in self._chance.sample(self._subjects, len(self._subjects)):
                if (subject.name, in_flight) not in left_out:
                    phase = subject.phase(in_flight, seconds, self._chance.randrange(SEEDS))
                    self._phases.setdefault((subject.name, in_flight), []).append(phase)

    def of(self, subject: str, in_flight: int) -> list[LoadPhase]:
        return self._phases.get((subject, in_flight), [])

    def medians(self, subject: str, in_flight: int, *values: Value) -> list[Cell]:
        """Return the median of each value over the rounds; ``None`` for what was not counted."""
        phases = self.of(subject, in_flight)
        return [_median_or_none(phases, value) for value in values]

    def speeds(self, title: str, who: str, loads: Iterable[int]) -> Table:
        """Return a table of latency and throughput; ``who``: what the subjects are called."""
        table = Table(title, ["in flight", who, "median ms", "p99 ms", "chains/s"])
        values = (LoadPhase.median_ms, LoadPhase.p99_ms, LoadPhase.rate)
        for in_flight in loads:
            for name in self.subjects:
                if self.of(name, in_flight):
                    table.rows.append([in_flight, name, *self.medians(name, in_flight, *values)])
        return table

    def samples(self, subject: str, in_flight: int) -> Samples:
        """Return the time of each request."""
        return Samples(subject, "s", [each for phase in self.of(subject, in_flight) for each in phase.played.request_s])

    def figure(
        self, name: str, unit: str, subject: str, in_flight: int, value: Value, target: Target | None = None
    ) -> Figure:
        return Figure.of_rounds(name, unit, [value(phase) for phase in self.of(subject, in_flight)], target)

    def ratio(
        self, name: str, subject: str, other: str, in_flight: int, value: Value, target: Target | None = None
    ) -> Figure:
        pairs = zip(self.of(subject, in_flight), self.of(other, in_flight), strict=True)
        return Figure.of_rounds(name, "x", [value(phase) / value(beside) for phase, beside in pairs], target)


def _median_or_none(phases: list[LoadPhase], value: Value) -> float | None:
    try:
        return median([value(phase) for phase in phases]) if phases else None
    except KeyError:
        return None
