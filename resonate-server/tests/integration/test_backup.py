"""``resonate backup`` and ``resonate-server restore``: back up a running server's database and restore it."""

import re
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest
from harness.basics import wait_until
from harness.page import Page
from harness.server import ServerProcess
from integration.calls import RESONATE, create, settle
from integration.servers import Start
from unit.rows import promise, write

from resonate_server.protocol.records import Value
from resonate_server.store.sqlite import Database

FILES = {"state.db", "state.db-wal", "state.db-alive", "state.db.lock"}


@pytest.fixture
def server(start: Start) -> ServerProcess:
    return start("state.db")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "copy.db"


def begin_backup(server: ServerProcess, target: Path) -> subprocess.Popen[str]:
    command = [*RESONATE, "backup", str(target), "--server", server.url]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def backup(server: ServerProcess, target: Path) -> None:
    done = begin_backup(server, target)
    _, errors = done.communicate(timeout=60)
    assert done.returncode == 0, errors


def restore(source: Path, path: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "resonate_server", "restore", str(source), "--db", str(path), *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def fill(server: ServerProcess, megabytes: int) -> None:
    client = server.client()
    for number in range(megabytes // 4):
        settle(client, create(client, f"large-{number}"), value="x" * 3_000_000)  # 4 MB, encoded


@pytest.fixture
def begun(server: ServerProcess, target: Path) -> subprocess.Popen[str]:
    """A backup that is in transit and will replace an earlier one."""
    fill(server, 60)
    target.write_text("the earlier one")
    command = begin_backup(server, target)
    part = target.with_name("copy.db.part")
    wait_until(lambda: (part.exists() and part.stat().st_size) or command.poll() is not None, "it has begun")
    return command


def test_a_backup_holds_everything_acknowledged_before_it(
    server: ServerProcess, target: Path, start: Start, tmp_path: Path
) -> None:
    server.client().create("a")
    backup(server, target)
    server.client().create("b")
    assert restore(target, tmp_path / "other.db").returncode == 0

    other = start("other.db").client()
    assert [other.call("promise.get", id=id).status for id in "ab"] == [200, 404]


def test_the_server_keeps_working_during_a_backup_and_the_copy_is_consistent(
    server: ServerProcess, target: Path
) -> None:
    """The server is written to throughout: a promise and its task are both in the copy, or neither is."""
    fill(server, 20)
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
        backup(server, target)
    finally:
        done.set()
        writer.join()
    with closing(sqlite3.connect(target)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        (promises,) = db.execute("SELECT count(*) FROM promises WHERE id GLOB 'p[0-9]*'").fetchone()
        (tasks,) = db.execute("SELECT count(*) FROM tasks").fetchone()
    assert 0 < promises == tasks <= created


def test_a_backup_can_go_to_standard_output(server: ServerProcess, tmp_path: Path) -> None:
    server.client().create("a")
    command = [*RESONATE, "backup", "-", "--server", server.url]
    done = subprocess.run(command, capture_output=True, timeout=60, check=True)
    (tmp_path / "copy.db").write_bytes(done.stdout)
    assert restore(tmp_path / "copy.db", tmp_path / "other.db").returncode == 0


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
    done = begin_backup(server, tmp_path / "copy.db")
    _, errors = done.communicate(timeout=60)
    assert done.returncode != 0
    assert re.search(r"a copy needs [\d,]+ bytes on the disk of .*state\.db, where [\d,]+ are free", errors)
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

    assert (refused.returncode, "No space left" in refused.stderr) == (2, True)
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


def test_a_server_killed_in_the_middle_leaves_the_earlier_backup(
    server: ServerProcess, target: Path, begun: subprocess.Popen[str]
) -> None:
    server.kill()
    _, errors = begun.communicate(timeout=60)
    if begun.returncode == 0:
        pytest.skip("it was done before the server was killed")
    assert "did not send all of it" in errors or "cannot reach" in errors
    assert target.read_text() == "the earlier one"
    assert not target.with_name("copy.db.part").exists()


def test_a_command_killed_in_the_middle_leaves_the_earlier_backup(
    server: ServerProcess, target: Path, begun: subprocess.Popen[str]
) -> None:
    begun.kill()
    begun.wait(timeout=60)
    if begun.returncode == 0:
        pytest.skip("it was done before it was killed")
    assert target.read_text() == "the earlier one"
    wait_until(lambda: not copies_beside(server), "the server has nothing of it left")
    target.unlink()
    backup(server, target)
