"""An operator learns of trouble in time: each kind is provoked, and the metrics, the log or readiness show it."""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from harness.basics import free_port, wait_until
from harness.page import Page
from harness.server import Client, ServerProcess
from harness.stream import Stream
from integration.servers import sample

from resonate_server.metrics import MAX_TARGETS


class Operated(ServerProcess):
    """A server on a file, with metrics."""

    def __init__(self, folder: Path) -> None:
        self.metrics_port = free_port()
        super().__init__(
            folder / "log", folder / "state.db", RESONATE_OBSERVABILITY__METRICS_PORT=str(self.metrics_port)
        )

    def read(self, name: str, **labels: str) -> float | None:
        return sample(self.metrics_port, name, **labels)

    def until(self, name: str, is_right: Callable[[float], bool], **labels: str) -> None:
        def look() -> bool:
            value = self.read(name, **labels)
            return value is not None and is_right(value)

        wait_until(look, f"{name} {labels} is right")

    def ready(self) -> tuple[int, Any]:
        got = Page(self.port).get("/ready")
        return got.status, got.json


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Operated]:
    process = Operated(tmp_path)
    process.start()
    yield process
    process.stop()


class TestGroupsWithoutWorkers:
    def test_after_a_restart_the_group_and_the_age_of_its_task_are_still_reported(
        self, server: Operated, client: Client
    ) -> None:
        client.create("t", target="poll://any@bar")
        time.sleep(2)
        server.kill()
        server.start()

        server.until("resonate_messages_waiting", lambda waiting: waiting == 1, group="bar", kind="execute")
        assert server.read("resonate_connected_workers", group="bar") == 0
        assert (server.read("resonate_oldest_task_seconds", group="bar", state="pending") or 0) >= 2


class TestAnswers:
    def test_answers_for_a_process_that_is_dead_do_not_count_as_tasks(
        self, server: Operated, client: Client, connect: Callable[[str, str], Stream]
    ) -> None:
        connect("foo", "alive")
        for number in range(4):
            client.create(f"p-{number}")
            client.call("promise.register_listener", awaited=f"p-{number}", address="poll://uni@foo/dead")
            client.call("promise.settle", id=f"p-{number}", state="resolved")

        server.until("resonate_messages_waiting", lambda waiting: waiting == 4, group="foo", kind="unblock")
        assert server.read("resonate_messages_waiting", group="foo", kind="execute") == 0


class TestMachine:
    def test_sizes_are_those_of_the_files_and_the_disk(self, server: Operated, client: Client, tmp_path: Path) -> None:
        client.create("p")
        status = os.statvfs(tmp_path)
        free = server.read("resonate_disk_free_bytes")
        assert server.read("resonate_database_bytes") == (tmp_path / "state.db").stat().st_size
        assert server.read("resonate_database_log_bytes") == (tmp_path / "state.db-wal").stat().st_size
        assert free is not None and abs(free - status.f_bavail * status.f_frsize) < 2**30

    @pytest.mark.parametrize("stored_meanwhile", [True, False])
    def test_a_server_that_met_a_clock_ahead_says_so_and_is_put_right_by_a_restart_if_nothing_was_stored_meanwhile(
        self, server: Operated, client: Client, tmp_path: Path, stored_meanwhile: bool
    ) -> None:
        client.create("p")
        assert abs(server.read("resonate_clock_offset_seconds") or 0) < 1
        server.stop()
        with closing(sqlite3.connect(tmp_path / "state.db")) as db, db:
            db.execute("UPDATE server SET time = time + 3600000")
            if stored_meanwhile:
                db.execute("UPDATE promises SET created_at = created_at + 3600000")
        server.start()

        ahead = 3_600 if stored_meanwhile else 0
        assert abs((server.read("resonate_clock_offset_seconds") or 0) - ahead) < 30
        assert abs(server.ready()[1]["clockOffsetSeconds"] - ahead) < 30
        assert ("1.0 h ahead of this machine's clock" in server.output()) is stored_meanwhile

    def test_failures_of_a_push_are_counted_by_target(self, server: Operated, client: Client) -> None:
        dead = f"http://127.0.0.1:{free_port()}"
        client.create("t", target=f"{dead}/work")
        server.until("resonate_push_failures_total", lambda failures: failures == 1, target=dead)

    def test_many_targets_do_not_cause_a_flood_of_series(self, server: Operated, client: Client) -> None:
        for number in range(MAX_TARGETS + 5):
            client.create(f"t-{number}", target=f"http://127.0.0.1:{number + 1}/")
        server.until("resonate_push_failures_total", lambda failures: failures == 5, target="other")


class TestReadiness:
    def test_a_healthy_server_says_so_with_figures(self, server: Operated, client: Client) -> None:
        client.create("p")
        status, body = server.ready()
        assert status == 200 and body["ready"]
        assert body["checks"] == {"store": "ok", "disk": "ok", "commit": "ok", "loop": "ok"}
        assert body["freeDiskBytes"] > 0
        assert 0 <= body["lastCommitSeconds"] < 60

    def test_a_blocked_event_loop_is_reported_for_some_seconds(self, server: Operated) -> None:
        server.freeze()
        time.sleep(3.5)
        server.thaw()
        wait_until(lambda: server.ready()[0] == 503, "it is not ready")
        _, body = server.ready()

        assert "it stalled for" in body["checks"]["loop"]
        assert [each for each in body["checks"].values() if each != "ok"] == [body["checks"]["loop"]]
        assert body["loopLagSeconds"] > 2
        wait_until(server.is_ready, "it is ready again")
