"""The contents of ``/metrics`` (protocol section 6), parsed as Prometheus would, and the alert rules that use them. An
operator learns of trouble in time: each kind is provoked, and the metrics or readiness show it."""

import os
import re
import shutil
import sqlite3
import subprocess
import time
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from harness.basics import free_port, wait_until
from harness.http import request
from harness.metrics import figures, sample
from harness.page import Page
from harness.server import Client, ServerProcess
from harness.stream import Stream
from integration.servers import Start
from prometheus_client.parser import text_string_to_metric_families

from resonate_server.metrics import MAX_TARGETS

Read = Callable[..., float]
Connect = Callable[[str, str], Stream]
FOLDER = Path(__file__).parents[3] / "observability"


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def server(start_for_all: Start, port: int) -> ServerProcess:
    return start_for_all("state.db", RESONATE_OBSERVABILITY__METRICS_PORT=str(port), RESONATE_DEBUG="true")


@pytest.fixture
def read(port: int) -> Read:
    """Read the value of a sample; 0 while there is none."""
    return lambda name, **labels: sample(port, name, **labels) or 0


def test_the_text_format_is_served_on_its_own_port(port: int, server: ServerProcess) -> None:
    answer = request(port, "GET", "/metrics")
    families = {family.name: family.type for family in text_string_to_metric_families(answer.text)}

    assert answer.content_type.startswith("text/plain; version=0.0.4")
    assert families["resonate_request"] == families["resonate_messages"] == "counter"
    assert families["resonate_deliveries"] == families["resonate_schedule_promises"] == "counter"
    assert families["resonate_request_duration_seconds"] == "histogram"
    assert families["resonate_tasks"] == families["resonate_connected_workers"] == "gauge"
    assert server.port != port


def test_requests_are_counted_by_kind_and_status_without_series_for_unknown_kinds(
    client: Client, read: Read, port: int
) -> None:
    def counts() -> list[float]:
        return [
            read("resonate_request_total", kind="promise.get", status="404"),
            read("resonate_request_total", kind="promise.get", status="400"),
            read("resonate_request_total", kind="unknown", status="400"),
            read("resonate_request_total", kind="unknown", status="501"),
            read("resonate_request_duration_seconds_count", kind="promise.get"),
        ]

    before = counts()
    client.call("promise.get", id="unknown")
    client.call("promise.get", id=1)
    client.call("made.up")
    client.post(b"no json")

    assert [after - earlier for after, earlier in zip(counts(), before, strict=True)] == [1, 1, 1, 1, 2]
    assert "made.up" not in figures(port)


def test_messages_are_counted_when_handed_over_for_delivery(
    client: Client, connect: Connect, read: Read, id: str
) -> None:
    executes, unblocks = (read("resonate_messages_total", kind=kind) for kind in ("execute", "unblock"))
    stream = connect(id, "w")
    client.create(id, target=f"poll://any@{id}")
    client.call("promise.register_listener", awaited=id, address=f"poll://uni@{id}/w")
    client.call("promise.settle", id=id, state="resolved")
    stream.message(), stream.message()

    assert read("resonate_messages_total", kind="execute") == executes + 1
    assert read("resonate_messages_total", kind="unblock") == unblocks + 1


def test_connected_workers_and_waiting_tasks_by_group(client: Client, connect: Connect, read: Read, id: str) -> None:
    for number in range(2):
        connect(id, f"w{number}")
    wait_until(lambda: read("resonate_connected_workers", group=id) == 2, "both workers are counted")
    for number in range(3):
        client.create(f"{id}-{number}", target=f"poll://uni@{id}/w0")
    wait_until(lambda: read("resonate_messages_waiting", group=id, kind="execute") == 3, "all tasks are counted")
    client.call("task.acquire", id=f"{id}-0", version=0, pid="w0", ttl=60_000)
    wait_until(lambda: read("resonate_messages_waiting", group=id, kind="execute") == 2, "one is no longer counted")


def test_without_a_port_there_are_no_metrics_and_a_taken_port_does_not_stop_the_start(
    start: Start, port: int, server: ServerProcess
) -> None:
    other = start(RESONATE_OBSERVABILITY__METRICS_PORT=str(port))
    wait_until(lambda: "metrics are off" in other.output(), "it says that its metrics are off")
    assert server.is_ready()


def test_answers_for_a_process_that_is_dead_do_not_count_as_tasks(
    client: Client, connect: Connect, read: Read, id: str
) -> None:
    connect(id, "alive")
    for number in range(4):
        client.create(f"{id}-{number}")
        client.call("promise.register_listener", awaited=f"{id}-{number}", address=f"poll://uni@{id}/dead")
        client.call("promise.settle", id=f"{id}-{number}", state="resolved")

    wait_until(lambda: read("resonate_messages_waiting", group=id, kind="unblock") == 4, "all answers are counted")
    assert read("resonate_messages_waiting", group=id, kind="execute") == 0


def test_failures_of_a_push_are_counted_by_target_without_a_flood_of_series(client: Client, read: Read) -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    client.create("pushed", target=f"{dead}/work")
    wait_until(lambda: read("resonate_push_failures_total", target=dead) == 1, "the failure is counted")
    for number in range(MAX_TARGETS + 4):
        client.create(f"pushed-{number}", target=f"http://127.0.0.1:{number + 1}/")
    wait_until(lambda: read("resonate_push_failures_total", target="other") == 5, "the others are counted as one")


def test_sizes_are_those_of_the_files_and_the_disk(server: ServerProcess, client: Client, read: Read) -> None:
    client.create("p")
    folder = server.log.parent
    status, free = os.statvfs(folder), read("resonate_disk_free_bytes")
    assert read("resonate_database_bytes") == (folder / "state.db").stat().st_size
    assert read("resonate_database_log_bytes") == (folder / "state.db-wal").stat().st_size
    assert abs(free - status.f_bavail * status.f_frsize) < 2**30


# ── a server that is stopped, or stands still ──


@pytest.fixture
def operated(start: Start) -> ServerProcess:
    return start("state.db", RESONATE_OBSERVABILITY__METRICS_PORT=str(free_port()))


@pytest.fixture
def read_it(operated: ServerProcess) -> Read:
    return lambda name, **labels: sample(int(operated.env["RESONATE_OBSERVABILITY__METRICS_PORT"]), name, **labels) or 0


def ready(server: ServerProcess) -> tuple[int, Any]:
    got = Page(server.port).get("/ready")
    return got.status, got.json


def test_after_a_restart_the_group_and_the_age_of_its_task_are_still_reported(
    operated: ServerProcess, read_it: Read
) -> None:
    operated.client().create("t", target="poll://any@bar")
    time.sleep(2)
    operated.kill()
    operated.start()

    wait_until(lambda: read_it("resonate_messages_waiting", group="bar", kind="execute") == 1, "the task is counted")
    assert read_it("resonate_connected_workers", group="bar") == 0
    assert read_it("resonate_oldest_task_seconds", group="bar", state="pending") >= 2


@pytest.mark.parametrize("stored_meanwhile", [True, False])
def test_a_server_that_met_a_clock_ahead_says_so_and_is_put_right_by_a_restart_if_nothing_was_stored_meanwhile(
    operated: ServerProcess, read_it: Read, tmp_path: Path, stored_meanwhile: bool
) -> None:
    operated.client().create("p")
    assert abs(read_it("resonate_clock_offset_seconds")) < 1
    operated.stop()
    with closing(sqlite3.connect(tmp_path / "state.db")) as db, db:
        db.execute("UPDATE server SET time = time + 3600000")
        if stored_meanwhile:
            db.execute("UPDATE promises SET created_at = created_at + 3600000")
    operated.start()

    ahead = 3_600 if stored_meanwhile else 0
    assert abs(read_it("resonate_clock_offset_seconds") - ahead) < 30
    assert abs(ready(operated)[1]["clockOffsetSeconds"] - ahead) < 30
    assert ("1.0 h ahead of this machine's clock" in operated.output()) is stored_meanwhile


def test_a_healthy_server_says_so_and_a_blocked_event_loop_is_reported_for_some_seconds(
    operated: ServerProcess,
) -> None:
    operated.client().create("p")
    status, body = ready(operated)
    assert status == 200 and body["ready"]
    assert body["checks"] == {"store": "ok", "disk": "ok", "commit": "ok", "loop": "ok"}
    assert body["freeDiskBytes"] > 0
    assert 0 <= body["lastCommitSeconds"] < 60

    operated.freeze()
    time.sleep(3.5)
    operated.thaw()
    wait_until(lambda: ready(operated)[0] == 503, "it is not ready")
    _, body = ready(operated)
    assert "it stalled for" in body["checks"]["loop"]
    assert [each for each in body["checks"].values() if each != "ok"] == [body["checks"]["loop"]]
    assert body["loopLagSeconds"] > 2
    wait_until(operated.is_ready, "it is ready again")


# ── alerts ──


@pytest.fixture
def promtool() -> str:
    path = shutil.which("promtool")
    if path is None:
        text = "promtool (Debian package prometheus) is not installed: the alert rules are NOT checked"
        warnings.warn(text, stacklevel=1)
        pytest.skip(text)
    return path


@pytest.mark.parametrize(("what", "file"), [("check", "alerts.yml"), ("test", "alerts_test.yml")])
def test_promtool_finds_nothing_wrong(promtool: str, what: str, file: str) -> None:
    done = subprocess.run(
        [promtool, what, "rules", file], cwd=FOLDER, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.usefixtures("server")
def test_rules_name_metrics_that_the_server_has(port: int) -> None:
    there = set(re.findall(r"^# TYPE (\w+)", figures(port), re.MULTILINE))
    named = set(re.findall(r"\bresonate_\w+", (FOLDER / "alerts.yml").read_text()))

    assert {name.removesuffix("_bucket") for name in named} <= there
