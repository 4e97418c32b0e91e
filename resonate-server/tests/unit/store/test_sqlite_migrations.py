"""Files of former versions: migrated with everything in them, or left as they were."""

import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from unit.driver import HOUR, START, Driver, value
from unit.store.stores import execute, promises_in

from resonate_server.config import Sqlite, Storage
from resonate_server.moving import move
from resonate_server.protocol.messages import Unblock
from resonate_server.protocol.records import EMPTY, PromiseState, TaskState, Value
from resonate_server.protocol.requests import ScheduleGet
from resonate_server.store.sqlite import Database, StoreUnusable, statements

FILES = Path(__file__).parent / "files"
FORMER = sorted(FILES.glob("format_*.sql"))
CALLER = "poll://uni@callers/caller-1"

KILLED_IN_THE_MIDST = """
import os, signal, sqlite3, sys
from pathlib import Path
from resonate_server.store.sqlite import Database, file

class Doomed(sqlite3.Connection):
    steps, last = 0, None

    def executescript(self, script):
        if "ALTER TABLE" in script:
            self.execute("PRAGMA cache_size = 1")  # Pages of the transaction are written out before its end.
            self.set_progress_handler(self.step, 1)
            super().executescript(f"{script} ROLLBACK;")
            self.steps, self.last = 0, 1 + int(self.steps * float(sys.argv[2]))
        return super().executescript(script)

    def step(self):
        self.steps += 1
        if self.steps == self.last:
            os.kill(os.getpid(), signal.SIGKILL)
        return 0

connect = sqlite3.connect
file.sqlite3.connect = lambda *given, **named: connect(*given, **named, factory=Doomed)
Database(Path(sys.argv[1]))
"""
"""A server that is killed after the given share of the steps of SQLite's virtual machine, counted in a dry run."""


@pytest.fixture(params=FORMER, ids=lambda each: each.stem)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file of a former version."""
    path = tmp_path / "state.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript(request.param.read_text())
    return path


@pytest.fixture
def server(store: Database) -> Driver:
    """The kernel on that file."""
    return Driver(store)


def schema(path: Path) -> set[tuple[str, str, str]]:
    rows = execute(path, "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL")
    return {(kind, name, re.sub(r"\s*([(),])\s*|\s+", r" \1", sql)) for kind, name, sql in rows}


def content(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as db:
        return list(db.iterdump())


def format_of(path: Path) -> Any:
    return execute(path, "PRAGMA user_version")[0][0]


def test_its_schema_becomes_that_of_a_new_file(path: Path, tmp_path: Path) -> None:
    Database(path).close()
    Database(tmp_path / "new.db").close()
    assert schema(path) == schema(tmp_path / "new.db")
    assert format_of(path) == statements.SCHEMA_VERSION


def test_promises_come_with_all_they_had(server: Driver) -> None:
    root, done, step = (server.promise(id) for id in ("foo-1", "done", "foo-1:1.0"))

    assert (root.state, root.param, root.value) == (PromiseState.PENDING, Value(headers={"h": "1"}, data="Zm9v"), EMPTY)
    assert (done.state, done.param, done.value) == (PromiseState.REJECTED, value("ZG9uZQ=="), value("bm8="))
    assert (step.param, step.value, step.tags["resonate:parent"]) == (EMPTY, value("c3RlcA=="), "foo-1:1")


def test_a_chain_that_was_pending_completes(server: Driver) -> None:
    assert [task.id for task in server.store.queued_tasks("baz", 10)] == ["foo-1:1.1"]
    server.acquire("foo-1:1.1", 0)
    server.fulfill("foo-1:1.1", 1, result=value("MQ=="))
    assert [promise.id for promise in server.acquire("foo-1:1", 1).data.preload] == ["foo-1:1.0", "foo-1:1.1"]
    server.fulfill("foo-1:1", 2, result=value("Mg=="))
    server.acquire("foo-1", 1)
    server.fulfill("foo-1", 2, result=value("Mw=="))

    told = [(unblock.address, unblock.promise.id, unblock.promise.value) for unblock in server.take_unblocks()]
    assert told == [(CALLER, "foo-1", value("Mw=="))]


def test_an_awaiter_of_an_internal_promise_is_still_woken_by_its_deadline(server: Driver) -> None:
    server.now = START + HOUR
    server.tick()

    both, awaited, step = server.task("both"), server.promise("awaited"), server.promise("step")
    assert both.state is TaskState.PENDING
    assert awaited.state is PromiseState.TIMEDOUT
    assert step.state is PromiseState.PENDING, "nobody waits for a step, so its deadline is no alarm"


def test_messages_owed_to_listeners_are_still_owed(server: Driver) -> None:
    done = server.promise("done")
    owed = [each.unblock for each in server.store.unblocks("callers", "caller-1", 0)]
    assert owed == [Unblock(promise=done, address=CALLER)]


def test_schedules_and_timers_continue(server: Driver) -> None:
    before = server.call(ScheduleGet("tick")).data.schedule
    server.now = START + HOUR
    server.tick()

    run = server.promise(f"tick-{before.next_run_at}")
    assert (run.param, before.promise_param) == (value("dGljaw=="), value("dGljaw=="))
    assert server.promise("timer").state is PromiseState.RESOLVED


def test_halted_tasks_stay_halted(server: Driver) -> None:
    assert server.task("halted").state is TaskState.HALTED


def test_a_file_that_is_copied_from_stays_as_it_was(path: Path, tmp_path: Path) -> None:
    before = format_of(path), content(path)
    copy = tmp_path / "copy.db"
    move(Storage(sqlite=Sqlite(path=path)), Storage(sqlite=Sqlite(path=copy)))
    assert (format_of(path), content(path)) == before
    assert promises_in(copy) == promises_in(path)


@pytest.mark.parametrize("share", [0, 0.02, 0.3, 0.95])
def test_a_migration_killed_halfway_changes_nothing_and_the_next_start_completes_it(path: Path, share: float) -> None:
    before = format_of(path), content(path)

    killed = subprocess.run([sys.executable, "-c", KILLED_IN_THE_MIDST, str(path), str(share)], check=False, timeout=60)

    assert killed.returncode == -signal.SIGKILL
    assert (format_of(path), content(path)) == before
    assert "foo-1" in promises_in(path)


def test_a_file_of_a_newer_server_is_refused_with_advice(path: Path) -> None:
    Database(path).close()
    newer = statements.SCHEMA_VERSION + 1
    execute(path, f"PRAGMA user_version = {newer}")
    before = path.read_bytes()

    with pytest.raises(StoreUnusable, match=rf"newer server \(format {newer}.*run the version that made it"):
        Database(path)

    assert path.read_bytes() == before


@pytest.mark.parametrize("version", range(statements.SCHEMA_VERSION))
def test_a_foreign_file_with_one_of_our_numbers_is_refused_untouched(tmp_path: Path, version: int) -> None:
    path = tmp_path / "state.db"
    execute(path, "CREATE TABLE promises (id, kept)", f"PRAGMA user_version = {version}")
    before = path.read_bytes()

    with pytest.raises(StoreUnusable, match="another program"):
        Database(path)

    assert path.read_bytes() == before
