"""`bench overload`: ten times as many new chains as the server can bear, whether it answers or not.

First what it can bear is measured, then chains are begun at ten times that pace for a while (an open loop), each with
its requests over one of very many connections. Afterwards everything that was accepted is to come to its end.
"""

import random
import tempfile
from pathlib import Path

import click

from bench import cores
from bench.options import DEFAULT_SEED, reporting, seed_option, typed_command
from bench.replay.player import Play, Played, play
from bench.replay.template import CHAIN_FILE, load
from bench.report import Figure, Report, Samples, Table, Target
from bench.stack import OwnServer
from bench.stats import median, quantile, quantiles
from bench.usage import peak_rss_bytes

CONNECTIONS = 1_000
BEARABLE = 64
"""Chains in flight, over as many connections, to find out what the server can bear."""
FACTOR = 10
MEGABYTE = 1_000_000


def measure(seed: int = DEFAULT_SEED, seconds: float = 3, connections: int = CONNECTIONS) -> Report:
    """``seconds`` of either load. Raises `bench.load.WrongAnswers`."""
    chance, used = random.Random(seed), cores.choose()
    template = load(CHAIN_FILE)
    with tempfile.TemporaryDirectory(prefix="bench-overload-") as folder:
        server = OwnServer(Path(folder))
        try:
            cores.tie(server.start().pid, used.server)
            seeds = chance.sample(range(2**32), 2)
            borne = play(Play(server.url, template, BEARABLE, seconds, seeds[0], in_flight=BEARABLE, core=used.load))
            pace = FACTOR * borne.chains / borne.elapsed_s
            overload = play(Play(server.url, template, connections, seconds, seeds[1], per_second=pace, core=used.load))
            alive = server.is_running and server.is_ready()
            return _report(borne, overload, alive, peak_rss_bytes(server.pid) / MEGABYTE, seed)
        finally:
            server.close()


def overtaking_s(starts: list[tuple[float, float]]) -> list[float]:
    """Of each request how long before it a later one was answered; ``starts``: when each was sent, and answered."""
    overtaken, earliest_later = [], float("inf")
    for _, answered_at in sorted(starts, reverse=True):
        overtaken.append(max(answered_at - earliest_later, 0.0))
        earliest_later = min(earliest_later, answered_at)
    return overtaken


def _report(borne: Played, overload: Played, alive: bool, peak_megabytes: float, seed: int) -> Report:
    report = Report("overload", typed_command(), seed)
    report.tables = [
        Table(
            "what was started, and how it ended",
            ["load", "begun", "refused", "ended", "unfinished", "requests/s", "p50 ms", "p99 ms"],
            [_row(f"{BEARABLE} in flight", borne), _row(f"{FACTOR} times as many", overload)],
        )
    ]
    accepted = overload.begun - overload.refused
    waited = median(answered - sent for sent, answered in overload.starts)
    report.figures = [
        Figure("the server answers afterwards", "", float(alive), target=Target(1, "at least")),
        Figure("accepted chains that ended", "x", overload.chains / accepted, target=Target(1, "at least")),
        Figure("refused chains", "", float(overload.refused), target=Target(0)),
        Figure("p99 of a request under overload", "s", quantile(overload.request_s, 0.99)),
        Figure("median wait of a chain's first request", "s", waited),
        Figure("p99 of being overtaken by a later request", "s", quantile(overtaking_s(overload.starts), 0.99)),
        Figure("requests/s under overload / borne", "x", overload.requests_per_second / borne.requests_per_second),
        Figure("peak of the server's memory", "MB", peak_megabytes),
    ]
    report.notes = [
        "A request without a free connection waits in the load generator; its time counts from when it is sent."
    ]
    report.samples = [Samples("requests under overload", "s", overload.request_s)]
    return report


def _row(name: str, played: Played) -> list[str | float | int | None]:
    request = quantiles(played.request_s)
    return [
        name,
        played.begun,
        played.refused,
        played.chains,
        played.unfinished,
        played.requests_per_second,
        request.p50 * 1_000,
        request.p99 * 1_000,
    ]


@click.command("overload")
@seed_option
@click.option("--seconds", type=click.FloatRange(min=0.1), default=3.0, show_default=True, help="Of either load.")
@reporting
def command(seed: int, seconds: float) -> Report:
    """Ten times as many new chains as the server can bear: does it live, and does what it accepted come to its end?"""
    return measure(seed, seconds)
