"""The same chains on SQLite, on PostgreSQL, and on several servers with one database, in one run."""

import random
import tempfile
from contextlib import ExitStack
from pathlib import Path

import psycopg
from harness.postgres import PostgresServer

from bench import meters
from bench.load import Workload
from bench.report import DEFAULT_SEED, Figure, Report, Target
from bench.rounds import LoadPhase, Rounds, Subject
from bench.stack import SERVER, OurServices, OwnServer, OwnServers

SQLITE, POSTGRES, SEVERAL = "SQLite", "PostgreSQL", "PostgreSQL, several servers"
LOADS = (1, 32)
"""Requests in flight."""
COUNTED_SECONDS = 2.0
STATEMENTS = """
SELECT sum(calls), sum(calls) FILTER (WHERE query LIKE '%INTO endings%') FROM pg_stat_statements
WHERE dbid = (SELECT oid FROM pg_database WHERE datname = 'one')
"""
"""Statements and commits of the single server, without BEGIN and COMMIT; each commit updates its row in `endings`."""


def measure(seed: int = DEFAULT_SEED, rounds: int = 5, seconds: float = 3, servers: int = 3) -> Report:
    """``servers``: how many share a database. Raises `bench.load.WrongAnswers`."""
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="bench-stores-")))
        database = PostgresServer(shared_preload_libraries="pg_stat_statements")
        running.callback(database.remove)
        database.start()
        stores: dict[str, OwnServer | OwnServers] = {
            SQLITE: OwnServer(folder / "sqlite"),
            POSTGRES: OwnServer(folder / "postgres", _on(database.create("one"))),
            SEVERAL: OwnServers(folder / "several", servers, _on(database.create("many"))),
        }
        subjects = [
            Subject(name, Workload("request to foo", running.enter_context(services).foo_url), services.pids)
            for name, services in ((name, OurServices(folder / f"of {name}", each)) for name, each in stores.items())
        ]
        measured = Rounds(subjects, random.Random(seed))
        measured.play(rounds, LOADS, seconds)
        costs = _costs(database, subjects[1])
    speeds = measured.speeds("chains on each store", "store", LOADS)
    return Report("stores", seed, figures=_figures(measured) + costs, tables=[speeds])


def _on(url: str) -> dict[str, str]:
    return {"RESONATE_STORAGE__TYPE": "postgres", "RESONATE_STORAGE__POSTGRES__URL": url}


def _costs(database: PostgresServer, subject: Subject) -> list[Figure]:
    """Return what a chain costs the database, one at a time. The counting does not affect the other figures."""
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION pg_stat_statements")
        connection.execute("SELECT pg_stat_statements_reset()")
        before, cpu = connection.execute("SELECT pg_current_wal_lsn()").fetchone(), meters.usage(database.pid)
        phase = subject.phase(1, COUNTED_SECONDS, 0)
        cpu = meters.usage(database.pid).since(cpu)
        wal = connection.execute("SELECT pg_current_wal_lsn() - %s::pg_lsn", before).fetchone()
        counted = connection.execute(STATEMENTS).fetchone()
    assert wal is not None
    assert counted is not None
    costs = {
        "statements": counted[0],
        "commits": counted[1],
        "bytes of write-ahead log": wal[0],
        "ms of CPU of the server": 1_000 * phase.usage[SERVER].cpu_seconds,
        "ms of CPU of the database": 1_000 * cpu.cpu_seconds,
    }
    chains = phase.played.chains
    return [Figure(f"{what} per chain, PostgreSQL", "", float(cost) / chains) for what, cost in costs.items()]


def _figures(measured: Rounds) -> list[Figure]:
    one, many = LOADS
    rate, time = LoadPhase.rate, LoadPhase.median_ms
    return [
        measured.ratio(f"chain median, {POSTGRES} / {SQLITE}", POSTGRES, SQLITE, one, time, Target(2)),
        measured.ratio(f"chains/s, {POSTGRES} / {SQLITE}", POSTGRES, SQLITE, many, rate, Target(0.6, "at least")),
        measured.ratio(f"chains/s, {SEVERAL} / one", SEVERAL, POSTGRES, many, rate, Target(1, "at least")),
    ]
