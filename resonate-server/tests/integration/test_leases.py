"""Leases of workers that are gone end early (protocol section 9, item 4)."""

import signal
import threading
import time
from collections.abc import Callable

import pytest
from harness.basics import wait_until
from harness.server import Client, ServerProcess
from harness.stream import Stream
from integration.servers import Start

GRACE_S = 1.5
SHORT_STREAMS = (
    "from resonate_server.http import stream; stream.STREAM_S, stream.STREAM_JITTER_S = 0.4, 0.0; "
    "from resonate_server.cli import main; main()"
)
"""A server that ends every stream after 0.4 s instead of after minutes."""

Connect = Callable[[str, str], Stream]


GRACE = {"RESONATE_TASKS__WORKER_GRACE": str(int(GRACE_S * 1_000))}


@pytest.fixture(scope="module")
def server(start_for_all: Start) -> ServerProcess:
    return start_for_all(**GRACE)


@pytest.fixture
def name(id: str) -> str:
    return id


def claim(client: Client, stream: Stream, name: str, pid: str, ttl: int = 60_000) -> None:
    """Give the group a task and let the process claim it."""
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


def test_a_worker_that_promised_to_reconnect_at_once_gets_no_grace_period(start: Start, name: str) -> None:
    server = start(RESONATE_TASKS__WORKER_GRACE="3600000")
    dying = Stream(server.port, name, f"{name}-1", Resonate_Reconnect_Within="150")
    claim(server.client(), dying, name, f"{name}-1")
    other = Stream(server.port, name, f"{name}-2")
    dying.close()

    assert other.message()["data"]["task"] == {"id": name, "version": 1}

    def is_heard() -> bool:
        server.client().call("task.heartbeat", pid=f"{name}-1", tasks=[{"id": name, "version": 1}])
        return "is alive: it had been declared dead" in server.output()

    wait_until(is_heard, "a sign of life tells that it was wrong")


def test_a_worker_that_promised_heartbeats_loses_its_lease_early_when_silent(
    server: ServerProcess, client: Client, name: str
) -> None:
    """The worker is frozen or cut off; its stream is still open."""
    silent = Stream(server.port, name, f"{name}-1", Resonate_Heartbeat_Within="300")
    assert "Resonate-Heartbeat-Within: 300" in silent.head
    assert "Resonate-Heartbeat-Within" not in Stream(server.port, name, "other").head
    claim(client, silent, name, f"{name}-1")
    other = Stream(server.port, name, f"{name}-2", Resonate_Heartbeat_Within="300")

    def is_given_away() -> bool:
        client.call("task.heartbeat", pid=f"{name}-2", tasks=[])
        return not is_held(client, name, f"{name}-1")

    wait_until(is_given_away, "the other one takes its work over")
    assert other.message()["data"]["task"] == {"id": name, "version": 1}


def test_stopping_or_killing_the_server_ends_no_leases(start: Start, name: str) -> None:
    """Neither that of a worker with a stream nor that of one whose stream ended a moment before."""
    server, left = start("state.db", **GRACE), f"{name}-left"
    for each in (name, left):
        claim(server.client(), Stream(server.port, each, each), each, each)
    for end in (server.stop, server.kill):
        staying = Stream(server.port, name, name)
        Stream(server.port, left, left).close()
        end()
        staying.close()
        server.start()
        time.sleep(GRACE_S + 0.25)
        assert is_held(server.client(), name, name)
        assert is_held(server.client(), left, left)


def test_a_server_that_stood_still_ends_no_leases(server: ServerProcess, client: Client, name: str) -> None:
    """Frozen, or its machine asleep: heartbeats could not arrive, nor could a worker whose stream broke before."""
    stream, before = Stream(server.port, name, name), server.count("all leases last longer")
    claim(client, stream, name, name, ttl=5_000)
    other = f"{name}-other"
    broken = Stream(server.port, other, other)
    claim(client, broken, other, other)
    broken.close()
    wait_until(lambda: f"worker gone: {other}" in server.output(), "the server notices the end of the stream")
    server.send(signal.SIGSTOP)
    streams = [stream]
    back = threading.Thread(target=lambda: streams.append(Stream(server.port, other, other)))
    back.start()
    time.sleep(5.5)
    server.send(signal.SIGCONT)
    back.join()
    time.sleep(GRACE_S)

    assert is_held(client, name, name)
    assert is_held(client, other, other)
    wait_until(lambda: not is_held(client, name, name), "its lease ends after the usual time without heartbeats")
    assert server.count("all leases last longer") == before + 1


def test_a_server_that_stands_still_again_and_again_ends_leases_too(
    server: ServerProcess, client: Client, name: str
) -> None:
    """Its machine has too little memory, say. Only the time in between counts."""
    stream = Stream(server.port, name, name)
    claim(client, stream, name, name, ttl=2_500)

    def is_lost() -> bool:
        server.send(signal.SIGSTOP)
        time.sleep(2.1)
        server.send(signal.SIGCONT)
        time.sleep(1.3)
        return not is_held(client, name, name)

    assert any(is_lost() for _ in range(8))


def test_a_stream_that_the_server_ends_costs_no_leases(start: Start, name: str) -> None:
    server = start(program=SHORT_STREAMS, **GRACE)
    client, stream = server.client(), Stream(server.port, name, name)
    claim(client, stream, name, name)
    with pytest.raises(EOFError):
        stream.message()
    time.sleep(GRACE_S + 0.25)
    assert is_held(client, name, name)
