"""Leases of workers that are gone are given back early (protocol section 9, item 4)."""

import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.basics import wait_until
from harness.server import Client, ServerProcess
from harness.stream import Stream

GRACE_S = 1.5
LEASE_MS = 60_000
SHORT_STREAMS = (
    "from resonate_server.http import stream; stream.STREAM_S, stream.STREAM_JITTER_S = 0.4, 0.0; "
    "from resonate_server.cli import main; main()"
)
"""A server that ends every stream after 0.4 s, as it otherwise does after minutes."""

Connect = Callable[[str, str], Stream]


def start(log: Path, path: Path | None = None) -> ServerProcess:
    return ServerProcess(log, path, RESONATE_TASKS__WORKER_GRACE=str(int(GRACE_S * 1_000))).start()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    process = start(tmp_path_factory.mktemp("leases") / "log")
    yield process
    process.stop()


@pytest.fixture
def name() -> str:
    """Of a group, and of a task in it."""
    return f"l-{uuid.uuid4().hex[:8]}"


def claim(client: Client, stream: Stream, name: str, pid: str, ttl: int = LEASE_MS) -> None:
    """Give the group a task, and let the process claim it."""
    client.create(name, target=f"poll://any@{name}")
    version = stream.message()["data"]["task"]["version"]
    assert client.call("task.acquire", id=name, version=version, pid=pid, ttl=ttl).status == 200


def is_held(client: Client, name: str, pid: str) -> bool:
    task = client.call("task.get", id=name).data["task"]
    return (task["state"], task.get("pid")) == ("acquired", pid)


def test_what_a_lost_worker_held_is_offered_again_within_the_grace_period(
    client: Client, connect: Connect, name: str
) -> None:
    dying = connect(name, f"{name}-1")
    claim(client, dying, name, f"{name}-1")
    other = connect(name, f"{name}-2")
    dying.close()
    began = time.monotonic()
    message = other.message()
    took = time.monotonic() - began

    assert message["data"]["task"] == {"id": name, "version": 1}
    assert took > GRACE_S / 2


def test_the_lost_worker_s_writes_are_refused_from_then_on_once_another_holds_the_task(
    client: Client, connect: Connect, name: str
) -> None:
    dying = connect(name, f"{name}-1")
    claim(client, dying, name, f"{name}-1")
    other = connect(name, f"{name}-2")
    dying.close()
    other.message()
    client.call("task.acquire", id=name, version=1, pid=f"{name}-2", ttl=LEASE_MS)
    settle = {"kind": "promise.settle", "head": {}, "data": {"id": name, "state": "resolved"}}

    assert client.call("task.fulfill", id=name, version=1, action=settle).status == 409
    assert client.call("task.fulfill", id=name, version=2, action=settle).status == 200


def test_all_its_leases_and_nobody_else_s(client: Client, connect: Connect, name: str) -> None:
    dying, living = connect(f"{name}-a", f"{name}-1"), connect(f"{name}-b", f"{name}-2")
    for suffix in ("x", "y"):
        client.create(f"{name}-{suffix}", target=f"poll://any@{name}-a")
        client.call("task.acquire", id=f"{name}-{suffix}", version=0, pid=f"{name}-1", ttl=LEASE_MS)
    claim(client, living, f"{name}-b", f"{name}-2")
    dying.close()

    for suffix in ("x", "y"):
        wait_until(lambda: not is_held(client, f"{name}-{suffix}", f"{name}-1"), "it is given back")  # noqa: B023
    assert is_held(client, f"{name}-b", f"{name}-2")


def test_of_a_worker_that_promised_to_be_back_at_once_no_grace_is_waited_for(tmp_path: Path, name: str) -> None:
    server = ServerProcess(tmp_path / "log", RESONATE_TASKS__WORKER_GRACE="3600000").start()
    dying = Stream(server.port, name, f"{name}-1", Resonate_Back_Within="150")
    claim(server.client(), dying, name, f"{name}-1")
    other = Stream(server.port, name, f"{name}-2")
    dying.close()

    assert other.message()["data"]["task"] == {"id": name, "version": 1}
    server.client().call("task.heartbeat", pid=f"{name}-1", tasks=[{"id": name, "version": 1}])
    wait_until(lambda: "is alive: it had been given up" in server.output(), "a sign of life tells that it was wrong")
    server.stop()


def test_of_a_worker_that_promised_to_be_heard_of_no_lease_is_waited_for(
    server: ServerProcess, client: Client, name: str
) -> None:
    """Frozen, or cut off: its stream is open still."""
    silent = Stream(server.port, name, f"{name}-1", Resonate_Heard_Within="300")
    assert "Resonate-Heard-Within: 300" in silent.head
    claim(client, silent, name, f"{name}-1")
    other = Stream(server.port, name, f"{name}-2", Resonate_Heard_Within="300")

    def is_given_away() -> bool:
        client.call("task.heartbeat", pid=f"{name}-2", tasks=[])
        return not is_held(client, name, f"{name}-1")

    wait_until(is_given_away, "the other one takes its work over")
    assert other.message()["data"]["task"] == {"id": name, "version": 1}


def test_who_promises_nothing_is_not_told_that_anybody_listens(connect: Connect, name: str) -> None:
    assert "Resonate-Heard-Within" not in connect(name, name).head


def test_a_reconnect_within_the_grace_period_keeps_the_lease(client: Client, connect: Connect, name: str) -> None:
    stream = connect(name, name)
    claim(client, stream, name, name)
    stream.close()
    time.sleep(GRACE_S / 3)
    connect(name, name)
    time.sleep(GRACE_S + 0.25)

    assert is_held(client, name, name)


def test_a_heartbeat_within_the_grace_period_keeps_the_lease(client: Client, connect: Connect, name: str) -> None:
    stream = connect(name, name)
    claim(client, stream, name, name)
    stream.close()
    time.sleep(GRACE_S / 3)
    client.call("task.heartbeat", pid=name, tasks=[{"id": name, "version": 1}])
    time.sleep(GRACE_S + 0.25)

    assert is_held(client, name, name)


def test_another_process_s_heartbeat_does_not(client: Client, connect: Connect, name: str) -> None:
    stream = connect(name, name)
    claim(client, stream, name, name)
    stream.close()
    client.call("task.heartbeat", pid="somebody-else", tasks=[{"id": name, "version": 1}])

    wait_until(lambda: not is_held(client, name, name), "it is given back")


def test_the_replaced_stream_of_a_process_that_is_back_already_counts_for_nothing(
    client: Client, connect: Connect, name: str
) -> None:
    """The new stream comes before the end of the old one is noticed."""
    old = connect(name, name)
    claim(client, old, name, name)
    connect(name, name)
    old.close()
    time.sleep(GRACE_S + 0.25)

    assert is_held(client, name, name)


def test_a_process_without_a_stream_keeps_its_leases(client: Client, connect: Connect, name: str) -> None:
    claim(client, connect(name, "reader"), name, "no-stream")
    time.sleep(GRACE_S + 0.25)

    assert is_held(client, name, "no-stream")


def test_an_open_stream_prolongs_no_lease(client: Client, connect: Connect, name: str) -> None:
    """A frozen process keeps its stream."""
    stream = connect(name, name)
    claim(client, stream, name, name, ttl=200)

    assert stream.message()["data"]["task"] == {"id": name, "version": 1}


def test_what_a_frozen_worker_held_is_offered_to_one_that_lives(client: Client, connect: Connect, name: str) -> None:
    """Its stream is open still; whoever is told there may hear it when it is too late."""
    frozen = connect(name, f"{name}-1")
    claim(client, frozen, name, f"{name}-1", ttl=200)
    other = connect(name, f"{name}-2")

    assert other.message()["data"]["task"] == {"id": name, "version": 1}
    assert frozen.nothing()


@pytest.mark.parametrize("end", [ServerProcess.stop, ServerProcess.kill], ids=["SIGTERM", "SIGKILL"])
def test_the_server_s_own_end_takes_no_leases(
    tmp_path: Path, name: str, end: Callable[[ServerProcess], int | None]
) -> None:
    server = start(tmp_path / "log", tmp_path / "state.db")
    stream = Stream(server.port, name, name)
    claim(server.client(), stream, name, name)
    end(server)
    stream.close()
    server.start()
    time.sleep(GRACE_S + 0.25)
    held = is_held(server.client(), name, name)
    server.stop()

    assert held


def test_a_worker_that_just_left_when_the_server_stops_keeps_its_lease(tmp_path: Path, name: str) -> None:
    server = start(tmp_path / "log", tmp_path / "state.db")
    stream = Stream(server.port, name, name)
    claim(server.client(), stream, name, name)
    stream.close()
    server.stop()
    server.start()
    held = is_held(server.client(), name, name)
    server.stop()

    assert held


def test_a_stream_that_the_server_ends_takes_no_leases(tmp_path: Path, name: str) -> None:
    server = ServerProcess(tmp_path / "log", RESONATE_TASKS__WORKER_GRACE=str(int(GRACE_S * 1_000)))
    server.command[1:3] = ["-c", SHORT_STREAMS]
    assert server.command[0] == sys.executable
    server.start()
    client, stream = server.client(), Stream(server.port, name, name)
    claim(client, stream, name, name)
    with pytest.raises(EOFError):
        stream.message()
    time.sleep(GRACE_S + 0.25)
    held = is_held(client, name, name)
    server.stop()

    assert held
