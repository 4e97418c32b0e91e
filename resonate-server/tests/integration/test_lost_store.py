"""With a full disk or a lost file, the server says so, acknowledges nothing, and recovers or exits."""

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from harness.basics import wait_until
from harness.page import Page
from harness.server import Reply, ServerProcess
from integration.servers import Start


def ready(server: ServerProcess) -> tuple[int, dict[str, str]]:
    got = Page(server.port).get("/ready")
    return got.status, got.json["checks"]


def answers(server: ServerProcess) -> bool:
    """Return whether the server answers at all, ready or not."""
    with contextlib.suppress(OSError):
        return bool(ready(server))
    return False


class TestFullDisk:
    @pytest.fixture
    def server(self, start: Start, disk: Path) -> ServerProcess:
        return start(disk / "state.db")

    @pytest.fixture
    def filler(self, server: ServerProcess, disk: Path) -> Path:
        """A file that fills the disk to the last byte."""
        server.client().create("before")
        filler = disk / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4_096)):
                pass
        return filler

    @pytest.mark.usefixtures("filler")
    def test_writes_are_refused_with_the_reason_and_reads_still_work(self, server: ServerProcess) -> None:
        id, refused = until_refused(server)
        status, checks = ready(server)
        assert (status, checks["store"]) == (503, "database or disk is full")
        assert checks["disk"].endswith("bytes are free")
        assert (checks["commit"], checks["loop"]) == ("ok", "ok")
        assert "database or disk is full" in refused.data
        assert server.client().call("promise.get", id="before").status == 200
        assert server.client().call("promise.get", id=id).status == 404

    def test_it_recovers_by_itself_reports_each_change_once_and_loses_nothing(
        self, server: ServerProcess, filler: Path
    ) -> None:
        until_refused(server)
        client = server.client()
        assert {client.create(f"more-{number}").status for number in range(300)} == {503}
        filler.unlink()
        wait_until(server.is_ready, "it is ready again")
        assert server.output().count("cannot store anything, answering") == 1
        assert server.output().count("the store works again") == 1
        assert "Traceback" not in server.output()
        assert server.client().create("after").status == 200
        server.kill()
        server.start()
        assert server.client().call("promise.get", id="after").status == 200

    def test_a_restart_on_the_full_disk_loses_nothing_whether_it_succeeds_or_not(
        self, server: ServerProcess, filler: Path
    ) -> None:
        until_refused(server)
        server.kill()
        server.launch()
        wait_until(lambda: not server.is_running or answers(server), "it has ended, or serves what it has")
        server.kill()
        filler.unlink()
        server.start()
        assert server.client().call("promise.get", id="before").status == 200


class TestLostFile:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "data" / "state.db"

    @pytest.fixture
    def server(self, start: Start, path: Path) -> ServerProcess:
        server = start(path)
        server.client().create("before")
        return server

    @pytest.mark.parametrize("writes", [True, False])
    @pytest.mark.parametrize("how", ["removed", "replaced", "cut short"])
    def test_it_acknowledges_nothing_and_exits_with_a_message_even_without_writes(
        self, server: ServerProcess, path: Path, how: str, writes: bool
    ) -> None:
        client = server.client()
        harm(path, how)
        with contextlib.suppress(OSError):  # it may have exited already
            assert not writes or client.create("after").status == 503
        wait_until(lambda: not server.is_running, "it ends")
        assert server.exit_status == 2
        assert f"{path} was {how} while it was in use" in server.output()


def until_refused(server: ServerProcess) -> tuple[str, Reply]:
    """Use up the space that the log has already allocated; return the first promise that is refused."""
    client = server.client()
    for number in range(1_000):
        reply = client.create(f"p{number}")
        if reply.status != 200:
            assert reply.status == 503
            return f"p{number}", reply
    raise AssertionError("the disk is not full")


def harm(path: Path, how: str) -> None:
    match how:
        case "removed":
            path.unlink()
        case "replaced":
            shutil.copy(path, path.with_name("copy"))
            path.with_name("copy").rename(path)
        case _:
            os.truncate(path, 100)


def test_only_dev_serves_from_memory() -> None:
    command = [sys.executable, "-m", "resonate_server", "serve", "--db", ":memory:"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert "resonate-server dev" in done.stderr
