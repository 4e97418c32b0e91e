"""``resonate-server copy``: copy a stopped server's state to the store of its successor."""

import contextlib
import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result
from harness.basics import wait_until
from integration.servers import Start, postgres_at
from unit.postgres import make_schema

from resonate_server import cli
from resonate_server.kernel.model import Changes
from resonate_server.protocol.records import Promise, PromiseState, Value
from resonate_server.store.postgres import driver
from resonate_server.store.postgres.whole_database import _WholeDatabase
from resonate_server.store.sqlite import Database

PROMISES = 5_000
PAYLOAD = "x" * 40_000
"""The payload of one promise; 200 MB in all."""

MEASURED = (
    "import re, runpy, sys; sys.argv = ['resonate-server', *sys.argv[1:]]\n"
    "try: runpy.run_module('resonate_server', run_name='__main__')\n"
    "finally: print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])"
)
"""Run a command and print its peak memory in KiB at the end; ``getrusage`` would include its parent's."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


def fill(path: Path, count: int, payload: str) -> None:
    for first in range(0, count, 500):
        store(path, [f"p{number}" for number in range(first, min(first + 500, count))], payload)


def store(path: Path, ids: list[str], payload: str) -> None:
    with closing(Database(path, "NORMAL")) as database:
        database.write(Changes(promises={id: settled(id, payload) for id in ids}))
        database.flush()
        database.commit()


def settled(id: str, payload: str) -> Promise:
    value = Value(data=payload)
    return Promise(id, PromiseState.RESOLVED, Value(), value, {}, timeout_at=2, created_at=1, settled_at=1)


def places(path: Path, url: str) -> list[str]:
    return ["copy", "--from", f"sqlite:{path}", "--to", f"postgres:{url}"]


def copy(path: Path, url: str) -> Result:
    return CliRunner().invoke(cli.main, places(path, url))


def promises_in(url: str) -> int:
    with psycopg.connect(url) as database:
        return int(database.execute("SELECT count(*) FROM resonate.promises").fetchall()[0][0])


def test_a_server_continues_with_the_copied_state(path: Path, own_postgres_url: str, start: Start) -> None:
    """The command tells how much it copied, and no password."""
    old = start(path)
    old.client().create("a")
    refused = copy(path, own_postgres_url)
    old.stop()
    done = copy(path, own_postgres_url.replace("resonate@", "resonate:secret@"))

    new = start(**postgres_at(own_postgres_url))
    assert new.client().call("promise.get", id="a").status == 200
    assert (refused.exit_code, done.exit_code) == (2, 0)
    assert "in use by another server" in refused.stderr
    assert "1 promise, 0 tasks, 0 schedules, and 0 answers still owed" in done.stdout
    assert "secret" not in done.output


def refused(place: str, target: str, folder: Path) -> str:
    """Run a copy that is refused, and return the one sentence that says why."""
    with contextlib.chdir(folder):
        done = CliRunner().invoke(cli.main, ["copy", "--from", place, "--to", target])
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("resonate-server: nothing was copied: ")
    return done.stderr


@pytest.mark.parametrize("place", ["mysql:x", "sqlite::memory:", "postgres:", "postgres:a=b=c", "sqlite:nowhere.db"])
def test_an_invalid_place_is_reported(place: str, tmp_path: Path) -> None:
    refused(place, "sqlite:other.db", tmp_path)


def test_the_same_place_on_both_sides_is_refused_however_it_is_spelled(
    path: Path, own_postgres_url: str, tmp_path: Path
) -> None:
    fill(path, 1, "x")
    assert "source and target are the same file" in refused(f"sqlite:{path}", "sqlite:./state.db", path.parent)
    make_schema(own_postgres_url)
    other = f"{own_postgres_url}{'&' if '?' in own_postgres_url else '?'}application_name=other"
    assert "source and target are the same database" in refused(own_postgres_url, other, tmp_path)


@pytest.mark.parametrize("step", ["is_empty", "put", "rows", "set_time"])
def test_an_unresponsive_database_is_reported(
    step: str, path: Path, own_postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process is frozen when a query arrives."""
    fill(path, 1, "x")
    monkeypatch.setattr(driver, "COPY_TIMEOUT_S", 0.5)
    original, frozen = getattr(_WholeDatabase, step), []

    def freezing(self: _WholeDatabase, *asked: Any) -> Any:
        frozen.append(self._connection.info.backend_pid)
        os.kill(frozen[0], signal.SIGSTOP)
        return original(self, *asked)

    monkeypatch.setattr(_WholeDatabase, step, freezing)
    database = f"postgres:{own_postgres_url}"
    source, target = (database, "sqlite:other.db") if step == "rows" else (f"sqlite:{path}", database)
    try:
        assert "PostgreSQL: " in refused(source, target, tmp_path)
    finally:
        os.kill(frozen[0], signal.SIGCONT)


def test_killed_halfway_it_leaves_the_target_empty_and_can_be_repeated(path: Path, own_postgres_url: str) -> None:
    """A slow row holds it up after all promises are copied."""
    store(path, ["first", "last"], "x")
    make_schema(own_postgres_url)
    with psycopg.connect(own_postgres_url, autocommit=True) as database:
        database.execute("""
            CREATE FUNCTION sleep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(600); RETURN NEW; END';
            CREATE TRIGGER slow BEFORE INSERT ON resonate.promises FOR EACH ROW
            WHEN (NEW.id = 'last') EXECUTE FUNCTION sleep();
        """)
        asleep = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'"

        process = subprocess.Popen([sys.executable, "-m", "resonate_server", *places(path, own_postgres_url)])
        wait_until(lambda: database.execute(asleep).fetchall(), "it has come to the last promise")
        process.kill()
        process.wait()
        database.execute(f"SELECT pg_terminate_backend(pid) FROM ({asleep}) AS theirs")
        database.execute("DROP TRIGGER slow ON resonate.promises")
    assert promises_in(own_postgres_url) == 0

    assert copy(path, own_postgres_url).exit_code == 0
    assert promises_in(own_postgres_url) == 2


@pytest.mark.long
def test_it_keeps_only_a_few_rows_in_memory(path: Path, own_postgres_url: str, tmp_path: Path) -> None:
    fill(path, PROMISES, PAYLOAD)

    for source, target in (
        (f"sqlite:{path}", f"postgres:{own_postgres_url}"),
        (f"postgres:{own_postgres_url}", f"sqlite:{tmp_path / 'back.db'}"),
    ):
        command = [sys.executable, "-c", MEASURED, "copy", "--from", source, "--to", target]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
        assert int(done.stdout.splitlines()[-1]) * 1_024 < PROMISES * len(PAYLOAD) * 0.8
