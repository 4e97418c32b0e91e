"""foo's HTTP interface, with all services running."""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http import HTTPStatus

import pytest
from harness.basics import wait_until
from harness.foo import Reply

from .programs import Stack


def is_problem(reply: Reply, status: HTTPStatus) -> bool:
    return (
        reply.status == status
        and reply.content_type == "application/problem+json"
        and reply.json["status"] == status
        and reply.json["title"] == status.phrase
    )


def test_post_waits_for_the_result(running: Stack) -> None:
    reply = running.post()
    assert (reply.status, reply.content_type) == (200, "application/json")
    assert reply.json["message"] == 3
    assert reply.json["id"].startswith("foo-")


@pytest.mark.parametrize("body", [b" \n", b'{"pause": 0.1}', b'{"running": 0.1}'])
def test_valid_bodies_are_accepted(running: Stack, body: bytes) -> None:
    assert running.post(body).json["message"] == 3


def test_the_content_type_does_not_matter(running: Stack) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert running.request("POST", "/foo", b'{"pause": 0}', headers).json["message"] == 3


@pytest.mark.parametrize(
    ("body", "key", "complaint"),
    [
        (b"pause=1", "a", "JSON"),
        (b"[" * 10_000, "a", "JSON"),
        (b'{"pause": 3600.1}', "a", "pause"),
        (b"", "", "Idempotency-Key"),
        (b"", "a:b", "colon"),
        (b"", "ü", "Idempotency-Key"),
        (b"", '""', "Idempotency-Key"),
        (b"", "x" * 129, "Idempotency-Key"),
    ],
)
def test_invalid_bodies_and_keys_are_refused(running: Stack, body: bytes, key: str, complaint: str) -> None:
    reply = running.post(body, key=key)
    assert is_problem(reply, HTTPStatus.BAD_REQUEST)
    assert complaint in reply.json["detail"]


def test_the_key_is_the_id_and_a_repeated_request_joins_the_chain(running: Stack) -> None:
    first = running.post(key="order-17.a_b~c")
    second = running.post(key="order-17.a_b~c")
    quoted = running.post(key='"order-17.a_b~c"')
    assert first.json == second.json == quoted.json == {"id": "order-17.a_b~c", "message": 3}
    assert running.program("baz").count("running function baz  promise=order-17.a_b~c:1.1 ") == 1


def test_a_repeated_request_waits_for_the_running_chain(running: Stack) -> None:
    with ThreadPoolExecutor(2) as threads:
        replies = threads.map(lambda _: running.post({"pause": 1}, key="twice"), range(2))
    assert [reply.json for reply in replies] == [{"id": "twice", "message": 3}] * 2


def test_respond_async_answers_at_once_and_get_follows_the_chain(running: Stack) -> None:
    reply = running.post({"pause": 600}, key="later", prefer="respond-async")
    assert (reply.status, reply.json) == (202, {"id": "later", "state": "pending"})
    assert reply.headers["Location"] == "/foo/later"
    assert reply.headers["Preference-Applied"] == "respond-async"
    assert running.get("/foo/later").json == {"id": "later", "state": "pending"}
    running.client().end_sleep("later")
    wait_until(lambda: running.get("/foo/later").json["state"] != "pending", "the chain ends")
    assert running.get("/foo/later").json == {"id": "later", "state": "resolved", "message": 3}
    again = running.post(key="later", prefer="respond-async")
    assert (again.status, again.json) == (200, {"id": "later", "message": 3})


def test_wait_answers_after_the_given_seconds(running: Stack) -> None:
    began = time.monotonic()
    reply = running.post({"pause": 20}, prefer="wait=1")
    assert time.monotonic() - began >= 1
    assert (reply.status, reply.headers["Preference-Applied"]) == (202, "wait=1")
    assert reply.headers["Location"] == f"/foo/{reply.json['id']}"


def test_wait_answers_sooner_if_it_can(running: Stack) -> None:
    reply = running.post(prefer="respond-async, wait=30")
    assert (reply.status, reply.json["message"]) == (200, 3)
    assert reply.headers["Preference-Applied"] == "respond-async, wait=30"


@pytest.mark.parametrize("path", ["/foo/nobody", "/foo/a:b", "/foo/%00", "/foo/", "/bar", "/"])
def test_unknown_paths_and_ids_give_404(running: Stack, path: str) -> None:
    assert is_problem(running.get(path), HTTPStatus.NOT_FOUND)


def test_a_method_that_is_not_allowed(running: Stack) -> None:
    reply = running.get("/foo")
    assert is_problem(reply, HTTPStatus.METHOD_NOT_ALLOWED)
    assert "POST" in reply.headers["Allow"]


def test_a_body_that_is_too_large(running: Stack) -> None:
    assert is_problem(running.post(b" " * 20_000), HTTPStatus.REQUEST_ENTITY_TOO_LARGE)


def test_300_waiting_requests_block_neither_health_nor_each_other(running: Stack) -> None:
    with closing([send_waiting_request(running, f"crowd-{number}") for number in range(300)]) as waiting:
        wait_until(lambda: running.get("/foo/crowd-299").status == 200, "all have begun", 60)
        assert running.get("/health").status == 200
        assert running.post().json["message"] == 3
        for connection in waiting:
            assert b'"message":3' in read_all(connection)


def test_clients_that_do_not_close_their_connections_delay_nobody(running: Stack) -> None:
    with closing([send_waiting_request(running, f"lingering-{number}", pause=0) for number in range(20)]):
        wait_until(lambda: running.get("/foo/lingering-19").json.get("message") == 3, "they are answered")
        began = time.monotonic()
        for _ in range(3):
            assert running.get("/health").status == 200
        assert time.monotonic() - began < 15


@contextmanager
def closing(connections: list[socket.socket]) -> Iterator[list[socket.socket]]:
    """Close them all in the end, including those added meanwhile."""
    try:
        yield connections
    finally:
        for connection in connections:
            connection.close()


def send_waiting_request(stack: Stack, key: str | None, pause: int = 3) -> socket.socket:
    connection = stack.connect()
    body = f'{{"pause": {pause}}}'
    line = f"Idempotency-Key: {key}\r\n" if key else ""
    head = f"POST /foo HTTP/1.1\r\nHost: 127.0.0.1\r\n{line}Content-Length: {len(body)}\r\n\r\n"
    connection.sendall((head + body).encode())
    return connection


def read_all(connection: socket.socket) -> bytes:
    received = b""
    while chunk := connection.recv(4096):
        received += chunk
    return received
