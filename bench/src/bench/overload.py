"""Ten times as many new chains as the server can bear, whether it answers or not.

It measures what the server can bear, then begins chains at ten times that rate for a while (an open loop), over very
many connections. Afterwards, everything that was accepted must complete.
"""

import random
import tempfile
from collections.abc import Iterable
from pathlib import Path

from bench import load, meters
from bench.load import Played, Workload
from bench.report import DEFAULT_SEED, MEGABYTE, Figure, Report, Samples, Table, Target, median, quantile
from bench.rounds import SEEDS
from bench.stack import OwnServer

CONNECTIONS = 1_000
BEARABLE = 64
"""Chains in flight, over as many connections, when measuring what the server can bear."""
FACTOR = 10


def measure(seed: int = DEFAULT_SEED, seconds: float = 3, connections: int = CONNECTIONS) -> Report:
    """``seconds``: of each load. Raises `bench.load.WrongAnswers`."""
    chance, (server_core, core) = random.Random(seed), meters.two_cores()
    with tempfile.TemporaryDirectory(prefix="bench-overload-") as folder:
        server = OwnServer(Path(folder))
        try:
            url = server.start().url
            meters.tie(server.pid, server_core)
            first, second = chance.sample(range(SEEDS), 2)
            borne = load.run(Workload("workers", url, seconds, in_flight=BEARABLE, seed=first, core=core))
            pace = FACTOR * borne.chains / borne.elapsed_s
            overload = load.run(
                Workload("workers", url, seconds, per_second=pace, connections=connections, seed=second, core=core)
            )
            alive = server.is_running and server.is_ready()
            return _report(borne, overload, alive, meters.usage(server.pid).peak_bytes, seed)
        finally:
            server.kill()


def overtaking_s(starts: Iterable[tuple[float, float]]) -> list[float]:
    """Return for each request how long before it a later one was answered. ``starts``: when each was sent, answered."""
    overtaken, earliest_later = [], float("inf")
    for _, answered_at in sorted(starts, reverse=True):
        overtaken.append(max(answered_at - earliest_later, 0.0))
        earliest_later = min(earliest_later, answered_at)
    return overtaken


def _report(borne: Played, overload: Played, alive: bool, peak_bytes: int, seed: int) -> Report:
    report = Report("overload", seed)
    columns = ["load", "begun", "refused", "ended", "unfinished", "requests/s", "p50 ms", "p99 ms"]
    report.tables = [Table("what was started, and how it ended", columns)]
    for name, played in ((f"{BEARABLE} in flight", borne), (f"{FACTOR} times as many", overload)):
        quantiles = [1_000 * quantile(played.request_s, share) for share in (0.5, 0.99)]
        outcome = [played.begun, played.refused, played.chains, played.unfinished, played.rate, *quantiles]
        report.tables[0].rows.append([name, *outcome])
    starts = overload.starts.values()
    waited = median([answered - sent for sent, answered in starts])
    accepted = overload.begun - overload.refused
    ended = overload.chains / accepted if accepted else None
    all_of_them = Target(1, "at least")
    report.figures = [
        Figure("the server answers afterwards", "", float(alive), target=all_of_them),
        Figure("accepted chains that ended", "x", ended, None, all_of_them, "" if accepted else "all refused"),
        Figure("refused chains", "", float(overload.refused), target=Target(0)),
        Figure("p99 of a request under overload", "s", quantile(overload.request_s, 0.99)),
        Figure("median wait of a chain's first request", "s", waited),
        Figure("p99 of being overtaken by a later request", "s", quantile(overtaking_s(starts), 0.99)),
        Figure("requests/s under overload / borne", "x", overload.rate / borne.rate),
        Figure("peak of the server's memory", "MB", peak_bytes / MEGABYTE),
    ]
    report.notes = [
        "A request without a free connection waits in the load generator; its time counts from when it is sent."
    ]
    report.samples = [Samples("requests under overload", "s", overload.request_s)]
    return report
