"""What ``/metrics`` tells (protocol section 6), read as Prometheus would read it."""

import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.basics import free_port, wait_until
from harness.server import Client, ServerProcess
from harness.stream import Stream
from prometheus_client.parser import text_string_to_metric_families

Read = Callable[..., float]


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[ServerProcess]:
    process = ServerProcess(
        tmp_path_factory.mktemp("metrics") / "log",
        RESONATE_OBSERVABILITY__METRICS_PORT=str(port),
        RESONATE_DEBUG="true",
    ).start()
    yield process
    process.stop()


@pytest.fixture
def read(port: int) -> Read:
    """The value of a sample; 0 while there is none."""
    return lambda name, **labels: sample(port, name, **labels)


def fetch(port: int) -> tuple[str, str]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as response:
        return response.headers["Content-Type"], response.read().decode()


def sample(port: int, name: str, **labels: str) -> float:
    for family in text_string_to_metric_families(fetch(port)[1]):
        for each in family.samples:
            if each.name == name and each.labels == labels:
                return each.value
    return 0


@pytest.fixture
def id() -> str:
    return f"m-{uuid.uuid4().hex[:8]}"


def test_the_text_format_is_served_on_its_own_port(port: int, server: ServerProcess) -> None:
    content_type, text = fetch(port)
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


def test_kinds_that_do_not_exist_make_no_series_of_their_own(client: Client, port: int) -> None:
    client.call("made.up.by.somebody")

    assert "made.up" not in fetch(port)[1]


def test_messages_are_counted_when_handed_to_delivery(client: Client, read: Read, id: str) -> None:
    executes, unblocks = (read("resonate_messages_total", kind=kind) for kind in ("execute", "unblock"))
    stream = Stream(_port_of(client), id, "w")
    client.create(id, target=f"poll://any@{id}")
    client.call("promise.register_listener", awaited=id, address=f"poll://uni@{id}/w")
    client.call("promise.settle", id=id, state="resolved")
    stream.message(), stream.message()
    stream.close()

    assert read("resonate_messages_total", kind="execute") == executes + 1
    assert read("resonate_messages_total", kind="unblock") == unblocks + 1


def _port_of(client: Client) -> int:
    port = client._connection.port
    assert port is not None
    return port


def test_connected_workers_and_waiting_tasks_by_group(client: Client, read: Read, id: str) -> None:
    streams = [Stream(_port_of(client), id, f"w{number}") for number in range(2)]
    _until(lambda: read("resonate_connected_workers", group=id) == 2)
    for number in range(3):
        client.create(f"{id}-{number}", target=f"poll://uni@{id}/w0")
    _until(lambda: read("resonate_messages_waiting", group=id, kind="execute") == 3)
    client.call("task.acquire", id=f"{id}-0", version=0, pid="w0", ttl=60_000)
    _until(lambda: read("resonate_messages_waiting", group=id, kind="execute") == 2)
    for stream in streams:
        stream.close()


def _until(look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not look():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


STATES = ("pending", "acquired", "suspended", "halted", "fulfilled")


def test_tasks_are_counted_by_state(client: Client, read: Read, id: str) -> None:
    def changes(before: list[float]) -> list[float]:
        return [read("resonate_tasks", state=state) - earlier for state, earlier in zip(STATES, before, strict=True)]

    before = [read("resonate_tasks", state=state) for state in STATES]
    client.create(id, target="poll://any@nobody")
    created = changes(before)
    client.call("task.acquire", id=id, version=0, pid="p", ttl=60_000)
    claimed = changes(before)
    client.call("task.halt", id=id)
    halted = changes(before)
    client.call("promise.settle", id=id, state="resolved")

    assert created == [1, 0, 0, 0, 0]
    assert claimed == [0, 1, 0, 0, 0]
    assert halted == [0, 0, 0, 1, 0]
    assert changes(before) == [0, 0, 0, 0, 1]


def test_commits_claims_and_settlements_are_timed(client: Client, read: Read, id: str) -> None:
    names = ["resonate_commit_batch_size", "resonate_commit_duration_seconds", "resonate_task_claim_seconds"]
    names += ["resonate_promise_settlement_seconds"]
    before = [read(f"{name}_count") for name in names]
    waited = read("resonate_task_claim_seconds_sum")
    client.create(id, target="poll://any@nobody")
    time.sleep(0.1)
    client.call("task.acquire", id=id, version=0, pid="p", ttl=60_000)
    client.call("promise.settle", id=id, state="resolved")
    after = [read(f"{name}_count") for name in names]

    assert all(now > earlier for now, earlier in zip(after, before, strict=True))
    assert after[2:] == [before[2] + 1, before[3] + 1]
    assert 0.1 <= read("resonate_task_claim_seconds_sum") - waited < 60


def test_a_lost_lease_is_counted_and_the_time_to_the_next_claim_measured(client: Client, read: Read, id: str) -> None:
    lost, recoveries = read("resonate_leases_lost_total"), read("resonate_task_recovery_seconds_count")
    first_claims = read("resonate_task_claim_seconds_count")
    client.create(id, target="poll://any@nobody")
    client.call("task.acquire", id=id, version=0, pid="p", ttl=50)
    _until(lambda: read("resonate_leases_lost_total") > lost)
    client.call("task.acquire", id=id, version=1, pid="q", ttl=60_000)

    assert read("resonate_leases_lost_total") == lost + 1
    assert read("resonate_task_recovery_seconds_count") == recoveries + 1
    assert read("resonate_task_claim_seconds_count") == first_claims + 1


def test_promises_of_schedules_are_counted(client: Client, read: Read, id: str) -> None:
    before = read("resonate_schedule_promises_total")
    tags = {"resonate:target": "poll://any@nobody"}
    client.call(
        "schedule.create",
        id=id,
        cron="* * * * * *",
        promiseId="{{.id}}{{.timestamp}}",
        promiseTimeout=1,
        promiseTags=tags,
    )
    _until(lambda: read("resonate_schedule_promises_total") > before)
    client.call("schedule.delete", id=id)


def test_figures_of_tasks_are_there_after_a_restart(tmp_path: Path) -> None:
    port = free_port()
    server = ServerProcess(
        tmp_path / "log", tmp_path / "state.db", RESONATE_OBSERVABILITY__METRICS_PORT=str(port)
    ).start()
    server.client().create("x", target="poll://any@nobody")
    server.stop()
    server.start()
    _until(lambda: sample(port, "resonate_tasks", state="pending") == 1)
    server.stop()


def test_after_a_reset_no_tasks_are_counted(client: Client, read: Read, id: str) -> None:
    client.create(id, target="poll://any@nobody")
    client.call("debug.reset")

    assert [read("resonate_tasks", state=state) for state in STATES] == [0] * 5


def test_what_is_changed_while_the_clock_stands_still_is_counted(client: Client, read: Read, id: str) -> None:
    before = read("resonate_tasks", state="pending")
    client.call("debug.start")
    client.create(id, target="poll://any@nobody")
    client.call("debug.stop")

    assert read("resonate_tasks", state="pending") == before + 1


def test_without_a_port_there_are_none_and_a_taken_port_does_not_stop_the_start(
    tmp_path: Path, port: int, server: ServerProcess
) -> None:
    other = ServerProcess(tmp_path / "log", RESONATE_OBSERVABILITY__METRICS_PORT=str(port)).start()
    wait_until(lambda: "metrics are off" in other.output(), "it says that its metrics are off")
    other.stop()

    assert server.is_ready()
