"""``debug.*``: time moved by hand, and the whole state visible (protocol section 3.3)."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from harness.server import FAR, VERSION, Client, Reply, ServerProcess

DEBUG = {"debug.start": {}, "debug.stop": {}, "debug.reset": {}, "debug.snap": {}, "debug.tick": {"time": 1}}


@pytest.fixture(scope="module")
def debugged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    process = ServerProcess(tmp_path_factory.mktemp("debug") / "log", RESONATE_DEBUG="true").start()
    yield process
    process.stop()


@pytest.fixture
def still(debugged: ServerProcess) -> Iterator[Client]:
    """A client of an empty server with a stopped clock."""
    client = debugged.client()
    assert client.call("debug.reset") == client.call("debug.start") == Reply(status=200, data={})
    yield client
    client.call("debug.stop")


def at(client: Client, now: int, kind: str, **data: Any) -> Reply:
    """Send a request at time ``now``."""
    head = {"corrId": f"at-{now}", "version": VERSION, "resonate:debug_time": now}
    return client.post(json.dumps({"kind": kind, "head": head, "data": data}).encode())


def create_at(client: Client, now: int, id: str, timeout_at: int = FAR, **tags: str) -> Reply:
    named = {f"resonate:{name}": value for name, value in tags.items()}
    return at(client, now, "promise.create", id=id, timeoutAt=timeout_at, tags=named)


@pytest.mark.parametrize("kind", DEBUG)
def test_it_is_forbidden_unless_switched_on(client: Client, kind: str) -> None:
    assert client.call(kind, **DEBUG[kind]).status == 403


def test_a_time_in_the_head_is_ignored_unless_enabled(client: Client) -> None:
    assert create_at(client, 5, "ignored").data["promise"]["createdAt"] > 1_000_000_000_000


def test_a_time_of_a_wrong_type_is_refused_always(client: Client, still: Client) -> None:
    body = {
        "kind": "promise.get",
        "head": {"corrId": "1", "version": VERSION, "resonate:debug_time": "5"},
        "data": {"id": "x"},
    }

    assert client.post(json.dumps(body).encode()).status == 400
    assert still.post(json.dumps(body).encode()).status == 400
