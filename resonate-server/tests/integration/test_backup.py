"""``resonate backup`` and ``resonate-server restore``: back up a running server's database and restore it."""

import re
import socket
import sqlite3
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from harness.basics import wait_until
from harness.page import Page
from harness.server import ServerProcess
from integration.calls import create, settle
from integration.servers import Start
from unit.rows import promise, write

from resonate_server import cli
from resonate_server.client import main
from resonate_server.protocol.records import Value
from resonate_server.store.sqlite import Database

FILES = {"state.db", "state.db-wal", "state.db-alive", "state.db.lock"}


@pytest.fixture
def server(start: Start) -> ServerProcess:
    return start("state.db")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "copy.db"


def backup(server: ServerProcess, target: Path | str) -> Result:
    return CliRunner().invoke(main, ["backup", str(target), "--server", server.url])


def restore(source: Path, path: Path, *flags: str) -> Result:
    return CliRunner().invoke(cli.main, ["restore", str(source), "--db", str(path), *flags])


def fill(server: ServerProcess, megabytes: int) -> None:
    client = server.client()
    for number in range(megabytes // 4):
        settle(client, create(client, f"large-{number}"), value="x" * 3_000_000)  # 4 MB, encoded


def test_a_backup_holds_everything_acknowledged_before_it(
    server: ServerProcess, target: Path, start: Start, tmp_path: Path
) -> None:
    """Not if it would take the place of the database itself."""
    server.client().create("a")
    refused = backup(server, tmp_path / "state.db")
    assert (refused.exit_code, "state.db is in use by another server" in refused.output) == (1, True), refused.output
    assert backup(server, target).exit_code == 0
    server.client().create("b")
    assert restore(target, tmp_path / "other.db").exit_code == 0

    other = start("other.db").client()
    assert [other.call("promise.get", id=id).status for id in "ab"] == [200, 404]


def test_the_server_keeps_working_during_a_backup_and_the_copy_is_consistent(
    server: ServerProcess, target: Path
) -> None:
    """The server is written to throughout: a promise and its task are both in the copy, or neither is."""
    fill(server, 8)
    done = threading.Event()
    created = 0

    def create() -> None:
        nonlocal created
        client = server.client()
        while not done.is_set():
            assert client.create(f"p{created}", target="poll://any@nobody").status == 200
            created += 1

    writer = threading.Thread(target=create)
    writer.start()
    try:
        assert backup(server, target).exit_code == 0
    finally:
        done.set()
        writer.join()
    with closing(sqlite3.connect(target)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        (promises,) = db.execute("SELECT count(*) FROM promises WHERE id GLOB 'p[0-9]*'").fetchone()
        (tasks,) = db.execute("SELECT count(*) FROM tasks").fetchone()
    assert 0 < promises == tasks <= created


def test_a_backup_can_go_to_standard_output(server: ServerProcess, target: Path, tmp_path: Path) -> None:
    server.client().create("a")
    target.write_bytes(backup(server, "-").stdout_bytes)
    assert restore(target, tmp_path / "other.db").exit_code == 0


def copies_beside(server: ServerProcess) -> list[Path]:
    """Return what the server has of a copy that it is making."""
    return [path for path in server.log.parent.glob("state.db*") if path.name not in FILES]


def test_a_copy_for_which_there_is_no_room_is_refused_before_it_fills_the_disk(
    disk: Path, start: Start, tmp_path: Path
) -> None:
    server = start(disk / "state.db")
    for number in range(3):  # The log is part of the file once the server has stopped.
        settle(server.client(), create(server.client(), f"large-{number}"), value="x" * 1_350_000)
        server.stop()
        server.start()
    refused = backup(server, tmp_path / "copy.db")
    assert refused.exit_code != 0
    assert re.search(r"a copy needs [\d,]+ bytes on the disk of .*state\.db, where [\d,]+ are free", refused.stderr)
    assert not copies_beside(server)


def sizes(folder: Path) -> dict[str, int]:
    return {each.name: each.stat().st_size for each in folder.iterdir()}


def test_a_restore_for_which_there_is_no_room_leaves_the_disk_as_it_was(disk: Path, tmp_path: Path) -> None:
    backup = tmp_path / "copy.db"
    for path, size in ((backup, 4_000_000), (disk / "state.db", 1)):
        with closing(Database(path)) as database:
            write(database, promise("p", param=Value(data="x" * size)))
    (disk / "filler").write_bytes(bytes(5_000_000))
    (disk / "state.db.lock").unlink()  # with the pid of whoever had the file last
    before = sizes(disk)

    refused = restore(backup, disk / "state.db", "--replace")

    assert (refused.exit_code, "No space left" in refused.stderr) == (2, True)
    (disk / "state.db.lock").unlink()
    assert sizes(disk) == before


SLOW = (
    "from resonate_server.http import backup; backup.GRACE_S, backup.LEAST_BYTES_PER_S = 0.5, 2**24; "
    "from resonate_server.cli import main; main()"
)


def test_a_reader_that_takes_little_at_a_time_does_not_keep_others_from_a_backup(start: Start) -> None:
    """Each time it takes enough not to be taken for dead."""
    server = start("state.db", program=SLOW)
    fill(server, 12)
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        slow.sendall(b"GET /backup HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with suppress(ConnectionError):
            for _ in range(20):
                slow.recv(65_536)
                time.sleep(0.1)
        assert Page(server.port).get("/backup").status == 200
    wait_until(lambda: not copies_beside(server), "the server has nothing left of the copies")
