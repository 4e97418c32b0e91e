"""A claim whose answer was lost is sent again, and answered again; any other second claim is a conflict (protocol
section 9, item 10)."""

import json
import socket
import uuid
from pathlib import Path
from typing import Any

import pytest
from harness.server import FAR, VERSION, Client, Reply, ServerProcess

CLAIM = {"pid": "p", "ttl": 60_000}
CREATE_TAGS = {"resonate:target": "poll://any@nobody"}


@pytest.fixture
def id() -> str:
    return f"r-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def corr_id() -> str:
    return uuid.uuid4().hex


def envelope(kind: str, corr_id: str, **data: Any) -> bytes:
    return json.dumps({"kind": kind, "head": {"corrId": corr_id, "version": VERSION}, "data": data}).encode()


def acquire(client: Client, corr_id: str, id: str, version: int = 0, **changes: Any) -> Reply:
    return client.post(envelope("task.acquire", corr_id, id=id, version=version, **(CLAIM | changes)))


def create(client: Client, corr_id: str, id: str, **changes: Any) -> Reply:
    action = {"kind": "promise.create", "head": {}, "data": {"id": id, "timeoutAt": FAR, "tags": CREATE_TAGS}}
    return client.post(envelope("task.create", corr_id, action=action, **(CLAIM | changes)))


def test_the_same_claim_again_has_the_same_answer(client: Client, id: str, corr_id: str) -> None:
    client.create(id, target="poll://any@nobody")
    first = acquire(client, corr_id, id)

    assert first.status == 200
    assert first.data["task"]["version"] == 1
    assert acquire(client, corr_id, id) == acquire(client, corr_id, id) == first


def test_the_same_creation_again_has_the_same_answer(client: Client, id: str, corr_id: str) -> None:
    first = create(client, corr_id, id)

    assert first.data["task"]["version"] == 1
    assert create(client, corr_id, id) == first


def test_a_claim_of_what_was_there_by_creation_is_repeated_too(client: Client, id: str, corr_id: str) -> None:
    client.create(id, target="poll://any@nobody")
    first = create(client, corr_id, id)

    assert (first.status, first.data["task"]["version"]) == (200, 1)
    assert create(client, corr_id, id) == first


def test_an_answer_that_nobody_read_is_given_again(
    server: ServerProcess, client: Client, id: str, corr_id: str
) -> None:
    """Whether the claim was carried out before the connection broke or not: the worker has the task in the end."""
    client.create(id, target="poll://any@nobody")
    body = envelope("task.acquire", corr_id, id=id, version=0, **CLAIM)
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    reply = acquire(client, corr_id, id)

    assert reply.status == 200
    assert reply.data["task"] == {"id": id, "state": "acquired", "version": 1, "resumes": 0} | CLAIM


@pytest.mark.parametrize(
    "second", [{"pid": "q"}, {"version": 1}, {"corr_id": "ffffffffffffffffffffffffffffffff"}], ids=str
)
def test_a_claim_that_differs_is_a_conflict(client: Client, id: str, corr_id: str, second: dict[str, Any]) -> None:
    """Two copies of a message in one process must not both win: the version could not tell them apart."""
    client.create(id, target="poll://any@nobody")
    acquire(client, corr_id, id)

    assert acquire(client, **{"corr_id": corr_id, "id": id, **second}).status == 409


@pytest.mark.parametrize("corr_id", ["", "1", "sr-1795541522000", "0123456789"])
def test_a_short_correlation_id_proves_nothing(client: Client, id: str, corr_id: str) -> None:
    """Some clients use the time in milliseconds, so two of their requests may share it."""
    client.create(id, target="poll://any@nobody")

    assert [acquire(client, corr_id, id).status for _ in range(2)] == [200, 409]
    assert [create(client, corr_id, f"{id}-c").status for _ in range(2)] == [200, 409]


def test_a_lease_is_not_prolonged_for_another_task(client: Client, id: str, corr_id: str) -> None:
    """The same correlation id says nothing about another task."""
    for suffix in ("a", "b"):
        client.create(f"{id}-{suffix}", target="poll://any@nobody")
    acquire(client, corr_id, f"{id}-a")
    other = acquire(client, corr_id, f"{id}-b")

    assert other.data["task"]["id"] == f"{id}-b"


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("task.release", {"version": 1}),
        ("task.halt", {}),
        ("promise.settle", {"state": "resolved"}),
    ],
)
def test_a_claim_that_has_ended_is_not_given_again(
    client: Client, id: str, corr_id: str, kind: str, data: dict[str, Any]
) -> None:
    client.create(id, target="poll://any@nobody")
    acquire(client, corr_id, id)
    client.call(kind, id=id, **data)

    assert acquire(client, corr_id, id).status == 409


def test_a_claim_is_not_given_again_to_a_suspended_task(client: Client, id: str, corr_id: str) -> None:
    client.create(id, target="poll://any@nobody")
    client.create(f"{id}-awaited")
    acquire(client, corr_id, id)
    link = {"kind": "promise.register_callback", "head": {}, "data": {"awaited": f"{id}-awaited", "awaiter": id}}
    client.call("task.suspend", id=id, version=1, actions=[link])

    assert acquire(client, corr_id, id).status == 409


def test_a_claim_that_another_followed_is_not_given_again(client: Client, id: str, corr_id: str) -> None:
    client.create(id, target="poll://any@nobody")
    acquire(client, corr_id, id)
    client.call("task.release", id=id, version=1)
    client.call("task.acquire", id=id, version=1, **CLAIM)

    assert acquire(client, corr_id, id).status == 409


def test_the_answer_shows_what_happened_since(client: Client, id: str, corr_id: str) -> None:
    """The preload is of now: the worker's first step after a lost answer should not run twice."""
    client.create(id, target="poll://any@nobody", branch=id)
    acquire(client, corr_id, id)
    client.create(f"{id}.1", branch=id)

    assert [promise["id"] for promise in acquire(client, corr_id, id).data["preload"]] == [f"{id}.1"]


def test_it_is_remembered_over_a_restart(tmp_path: Path, id: str, corr_id: str) -> None:
    server = ServerProcess(tmp_path / "log", tmp_path / "state.db").start()
    server.client().create(id, target="poll://any@nobody")
    claimed = acquire(server.client(), corr_id, id)
    created = create(server.client(), corr_id, f"{id}-c")
    server.kill()
    server.start()
    client = server.client()
    again = [acquire(client, corr_id, id), create(client, corr_id, f"{id}-c")]
    other = acquire(client, uuid.uuid4().hex, id)
    server.stop()

    assert again == [claimed, created]
    assert other.status == 409
