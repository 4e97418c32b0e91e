"""A claim that is resent because its answer was lost gets the same answer; any other second claim is a conflict
(protocol section 9, item 10)."""

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


def test_an_unread_answer_is_given_again(server: ServerProcess, client: Client, id: str, corr_id: str) -> None:
    """Whether or not the claim took effect before the connection broke, the worker has the task in the end."""
    client.create(id, target="poll://any@nobody")
    body = envelope("task.acquire", corr_id, id=id, version=0, **CLAIM)
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    reply = acquire(client, corr_id, id)

    assert reply.status == 200
    assert reply.data["task"] == {"id": id, "state": "acquired", "version": 1, "resumes": 0} | CLAIM


def test_a_claim_is_remembered_across_a_restart(tmp_path: Path, id: str, corr_id: str) -> None:
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
