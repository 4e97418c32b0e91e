"""With a full or hanging disk or a lost file, the server says so, acknowledges nothing, and recovers or exits."""

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner
from harness.basics import wait_until
from harness.page import Page
from harness.server import Reply, ServerProcess
from integration.servers import Start

from resonate_server import cli


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

    def test_writes_are_refused_with_the_reason_and_it_recovers_by_itself_and_loses_nothing(
        self, server: ServerProcess, filler: Path
    ) -> None:
        """It reports each change once, and reads work all the time."""
        id, refused = until_refused(server)
        status, checks = ready(server)
        assert (status, checks["store"]) == (503, "database or disk is full")
        assert checks["disk"].endswith("bytes are free")
        assert (checks["commit"], checks["loop"]) == ("ok", "ok")
        assert "database or disk is full" in refused.data
        assert server.client().call("promise.get", id="before").status == 200
        assert server.client().call("promise.get", id=id).status == 404

        client = server.client()
        assert {client.create(f"more-{number}").status for number in range(300)} == {503}
        filler.unlink()
        wait_until(server.is_ready, "it is ready again")
        assert server.output().count("cannot store anything now") == 1
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


WITH_A_DISK_THAT_HANGS = """
import os, runpy, sys, threading, time
from pathlib import Path
from resonate_server.store.sqlite import log, store

def wait():
    while Path(os.environ["PYTEST_HANGS"]).exists():
        time.sleep(0.05)

sync, submit = log._sync, log.KernelSync._submit

def later(kernel):
    wait()
    submit(kernel)

log._sync = lambda file: wait() or sync(file)
log.KernelSync._submit = lambda kernel: threading.Thread(target=later, args=[kernel], daemon=True).start()
if os.environ["PYTEST_WAITS"] == "thread":
    store.kernel_sync = lambda _: None
store.PATIENCE_S, store.CLOSE_S = 3, 2
runpy.run_module("resonate_server", run_name="__main__")
"""
"""A server for which no sync of the log ends while a file exists."""


@pytest.mark.parametrize("server", ["kernel", "thread"], indirect=True)
class TestHangingDisk:
    @pytest.fixture
    def hangs(self, tmp_path: Path) -> Path:
        """While it exists, the disk hangs."""
        return tmp_path / "hangs"

    @pytest.fixture
    def server(self, request: pytest.FixtureRequest, start: Start, hangs: Path) -> Iterator[ServerProcess]:
        env = {"PYTEST_HANGS": str(hangs), "PYTEST_WAITS": request.param}
        server = start("state.db", program=WITH_A_DISK_THAT_HANGS, **env)
        server.client().create("before")
        hangs.touch()
        yield server
        hangs.unlink(missing_ok=True)

    def test_requests_are_refused_and_what_was_under_way_is_done_once_it_answers_or_else_the_server_ends(
        self, server: ServerProcess, hangs: Path
    ) -> None:
        with ThreadPoolExecutor() as clients:
            first = clients.submit(server.client().create, "first")
            time.sleep(0.5)
            second = clients.submit(server.client().create, "second")
        third = server.client().create("third")
        assert [each.status for each in (first.result(), second.result(), third)] == [503] * 3
        assert "whether this was done will show when it is back: the disk has not answered" in first.result().data
        assert "nothing was changed: the disk has not answered" in second.result().data
        assert third.data == second.result().data
        assert ready(server) == (
            503,
            {"store": "the disk has not answered for 3 s", "disk": "ok", "commit": "ok", "loop": "ok"},
        )

        hangs.unlink()
        wait_until(server.is_ready, "it is ready again")
        found = [server.client().call("promise.get", id=id).status for id in ("first", "second", "third")]
        assert found == [200, 404, 404]

        hangs.touch()
        self.assert_it_stops_although_the_disk_hangs(server, hangs)

    def assert_it_stops_although_the_disk_hangs(self, server: ServerProcess, hangs: Path) -> None:
        with ThreadPoolExecutor() as clients:
            under_way = clients.submit(server.client().create, "under way")
            time.sleep(0.5)
            status, seconds = server.end()
            assert under_way.exception() or under_way.result().status == 503
        assert (status, seconds < 10) == (2, True)
        assert "ending as after a crash" in server.output()
        hangs.unlink()
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

    @pytest.mark.parametrize(("how", "writes"), [("removed", False), ("replaced", True), ("cut short", True)])
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
    done = CliRunner().invoke(cli.main, ["serve", "--db", ":memory:"])
    assert (done.exit_code, "resonate-server dev" in done.stderr) == (2, True)
