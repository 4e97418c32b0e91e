"""`bench server`: the server alone, under the requests of recorded chains, with little and with very much stored.

Every variant is a server of its own that runs all the time; a round measures each of them once, in an order drawn by
the seed, and only one at a time. The server is tied to one core and the load to another where the system allows it.
"""

import random
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import click
from msgspec import Struct

from bench import cores, fsyncs, server_metrics
from bench.cores import Cores
from bench.options import DEFAULT_SEED, reporting, rounds_option, seed_option, typed_command
from bench.replay.player import Play, Played, play
from bench.replay.prefill import fill, model_of
from bench.replay.template import CHAIN_FILE, PAUSED_CHAIN_FILE, load
from bench.report import Figure, Report, Samples, Spread, Table, Target
from bench.server_metrics import Counts
from bench.stack import CommandServer, OwnServer, RunningServer, Server
from bench.stats import Ratio, median, quantile, ratio_of_rounds, spread
from bench.usage import cpu_seconds, rss_bytes

CONNECTIONS = 32
IN_FLIGHT = 32
EMPTY = "nothing stored"
PROMISES_PER_CHAIN = 3
WARM_UP_SECONDS = 1.0
FSYNC_SECONDS = 1.0
STORED = (100_000, 1_000_000)
PENDING = 100_000
MEGABYTE = 1_000_000
SEEDS = 2**32


class Variant(Struct, frozen=True):
    """A server with so many chains in its database, ended ones or waiting ones."""

    name: str
    chains: int = 0
    pending: bool = False


class Sample(Struct, frozen=True):
    """One variant in one round: under load, and with one chain at a time. What is not known is ``None``."""

    loaded: Played
    one_at_a_time: Played
    cpu_seconds: float | None
    counts: Counts | None


class Subject:
    """A server that runs, and what was measured of it."""

    def __init__(self, variant: Variant, server: Server, used: Cores) -> None:
        self.variant = variant
        self.samples: list[Sample] = []
        self.fsyncs_per_request: float | None = None
        self._server = server
        self._cores = used
        self._pid = next(iter(server.pids().values()), None)
        self._template = load(CHAIN_FILE)
        if self._pid is not None:
            cores.tie(self._pid, used.server)

    def warm_up(self, chance: random.Random) -> None:
        self._play(chance, WARM_UP_SECONDS, IN_FLIGHT)

    def take_sample(self, chance: random.Random, seconds: float) -> None:
        before, cpu_before = self._counts(), self._cpu_seconds()
        loaded = self._play(chance, seconds, IN_FLIGHT)
        after, cpu_after = self._counts(), self._cpu_seconds()
        self.samples.append(
            Sample(
                loaded=loaded,
                one_at_a_time=self._play(chance, seconds / 2, 1),
                cpu_seconds=None if cpu_after is None or cpu_before is None else cpu_after - cpu_before,
                counts=None if after is None or before is None else after.since(before),
            )
        )

    def count_fsyncs(self, chance: random.Random) -> None:
        if self._pid is None:
            return
        with fsyncs.counted(self._pid) as tally:
            played = self._play(chance, FSYNC_SECONDS, IN_FLIGHT)
        self.fsyncs_per_request = None if tally.calls is None else tally.calls / played.requests

    def rss_megabytes(self) -> float | None:
        return None if self._pid is None else rss_bytes(self._pid) / MEGABYTE

    def each(self, value: Callable[[Sample], float]) -> list[float]:
        """One value per round."""
        return [value(sample) for sample in self.samples]

    def _play(self, chance: random.Random, seconds: float, in_flight: int) -> Played:
        seed = chance.randrange(SEEDS)
        job = Play(self._server.url, self._template, CONNECTIONS, seconds, seed, in_flight, core=self._cores.load)
        return play(job)

    def _counts(self) -> Counts | None:
        url = self._server.metrics_url
        return None if url is None else server_metrics.read(url)

    def _cpu_seconds(self) -> float | None:
        return None if self._pid is None else cpu_seconds(self._pid)


def measure(
    seed: int = DEFAULT_SEED,
    rounds: int = 5,
    seconds: float = 3,
    stored: tuple[int, ...] = STORED,
    pending: int = PENDING,
    server_url: str = "",
    server_command: str = "",
) -> Report:
    """``stored``: promises of ended chains; ``pending``: waiting chains. Raises `bench.load.WrongAnswers`."""
    chance, used = random.Random(seed), cores.choose()
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="bench-server-")))
        subjects = []
        for variant in _variants(stored, pending):
            server = _prefilled(variant, folder, chance.randrange(SEEDS))
            running.callback(server.close)
            subjects.append(Subject(variant, server.start(), used))
        for other in _others(server_url, server_command, folder):
            running.callback(other.close)
            subjects.append(Subject(Variant(other.name), other.start(), used))
        _run_rounds(subjects, chance, rounds, seconds)
        return _report(subjects, used, seed)


def _variants(stored: tuple[int, ...], pending: int) -> list[Variant]:
    variants = [Variant(EMPTY)]
    variants += [Variant(f"{promises:,} stored promises", promises // PROMISES_PER_CHAIN) for promises in stored]
    if pending:
        variants.append(Variant(f"{pending:,} pending chains", pending, pending=True))
    return variants


def _prefilled(variant: Variant, folder: Path, seed: int) -> OwnServer:
    place = folder / variant.name.replace(" ", "-")
    (place / "model").mkdir(parents=True)
    server = OwnServer(place)
    if variant.chains:
        template = load(PAUSED_CHAIN_FILE if variant.pending else CHAIN_FILE)
        fill(server.db, model_of(template, place / "model", seed), variant.chains, seed)
    return server


def _others(server_url: str, server_command: str, folder: Path) -> list[Server]:
    others: list[Server] = []
    if server_url:
        others.append(RunningServer("server by URL", server_url))
    if server_command:
        others.append(CommandServer("server by command", server_command, folder))
    return others


def _run_rounds(subjects: list[Subject], chance: random.Random, rounds: int, seconds: float) -> None:
    for subject in subjects:
        subject.warm_up(chance)
    for _ in range(rounds):
        for subject in chance.sample(subjects, len(subjects)):
            subject.take_sample(chance, seconds)
    for subject in subjects:
        subject.count_fsyncs(chance)


# ── the report ──


def _report(subjects: list[Subject], used: Cores, seed: int) -> Report:
    empty = subjects[0]
    report = Report("server", typed_command(), seed)
    report.tables = [_table(subjects)]
    report.figures = [
        _figure(
            "server alone, chain mix, one process", "requests/s", spread(empty.each(_rate)), Target(4_000, "at least")
        ),
        _figure("what the load generator could do / did", "x", spread(empty.each(_headroom)), Target(3, "at least")),
    ]
    for subject in subjects[1:]:
        report.figures += _beside_empty(subject, empty)
    report.figures += [_memory(subject) for subject in subjects if subject.variant.pending]
    report.samples = [
        Samples(subject.variant.name, "s", [value for sample in subject.samples for value in sample.loaded.request_s])
        for subject in subjects
    ]
    report.notes = [
        f"{IN_FLIGHT} chains in flight over {CONNECTIONS} connections; "
        + ("server and load on a core each" if used.server is not None else "server and load not tied to cores"),
    ]
    return report


def _beside_empty(subject: Subject, empty: Subject) -> list[Figure]:
    """Of our own server the issue is how little what is stored matters; of others how much they differ."""
    target = Target(1.3) if subject.variant.chains else None
    name = subject.variant.name
    loaded = ratio_of_rounds(subject.each(_p50_s), empty.each(_p50_s))
    alone = ratio_of_rounds(subject.each(_chain_s), empty.each(_chain_s))
    return [
        _figure(f"median of a request under load, {name} / {EMPTY}", "x", loaded, target),
        _figure(f"median of a chain alone, {name} / {EMPTY}", "x", alone, target),
    ]


def _memory(subject: Subject) -> Figure:
    return Figure(f"server memory, {subject.variant.name}", "MB", subject.rss_megabytes(), target=Target(200))


def _figure(name: str, unit: str, ratio: Ratio, target: Target | None) -> Figure:
    return Figure(name, unit, ratio.median, Spread(ratio.low, ratio.high), target)


def _table(subjects: list[Subject]) -> Table:
    columns = ["server", "requests/s", "p50 ms", "p99 ms", "chain alone ms", "CPU ms/request", "commits/request"]
    table = Table("the server alone", [*columns, "fsyncs/request", "RSS MB"])
    for subject in subjects:
        medians = [median(subject.each(value)) for value in (_rate, _p50_ms, _p99_ms, _chain_ms)]
        costs = [_median_or_none(subject, value) for value in (_cpu_ms_per_request, _commits_per_request)]
        table.rows.append([subject.variant.name, *medians, *costs, subject.fsyncs_per_request, subject.rss_megabytes()])
    return table


def _median_or_none(subject: Subject, value: Callable[[Sample], float | None]) -> float | None:
    known = [each for each in map(value, subject.samples) if each is not None]
    return median(known) if known else None


# ── what is read off a sample ──


def _rate(sample: Sample) -> float:
    return sample.loaded.requests_per_second


def _headroom(sample: Sample) -> float:
    return sample.loaded.elapsed_s / sample.loaded.cpu_seconds


def _p50_s(sample: Sample) -> float:
    return median(sample.loaded.request_s)


def _p50_ms(sample: Sample) -> float:
    return 1_000 * _p50_s(sample)


def _p99_ms(sample: Sample) -> float:
    return 1_000 * quantile(sample.loaded.request_s, 0.99)


def _chain_s(sample: Sample) -> float:
    return median(sample.one_at_a_time.chain_s)


def _chain_ms(sample: Sample) -> float:
    return 1_000 * _chain_s(sample)


def _cpu_ms_per_request(sample: Sample) -> float | None:
    return None if sample.cpu_seconds is None else 1_000 * sample.cpu_seconds / sample.loaded.requests


def _commits_per_request(sample: Sample) -> float | None:
    return None if sample.counts is None else sample.counts.commits / sample.counts.requests


# ── the command ──


@click.command("server")
@rounds_option
@seed_option
@click.option("--seconds", type=click.FloatRange(min=0.1), default=3.0, show_default=True, help="Of each phase.")
@click.option("--quick", is_flag=True, help="Only the server with nothing stored.")
@click.option("--server-url", default="", help="Measure the Resonate server that runs there as well.")
@click.option("--server-command", default="", help="... or one that this command starts on {port}.")
@reporting
def command(rounds: int, seed: int, seconds: float, quick: bool, server_url: str, server_command: str) -> Report:
    """The server alone: the requests of recorded chains, sent again from many connections.

    With nothing stored, with 100,000 and 1,000,000 stored promises, and with 100,000 pending chains.
    """
    stored, pending = ((), 0) if quick else (STORED, PENDING)
    return measure(seed, rounds, seconds, stored, pending, server_url, server_command)
