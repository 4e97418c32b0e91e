"""Bad input gets a clear 4xx, changes nothing, and leaves the connection and the server alive."""

import gzip
import socket

import pytest
from harness import http
from harness.server import Client, ServerProcess
from integration.calls import request

GET = request("promise.get", id="x")
BAD_REQUESTS = {  # one that each step of reading refuses; ``unit/protocol`` has them all
    "not JSON": b"hello",
    "compressed": gzip.compress(GET),
    "lone surrogate": GET.replace(b'"x"', rb'"\ud800"'),
    "unknown version": request("promise.get", {"version": "2020-01-01"}, id="x"),
    "id with NUL": request("promise.get", id="a\0b"),
    "nested 100,000 deep": GET.replace(b'"x"', b'"x", "extra": ' + b"[" * 100_000 + b"]" * 100_000),
}


@pytest.mark.parametrize("body", BAD_REQUESTS.values(), ids=BAD_REQUESTS.keys())
def test_answered_400_with_one_sentence_and_nothing_changed(client: Client, body: bytes) -> None:
    reply = client.post(body)
    assert reply.status == 400
    assert isinstance(reply.data, str)
    assert reply.data
    assert client.call("promise.get", id="x").status == 404


def test_an_unknown_kind_is_answered_501(client: Client) -> None:
    reply = client.call("promise.destroy")
    assert (reply.status, reply.data) == (501, "unknown kind 'promise.destroy'")


def test_a_body_over_the_limit_is_answered_413(server: ServerProcess) -> None:
    assert http.request(server.port, "POST", "/", b"x" * (4 * 1024 * 1024 + 1)).status == 413
    assert server.client().call("promise.get", id="x").status == 404


@pytest.mark.parametrize(
    ("path", "status"), [("promises", 410), ("tasks/", 410), ("schedules/x/y", 410), ("task", 404)]
)
def test_the_api_of_earlier_servers_is_gone(server: ServerProcess, path: str, status: int) -> None:
    assert http.request(server.port, "POST", f"/{path}", b"{}").status == status


GARBAGE = {
    "no HTTP": b"GARBAGE\r\n\r\n",
    "negative length": b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
    "endless header": b"GET /health HTTP/1.1\r\nA: " + b"b" * 100_000 + b"\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "wrong method": b"PUT / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
    "unknown path": b"GET /nope HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


@pytest.mark.parametrize("raw", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_on_the_wire_is_refused_and_does_no_harm(server: ServerProcess, raw: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(4_096)
    assert answer == b"" or answer.split()[1].startswith(b"4")
    assert server.is_ready()


@pytest.mark.parametrize("path", ["/poll/%b/1", "/poll/g/%b"])
def test_a_stream_with_a_name_longer_than_any_address_is_refused(server: ServerProcess, path: str) -> None:
    """It would be remembered, and sent to viewers of the page."""
    for name, status in ((b"x" * 4_097, b"400"), (b"%C3%A9" * 4_096, b"200")):
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
            connection.sendall(b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % (path.encode() % name))
            assert connection.recv(4_096).split()[1] == status


def test_nothing_of_all_this_left_a_traceback_in_the_log(server: ServerProcess) -> None:
    assert "Traceback" not in server.log.read_text()
