"""A claim that is resent because its answer was lost gets the same answer; any other second claim is a conflict
(protocol section 9, item 10)."""

import socket
import uuid
from typing import Any

import pytest
from harness.server import FAR, Client, Reply, ServerProcess
from integration.calls import action, request
from integration.servers import Start

CLAIM: dict[str, Any] = {"pid": "p", "ttl": 60_000}


@pytest.fixture
def corr_id() -> str:
    return uuid.uuid4().hex


def claim_of(corr_id: str, id: str) -> bytes:
    return request("task.acquire", {"corrId": corr_id}, id=id, version=0, **CLAIM)


def create(client: Client, corr_id: str, id: str) -> Reply:
    created = action("promise.create", id=id, timeoutAt=FAR, tags={"resonate:target": "poll://any@nobody"})
    return client.post(request("task.create", {"corrId": corr_id}, action=created, **CLAIM))


def test_an_unread_answer_is_given_again(server: ServerProcess, client: Client, id: str, corr_id: str) -> None:
    """Whether or not the claim took effect before the connection broke, the worker has the task in the end."""
    client.create(id, target="poll://any@nobody")
    body = claim_of(corr_id, id)
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    reply = client.post(body)

    assert reply.status == 200
    assert reply.data["task"] == {"id": id, "state": "acquired", "version": 1, "resumes": 0} | CLAIM


def test_a_claim_is_remembered_across_a_restart(start: Start, id: str, corr_id: str) -> None:
    server = start("state.db")
    server.client().create(id, target="poll://any@nobody")
    claimed = server.client().post(claim_of(corr_id, id))
    created = create(server.client(), corr_id, f"{id}-c")
    server.kill()
    server.start()
    client = server.client()
    again = [client.post(claim_of(corr_id, id)), create(client, corr_id, f"{id}-c")]
    other = client.post(claim_of(uuid.uuid4().hex, id))

    assert again == [claimed, created]
    assert other.status == 409
