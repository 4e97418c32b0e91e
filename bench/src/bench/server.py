"""The server alone, under the requests of workers, with little and with a lot of data stored.

Every variant is a server of its own that runs all the time; only one is measured at a time. Servers are pinned to one
core and the load to another, if the system allows it.
"""

import random
import sqlite3
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path

from bench import load, meters
from bench.load import ChainKind, Workload
from bench.report import DEFAULT_SEED, MEGABYTE, Figure, Report, Table, Target
from bench.rounds import SEEDS, LoadPhase, Rounds, Subject
from bench.stack import OtherServer, OwnServer

IN_FLIGHT = 32
EMPTY = "nothing stored"
PROMISES_PER_CHAIN = 3
DISK_SECONDS = 1.0
STORED = (100_000, 1_000_000)
PENDING = 100_000
COPIED = {"promises": "number", "params": "promise", "results": "promise"}
COPIED |= dict.fromkeys(("tasks", "callbacks", "listeners"), "")
"""Tables, and the column that has the number of a promise."""


def measure(
    seed: int = DEFAULT_SEED,
    rounds: int = 5,
    seconds: float = 3,
    stored: tuple[int, ...] = STORED,
    pending: int = PENDING,
    server_url: str = "",
    *,
    quick: bool = False,
) -> Report:
    """``stored``: promises of ended chains; ``pending``: waiting chains. Raises `bench.load.WrongAnswers`."""
    stored, pending = ((), 0) if quick else (stored, pending)
    chance, cores = random.Random(seed), meters.two_cores()
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="bench-server-")))
        own = {EMPTY: OwnServer(folder / "empty")}
        for number in stored:
            name, chains = f"{number:,} stored promises", number // PROMISES_PER_CHAIN
            own[name] = _filled(folder / name, "workers", chains, chance.randrange(SEEDS))
        if pending:
            name = f"{pending:,} pending chains"
            own[name] = _filled(folder / name, "workers, to a pause", pending, chance.randrange(SEEDS))
        subjects = []
        others = {OtherServer.name: OtherServer(server_url)} if server_url else {}
        for name, server in (own | others).items():
            running.callback(server.kill)
            workload = Workload("workers", server.start().url, connections=IN_FLIGHT, token=server.token, core=cores[1])
            for pid in server.pids().values():
                meters.tie(pid, cores[0])
            subjects.append(Subject(name, workload, server.pids, server.metrics_port))
        measured = Rounds(subjects, chance)
        measured.play(rounds, (IN_FLIGHT, 1), seconds)
        table = _table(measured, subjects, chance)
    report = Report("server", seed, figures=_figures(measured, list(own)), tables=[table])
    report.figures += [
        Figure(f"server memory, {row[0]}", "MB", float(row[-1] or 0), target=Target(95))
        for row in table.rows
        if "pending" in str(row[0])
    ]
    report.samples = [measured.samples(name, IN_FLIGHT) for name in measured.subjects]
    tied = "server and load on a core each" if cores[0] is not None else "server and load not tied to cores"
    report.notes = [f"{IN_FLIGHT} chains in flight over {IN_FLIGHT} connections; {tied}"]
    return report


def _filled(folder: Path, chain: ChainKind, chains: int, seed: int) -> OwnServer:
    server = OwnServer(folder)
    load.run(Workload(chain, server.start().url, in_flight=1, seed=seed))
    server.stop()
    copy_chain(server.db, chains - 1, seed)
    return server


def copy_chain(path: Path, copies: int, seed: int) -> None:
    """Multiply the only chain in a database, under random ids; nobody else may have it open."""
    chance = random.Random(f"copies {seed}")
    ids = sorted(f"foo-{chance.getrandbits(64):016x}" for _ in range(copies))
    with closing(sqlite3.connect(path)) as db, db:
        root, promises = db.execute("SELECT min(id), max(number) FROM promises").fetchone()
        db.execute("CREATE TEMP TABLE copies (copy INTEGER PRIMARY KEY, copy_id TEXT)")
        db.executemany("INSERT INTO copies (copy_id) VALUES (?)", [(id,) for id in ids])
        rules = {"INTEGER": f"%s + {promises} * copy", "TEXT": f"replace(%s, '{root}', copy_id)", "BLOB": "%s"}
        for table, number in COPIED.items():
            columns = db.execute("SELECT name, type FROM pragma_table_info(?)", [table]).fetchall()
            values = [name if kind == "INTEGER" and name != number else rules[kind] % name for name, kind in columns]
            db.execute(f"INSERT INTO {table} SELECT {', '.join(values)} FROM copies, {table}")  # noqa: S608  own names


# ── the report ──


def _figures(measured: Rounds, own: list[str]) -> list[Figure]:
    figures = [
        measured.figure(name, unit, EMPTY, IN_FLIGHT, value, Target(bound, "at least"))
        for name, unit, value, bound in (
            ("server alone, chain mix, one process", "requests/s", LoadPhase.rate, 6_500),
            ("what the load generator could do / did", "x", LoadPhase.headroom, 3),
        )
    ]
    for name in measured.subjects[1:]:
        # Stored data should matter little to our own server, so that has a target; others are only compared with it.
        target = Target(1.3) if name in own else None
        for what, in_flight, value in (
            ("request under load", IN_FLIGHT, LoadPhase.median_ms),
            ("chain alone", 1, LoadPhase.chain_ms),
        ):
            figures.append(
                measured.ratio(f"median of a {what}, {name} / {EMPTY}", name, EMPTY, in_flight, value, target)
            )
    return figures


def _table(measured: Rounds, subjects: list[Subject], chance: random.Random) -> Table:
    """Make the table. Waits for the disk are counted only now, because that slows down a server."""
    columns = ["server", "requests/s", "p50 ms", "p99 ms", "chain alone ms", "CPU ms/request", "commits/request"]
    table = Table("the server alone", [*columns, "fsyncs/request", "RSS MB"])
    for subject in subjects:
        row = measured.medians(subject.name, IN_FLIGHT, LoadPhase.rate, LoadPhase.median_ms, LoadPhase.p99_ms)
        row += measured.medians(subject.name, 1, LoadPhase.chain_ms)
        row += measured.medians(subject.name, IN_FLIGHT, LoadPhase.cpu_ms_per_request, LoadPhase.commits_per_request)
        row += _disk_calls_and_memory(subject, chance.randrange(SEEDS))
        table.rows.append([subject.name, *row])
    return table


def _disk_calls_and_memory(subject: Subject, seed: int) -> list[float | None]:
    """``None`` for a server that was not started here."""
    for pid in subject.pids().values():
        with meters.counted_disk_calls(pid) as calls:
            played = subject.phase(IN_FLIGHT, DISK_SECONDS, seed).played
        return [calls[0] / played.requests if calls else None, meters.usage(pid).rss_bytes / MEGABYTE]
    return [None, None]
