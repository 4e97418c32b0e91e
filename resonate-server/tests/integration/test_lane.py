"""The fast lane of ``POST /`` and the exits from it, seen from a socket: no client can tell the difference."""

import json
import socket
from collections.abc import Iterator
from http.client import HTTPMessage, parse_headers

import pytest
from harness.server import ServerProcess
from integration.calls import request as encode

HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\n"
PATIENCE_S = 10.0


def body(corr_id: str) -> bytes:
    return encode("promise.get", {"corrId": corr_id}, id="nobody")


def request(corr_id: str, *fields: bytes) -> bytes:
    text = body(corr_id)
    lines = b"".join(field + b"\r\n" for field in fields)
    return HEAD + lines + b"Content-Length: %d\r\n\r\n" % len(text) + text


class Peer:
    """A client that sends the given bytes and reads one answer after another."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self._file = self._socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def answer(self) -> tuple[int, HTTPMessage, bytes]:
        """Status, fields and body."""
        status, fields = int(self._file.readline().split()[1]), parse_headers(self._file)
        return status, fields, self._file.read(int(fields.get("Content-Length", "0")))

    def corr_id(self) -> str:
        """Return the correlation id of the next answer."""
        corr_id = json.loads(self.answer()[2])["head"]["corrId"]
        assert isinstance(corr_id, str)
        return corr_id

    def is_closed(self) -> bool:
        """Return whether the server has closed the connection, with nothing left to read."""
        return self._file.read(1) == b""

    def close(self) -> None:
        self._file.close()
        self._socket.close()


@pytest.fixture
def peer(server: ServerProcess) -> Iterator[Peer]:
    peer = Peer(server.port)
    yield peer
    peer.close()


def test_an_answer_has_the_usual_headers(peer: Peer) -> None:
    peer.send(request("1"))
    status, fields, _ = peer.answer()
    assert status == 404
    assert fields["content-type"] == "application/json"
    assert fields["date"].endswith("GMT")


def test_pipelined_requests_are_answered_in_order(peer: Peer) -> None:
    peer.send(b"".join(request(str(number)) for number in range(500)))
    assert [peer.corr_id() for _ in range(500)] == [str(number) for number in range(500)]


def test_malformed_pipelined_requests_are_answered_in_order(peer: Peer) -> None:
    """These are answered at once, without the engine."""
    peer.send((HEAD + b"Content-Length: 2\r\n\r\n{}") * 5_000)
    assert {peer.answer()[0] for _ in range(5_000)} == {400}


def test_a_request_may_arrive_byte_by_byte(peer: Peer) -> None:
    for byte in request("slow"):
        peer.send(bytes([byte]))
    assert peer.corr_id() == "slow"


@pytest.mark.parametrize("field", [b"X-Unknown: 1", b"Cookie: a=b", b"Accept: caf\xc3\xa9"])
def test_a_request_that_leaves_the_lane_is_answered_like_the_others(peer: Peer, field: bytes) -> None:
    peer.send(request("in") + request("out", field) + request("after"))
    assert [peer.corr_id() for _ in range(3)] == ["in", "out", "after"]


def test_a_stream_may_follow_on_the_same_connection(peer: Peer) -> None:
    """A client may use any connection of its pool."""
    peer.send(request("1"))
    peer.corr_id()
    peer.send(b"GET /poll/lane/pid-1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
    status, fields, _ = peer.answer()
    assert (status, fields["content-type"]) == (200, "text/event-stream")


def test_other_paths_are_served(peer: Peer) -> None:
    peer.send(request("1") + b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n" + request("2"))
    assert (peer.corr_id(), peer.answer()[0], peer.corr_id()) == ("1", 200, "2")


def test_a_chunked_body_is_read(peer: Peer) -> None:
    text = body("chunked")
    peer.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"%x\r\n%b\r\n0\r\n\r\n" % (len(text), text))
    assert peer.corr_id() == "chunked"


@pytest.mark.parametrize(
    "fields", [b"Content-Length: 0\r\nContent-Length: 9", b"Content-Length: 5\r\nTransfer-Encoding: chunked"]
)
def test_two_statements_of_the_length_are_refused(peer: Peer, fields: bytes) -> None:
    """Request smuggling relies on two parsers that disagree about the length."""
    peer.send(HEAD + fields + b"\r\n\r\n0\r\n\r\n" + request("hidden"))
    assert peer.answer()[0] == 400


def test_a_client_that_expects_100_continue_gets_it(peer: Peer) -> None:
    text = body("expected")
    peer.send(HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(text))
    assert peer.answer()[0] == 100
    peer.send(text)
    assert peer.corr_id() == "expected"


def test_a_connection_is_closed_after_the_answer_on_request(peer: Peer) -> None:
    peer.send(request("last", b"Connection: close"))
    assert peer.corr_id() == "last"
    assert peer.is_closed()
