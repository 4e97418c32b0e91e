"""The contents of ``/metrics`` (protocol section 6), parsed as Prometheus would, and the alert rules that use them."""

import re
import shutil
import subprocess
import urllib.request
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.basics import free_port, wait_until
from harness.server import Client, ServerProcess
from harness.stream import Stream
from integration.servers import Start, metrics_text, sample
from prometheus_client.parser import text_string_to_metric_families

Read = Callable[..., float]
Connect = Callable[[str, str], Stream]
FOLDER = Path(__file__).parents[3] / "observability"


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def server(start_for_all: Start, port: int) -> ServerProcess:
    return start_for_all(RESONATE_OBSERVABILITY__METRICS_PORT=str(port), RESONATE_DEBUG="true")


@pytest.fixture
def read(port: int) -> Read:
    """Read the value of a sample; 0 while there is none."""
    return lambda name, **labels: sample(port, name, **labels) or 0


def test_the_text_format_is_served_on_its_own_port(port: int, server: ServerProcess) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
        content_type, text = response.headers["Content-Type"], response.read().decode()
    families = {family.name: family.type for family in text_string_to_metric_families(text)}

    assert content_type.startswith("text/plain; version=0.0.4")
    assert families["resonate_request"] == families["resonate_messages"] == "counter"
    assert families["resonate_deliveries"] == families["resonate_schedule_promises"] == "counter"
    assert families["resonate_request_duration_seconds"] == "histogram"
    assert families["resonate_tasks"] == families["resonate_connected_workers"] == "gauge"
    assert server.port != port


def test_requests_are_counted_by_kind_and_status(client: Client, read: Read) -> None:
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


def test_unknown_kinds_do_not_create_series(client: Client, port: int) -> None:
    client.call("made.up.by.somebody")
    assert "made.up" not in metrics_text(port)


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


def test_rules_name_metrics_that_the_server_has(start: Start) -> None:
    """A server in memory has fewer."""
    port = free_port()
    start("state.db", RESONATE_OBSERVABILITY__METRICS_PORT=str(port))
    there = set(re.findall(r"^# TYPE (\w+)", metrics_text(port), re.MULTILINE))
    named = set(re.findall(r"\bresonate_\w+", (FOLDER / "alerts.yml").read_text()))

    assert {name.removesuffix("_bucket") for name in named} <= there
