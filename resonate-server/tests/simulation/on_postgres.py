"""Several servers on one real PostgreSQL. Servers are killed and stalled, and their connections to the database break
between any two statements.

Time is virtual for the database as well, which reads it from a file. But its work takes real time: a seed determines
the faults and requests, but not every outcome. The database itself records each change of a row.
"""

import asyncio
import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import psycopg
from psycopg.conninfo import conninfo_to_dict
from simulation import invariants
from simulation.line import LONGEST_UNNOTICED_S, Line
from simulation.loop import VirtualLoop, WithOutside
from simulation.network import SILENCE_S
from simulation.run import Run
from simulation.server import Cluster, CountingEngine, Server, watched
from simulation.world import Report, simulate
from unit.postgres import make_schema

from resonate_server.kernel.model import Footprint, Rule, Task
from resonate_server.peers import Peers
from resonate_server.protocol.answers import Answer
from resonate_server.protocol.records import Promise
from resonate_server.store import rows
from resonate_server.store.found import Snapshot
from resonate_server.store.postgres import PostgresStore, driver, sql
from resonate_server.store.postgres.postgres_view import PostgresView

POOL = 4
NUMBER = (2, 2, 3)
"""Number of servers in a run: one of these."""
STATEMENTS = 40
"""Number of statements within which a line breaks."""
LONGEST_STILL_S = (1.0, 5.0, 20.0)

PREPARE = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid();
DROP SCHEMA IF EXISTS resonate CASCADE;
CREATE SCHEMA resonate;
CREATE FUNCTION resonate.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
    AS $$ SELECT to_timestamp(pg_read_file('{clock}')::float8 / 1000) $$;
"""
WATCH = """
CREATE TABLE resonate.changes (number bigserial, what text, before json, after json);
CREATE FUNCTION resonate.changed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO resonate.changes (what, before, after)
    VALUES (TG_TABLE_NAME, CASE TG_OP WHEN 'UPDATE' THEN row_to_json(OLD) END, row_to_json(NEW));
    RETURN NULL;
END $$;
CREATE TRIGGER changed AFTER INSERT OR UPDATE ON resonate.promises FOR EACH ROW EXECUTE FUNCTION resonate.changed();
CREATE TRIGGER changed AFTER INSERT OR UPDATE ON resonate.tasks FOR EACH ROW EXECUTE FUNCTION resonate.changed();
"""
WAIT_FOR_LOCKS = """
SELECT count(*) FROM pg_stat_activity WHERE client_port = ANY(%s) AND state = 'active' AND wait_event_type = 'Lock'
"""
TAKE_CHANGES = "DELETE FROM resonate.changes RETURNING what, before, after"


def simulate_servers(url: str, seed: int, trace: bool = False, faults: bool = True) -> Report:
    """Run one simulation on the database at ``url``, which is emptied first."""
    loop = VirtualLoop(WithOutside())
    with mock.patch.dict(driver.OPTIONS, search_path=f"{driver.OPTIONS['search_path']},pg_catalog"):
        return simulate(seed, trace, faults, partial(OnPostgres, url=url), loop)


class Clock:
    """Writes the time to a file that any user may read."""

    def __init__(self, run: Run) -> None:
        self._run = run
        handle, path = tempfile.mkstemp(prefix="clock-")
        self._file, self.path = handle, Path(path)
        self.path.chmod(0o644)
        self._tell()
        run.loop.time_passes = self._tell

    def _tell(self) -> None:
        os.pwrite(self._file, str(self._run.now_ms()).encode(), 0)

    def close(self) -> None:
        self._run.loop.time_passes = lambda: None
        os.close(self._file)
        self.path.unlink()


class WatchedStore(PostgresStore):
    """A store that checks each answer."""

    def __init__(self, run: Run, url: str) -> None:
        super().__init__(url, POOL)
        self.run_state = run

    def decide(self, footprint: Footprint, rule: Rule) -> asyncio.Future[Answer]:
        return super().decide(footprint, watched(self.run_state, rule))


class SharingServer(Server):
    """``line``: the proxy through which it reaches the database."""

    def __init__(self, run: Run, line: Line, database: str) -> None:
        self.line = line
        url = f"postgresql://resonate@127.0.0.1:{line.port}/{database}?sslmode=disable&gssencmode=disable"
        store = WatchedStore(run, url)
        super().__init__(run, CountingEngine(run, store))
        self._peers = Peers(store.sharing, self.engine, self.hub, self.presence)
        self._peers.begin(None)
        self.outbound = self._peers.router

    def worker_gone(self, group: str, pid: str) -> None:
        self._peers.worker_gone(group, pid)

    def start(self) -> None:
        super().start()
        self.begin(self._peers.run())

    def crash(self) -> None:
        super().crash()
        self.line.close()

    async def end(self) -> None:
        """Close what the dead server has open in this process. It is told to stop before it is released."""
        stopping = asyncio.create_task(self.engine.stop())
        await asyncio.sleep(0)
        self.run.loop.release(self)
        await stopping

    # --- standing still ---------------------------------------------------------------------------------------------

    def stand_still(self, seconds: float) -> None:
        """Stall the server; its connections stay open, those to workers only until they lose patience."""
        if not self.is_still:
            self.is_still = True
            self.run.loop.hold(self)
            self.run.later(SILENCE_S, self._is_given_up)
            self.run.later(seconds, self.go_on)

    def _is_given_up(self) -> None:
        if self.is_still and self.alive:
            for stream in list(self._streams):
                stream.cut()

    def go_on(self) -> None:
        self.is_still = False
        if self.alive:
            self.run.loop.release(self)


class OnPostgres(Cluster):
    """``url``: a database for the simulation alone."""

    faults = ("server dies", "server stands still", "line breaks", "all lines of a server break", "all lines break")
    trouble_s = (10, 20)
    slack_s = 120.0

    def __init__(self, run: Run, url: str) -> None:
        super().__init__(run)
        where = conninfo_to_dict(url)
        self._port, self._database = int(where["port"] or 0), str(where["dbname"])
        self._lives: list[SharingServer] = []
        """All servers that ever started, including dead ones."""
        self._starting: set[asyncio.Task[None]] = set()
        self._clock = Clock(run)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(PREPARE.format(clock=self._clock.path).encode())
            make_schema(url)
            connection.execute(WATCH)
        self._eye = driver.Source(url).connect()
        self._changes = psycopg.connect(url, autocommit=True)
        run.loop.is_awaited = lambda: bool(self._owing())
        run.loop.is_stuck = self._is_stuck

    def _owing(self) -> list[int]:
        return [port for server in self._living if not server.is_still for port in server.line.owing]

    def _is_stuck(self) -> bool:
        """Return whether all wait for slow lines, or for locks held by a stalled server or by a connection whose end
        the database has not noticed yet.
        """
        if self.run.loop.has_jobs and not any(server.line.holds_up for server in self._living):
            return False
        owing = self._owing()
        [(waiting,)] = self._changes.execute(WAIT_FOR_LOCKS, (owing,)).fetchall()
        return bool(waiting == len(owing))

    async def begin(self) -> None:
        for _ in range(self.run.rng.choice(NUMBER)):
            await self._start()

    async def _start(self) -> None:
        self.run.note("server", "starts")
        self.inspect()
        line = Line(self.run, self._port)
        await line.open()
        server = SharingServer(self.run, line, self._database)
        self._lives.append(server)
        self.servers = [*self._living, server]
        server.start()

    def _start_soon(self) -> None:
        task = self.run.loop.create_task(self._start())
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    @property
    def _living(self) -> list[SharingServer]:
        return [server for server in self._lives if server.alive]

    # --- faults -----------------------------------------------------------------------------------------------------

    async def strike(self, fault: str) -> None:
        rng, living = self.run.rng, self._living
        if not living:
            return
        server = rng.choice(living)
        match fault:
            case "server dies":
                server.crash()
                self.run.later(rng.random() * 5, self._start_soon)
            case "server stands still":
                server.stand_still(rng.random() * rng.choice(LONGEST_STILL_S))
            case "line breaks":
                server.line.break_after(rng.randrange(STATEMENTS))
            case "all lines of a server break":
                server.line.break_all(rng.choice((0, LONGEST_UNNOTICED_S)))
            case "all lines break":
                for each in living:
                    each.line.break_all()

    async def calm_down(self) -> None:
        for server in self._living:
            server.go_on()

    # --- inspection -------------------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        self._eye.execute(sql.LOOK)
        snapshot = PostgresView(self._eye).snapshot()
        self._eye.execute(sql.COMMIT)
        return snapshot

    def inspect(self) -> Snapshot:
        for what, before, after in self._changes.execute(TAKE_CHANGES).fetchall():
            if what == "promises":
                was = None if before is None else _promise(before)
                self.run.check(invariants.a_promise_changes_only_once(was, _promise(after)))
            else:
                held = None if before is None else _task(before)
                self.run.check(invariants.a_task_never_goes_back(held, _task(after)))
        return super().inspect()

    async def close(self) -> None:
        await asyncio.gather(*self._starting)
        for server in self._lives:
            server.crash()
        self.run.loop.is_awaited = lambda: any(self.run.loop.jobs.values())
        while self.run.loop.is_awaited():  # Wait until their threads find that nothing answers.
            await asyncio.sleep(0.05)
        await asyncio.gather(*(server.end() for server in self._lives))
        self._eye.close()
        self._changes.close()
        self._clock.close()


def _promise(row: dict[str, Any]) -> Promise:
    columns = ("id", "state", "tags", "timeout_at", "created_at", "settled_at")
    return rows.promise((*(row[column] for column in columns), _bytes(row["param"]), _bytes(row["value"])))


def _bytes(shown: str | None) -> bytes | None:
    return None if shown is None else bytes.fromhex(shown.removeprefix(r"\x"))


def _task(row: dict[str, Any]) -> Task:
    return msgspec.convert(row, Task)
