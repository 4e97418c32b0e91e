"""foo, when clients send nonsense or incomplete requests, read nothing, or do not leave."""

import contextlib
import json
import signal
import socket
import struct
import time
from collections.abc import Callable
from http import HTTPStatus
from uuid import uuid4

import psutil
import pytest
from harness.basics import wait_until
from harness.process import Process

from .programs import Stack, closing, is_problem, read_all

HEAD = b"POST /foo HTTP/1.1\r\nHost: 127.0.0.1\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
HALVES = [
    b"",
    b"POST /foo HT",
    HEAD,
    HEAD + b'Content-Length: 100\r\n\r\n{"pause": ',
    CHUNKED + b"2\r\n",
]
MALFORMED_CHUNKS = [
    b"zz\r\n",
    b"-5\r\n",
    b"\r\n",
    b"5;\x01\r\nhello\r\n0\r\n\r\n",
    b"1\r\nab\r\n0\r\n\r\n",
    b"0x1\r\na\r\n0\r\n\r\n",
]
LIMIT = 16 * 1024
FILES = 1_300
"""More than foo needs for the incomplete requests that it keeps."""
SOON_SECONDS = 5.0
"""Allows for a busy machine, where milliseconds are usual; less than half of foo's patience with such requests."""


def _chunked(body: bytes, size: int) -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def _answer(stack: Stack, request: bytes) -> bytes:
    with stack.connect() as connection:
        connection.sendall(request)
        return read_all(connection)


def _is(answer: bytes, status: int) -> bool:
    """Return whether it has this status and its phrase from RFC 9110."""
    return answer.startswith(f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode())


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET /", 404),
        (b"GET /foo/", 404),
        (b"GET /foo/%00", 404),
        (b"GET /foo/%ff", 404),
        (b"GET /foo/%ed%a0%80", 404),
        (b"GET /foo/\xc3\xbc\xff", 400),
        (b"GET /foo/../health", 404),
        (b"GET /foo/a%2fb", 404),
        (b"GET /foo/a?b=%zz&c=%ff", 404),
        (b"GET //evil.example/foo", 404),
        (b"GET /%2f%2fevil.example", 404),
        (b"GET http://localhost/health", 200),
        (b"GET http://evil.example/health", 421),
        (b"GET https://evil.example/health", 404),
        (b"GET http://[::1/health", 421),
        (b"GET http:///health", 421),
        (b"GET *", 400),
        (b"OPTIONS *", 404),
        (b"CONNECT evil.example:443", 404),
        (b"TRACE /foo", 405),
        (b"GET /foo", 405),
        (b"DELETE /foo/a", 405),
        (b"PURGE /foo/a", 405),
        (b"get /foo/a", 400),
        (b"G\xfcT /foo/a", 400),
    ],
)
def test_odd_requests_get_an_answer(running: Stack, line: bytes, status: int) -> None:
    host = b"evil.example" if line.startswith(b"GET http://localhost") else b"localhost"
    answer = _answer(running, line + b" HTTP/1.1\r\nHost: %b\r\n\r\n" % host)
    assert _is(answer, status), answer
    assert status in {200, 400} or b"application/problem+json" in answer
    assert "Traceback" not in running.program("foo").output()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, HTTPStatus.MISDIRECTED_REQUEST),
        ({"Origin": "https://evil.example"}, HTTPStatus.FORBIDDEN),
        ({"Sec-Fetch-Site": "cross-site"}, HTTPStatus.FORBIDDEN),
    ],
)
def test_other_sites_and_other_hosts_are_refused_on_every_route(
    running: Stack, headers: dict[str, str], status: HTTPStatus
) -> None:
    routes = [("POST", "/foo"), ("GET", "/foo/a"), ("GET", "/health"), ("GET", "/nowhere"), ("DELETE", "/foo")]
    for method, path in routes:
        sent = headers | {"Content-Type": "application/json", "Idempotency-Key": "forged"}
        assert is_problem(running.request(method, path, b"{}", sent), status), (method, path)
    assert running.get("/foo/forged").status == HTTPStatus.NOT_FOUND


def test_more_hosts_may_be_allowed(served: Stack) -> None:
    served.start_foo("foo, demo.example")
    for name, status in {"foo:5000": 200, "Demo.Example": 200, "localhost": 200, "bar": 421}.items():
        assert served.request("GET", "/health", headers={"Host": name}).status == status


@pytest.mark.parametrize("size", [LIMIT + 1, 1000, 10])
def test_chunks_are_accepted_up_to_a_limit(running: Stack, size: int) -> None:
    assert b'"message":3' in _answer(running, CHUNKED + _chunked(b'{"pause": 0}'.ljust(LIMIT), size))
    answer = _answer(running, CHUNKED + _chunked(b'{"pause": 0}'.ljust(LIMIT + 1), size))
    assert _is(answer, 413)
    assert b"application/problem+json" in answer


def test_chunks_and_trailers_that_arrive_byte_by_byte_are_read(running: Stack) -> None:
    with running.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        trailer = b"Digest: none\r\n\r\n"
        request = CHUNKED + _chunked(b'{"pause": 0}', 5).removesuffix(b"\r\n") + trailer
        for at in range(len(request)):
            connection.sendall(request[at : at + 1])
        assert b'"message":3' in read_all(connection)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400),
        (b"Content-Length: -1\r\n\r\n", 400),
        (b"Content-Length: +2\r\n\r\n{}", 400),
        (b"Content-Length: 1e3\r\n\r\n{}", 400),
        (b"Content-Length: %b\r\n\r\n{}" % (b"9" * 5000), 413),
        (b"Content-Length: %b\r\n\r\n{}" % (b"9" * 30), 413),
        (b"Content-Length: %d\r\n\r\n{}" % (LIMIT + 1), 413),
        (b"Content-Length: %b2\r\n\r\n{}" % (b"0" * 30), 200),
        (b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}", 400),
        (b"Content-Length: 2, 2\r\n\r\n{}", 400),
        (b"Content-Length: \xb2\r\n\r\n{}", 400),
        (b"Content-Length:\r\n\r\n{}", 400),
        (b"Content_Length: 9\r\nContent-Length: 2\r\n\r\n{}", 200),
        (b"Content_Length: x\r\nTransfer_Encoding: x\r\nContent-Length: 2\r\n\r\n{}", 200),
        (b"Transfer-Encoding: gzip\r\n\r\n{}", 400),
        (b"X: %b" % (b"x" * 40_000), 431),
        (b"no header\n\n", 400),
        *((b"Transfer-Encoding: chunked\r\n\r\n" + chunks, 400) for chunks in MALFORMED_CHUNKS),
    ],
)
def test_lengths_that_are_absurd(running: Stack, headers: bytes, status: int) -> None:
    assert _is(_answer(running, HEAD + headers), status)


def test_a_client_that_expects_100_continue_gets_it(running: Stack) -> None:
    with running.connect() as connection:
        connection.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"{}")
        assert b'"message":3' in read_all(connection)


def test_a_request_that_ends_early_starts_nothing(running: Stack) -> None:
    with running.connect() as connection:
        connection.sendall(HEAD + b"Idempotency-Key: early\r\nContent-Length: 100\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection) == b""
    assert running.get("/foo/early").status == HTTPStatus.NOT_FOUND


@pytest.mark.long
def test_600_half_requests_delay_nobody_and_are_closed(running: Stack) -> None:
    with closing(_half_requests(running, 600)) as halves:
        began = time.monotonic()
        assert running.post().json["message"] == 3
        while any(map(_is_open, halves)):
            assert time.monotonic() - began < 90
            _trickle(halves)
            assert _seconds_of_health(running) < SOON_SECONDS
            time.sleep(0.2)


@pytest.mark.long
def test_more_half_requests_than_there_is_room_for_delay_nobody(running: Stack) -> None:
    serving = running.serving()
    before = serving.rlimit(psutil.RLIMIT_NOFILE)
    serving.rlimit(psutil.RLIMIT_NOFILE, (FILES, before[1]))
    try:
        with closing(_half_requests(running, 1000)) as halves:
            for _ in range(5):
                _trickle(halves)
                halves += _half_requests(running, 200)
            assert _seconds_of_health(running) < SOON_SECONDS
            assert running.post().json["message"] == 3
    finally:
        serving.rlimit(psutil.RLIMIT_NOFILE, before)


def test_half_requests_do_not_delay_the_end(served: Stack, foo: Process) -> None:
    with closing(_half_requests(served, 200)):
        assert _seconds_of_health(served) < SOON_SECONDS
        status, seconds = foo.end()
        assert status == 0
        assert seconds < SOON_SECONDS


FIELD = b"X: %b\r\n" % (b"x" * 8_000)


@pytest.mark.usefixtures("foo")
@pytest.mark.parametrize(
    ("begin", "piece"),
    [(HEAD, FIELD * 3), (HEAD + b'Content-Length: 14\r\n\r\n{"pause": 600}', b"GET /health HTTP/1.1\r\n" * 1_000)],
    ids=["heads without end", "more requests on the same connection"],
)
def test_what_clients_send_without_need_takes_no_memory(served: Stack, begin: bytes, piece: bytes) -> None:
    serving = served.serving()
    with closing([served.connect() for _ in range(100)]) as clients:
        for client in clients:
            client.sendall(begin)
            client.setblocking(False)
        _seconds_of_health(served)
        before = serving.memory_info().rss
        for _ in range(12):
            for client in clients:
                with contextlib.suppress(OSError):
                    client.send(piece)
            _seconds_of_health(served)
        assert serving.memory_info().rss - before < 10 * 2**20


def test_clients_that_never_read_their_answer_delay_nobody_and_are_closed(running: Stack) -> None:
    serving = running.serving()
    before = serving.num_fds()
    id = running.post({"pause": 60}, prefer="respond-async").json["id"]
    running.settle(id, json.dumps("x" * 60_000).encode())
    with closing([socket.socket() for _ in range(300)]) as silent:
        for connection in silent:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 500)  # so foo's system takes only a part
            connection.connect(("127.0.0.1", running.foo_port))
            connection.sendall(b"GET /foo/%b HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % id.encode())
        wait_until(lambda: running.get(f"/foo/{id}").status == HTTPStatus.OK, "another client is answered")
        for _ in range(5):
            assert _seconds_of_health(running) < SOON_SECONDS
        assert running.post().json["message"] == 3
        wait_until(lambda: serving.num_fds() < before + 100, "they are closed", 30)


@pytest.mark.long
def test_a_slow_server_does_not_delay_health(served: Stack) -> None:
    served.start_foo()
    served.server.send(signal.SIGSTOP)
    with closing([]) as asking:
        for _ in range(1300):  # more than foo works on at a time
            asking.append(served.connect())
            asking[-1].sendall(b"GET /foo/any HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        for _ in range(5):
            assert _seconds_of_health(served) < SOON_SECONDS
        assert _is(read_all(asking[-1]), 503), "those who come last are told so"


def _close_side(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_WR)


def _break(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@pytest.mark.parametrize("leave", [_close_side, socket.socket.close, _break], ids=["half", "whole", "broken"])
def test_a_client_that_closes_its_side_has_left_and_its_chain_continues(
    running: Stack, leave: Callable[[socket.socket], None]
) -> None:
    key = f"left-{uuid4().hex}"
    with running.send_waiting_request(key, pause=3600) as connection:
        wait_until(lambda: running.get(f"/foo/{key}").status == HTTPStatus.OK, "it has begun")
        leave(connection)
        running.program("foo").wait_for(f"the client of {key} has left; the chain continues")
    assert running.get(f"/foo/{key}").json["state"] == "pending"
    running.client().end_sleep(key)
    assert running.post(key=key).json["message"] == 3


def test_clients_that_leave_early_take_no_place_from_others(running: Stack) -> None:
    """1100 clients come and go, more than there is room for, while another is still sending its request."""
    for _ in range(5):
        seconds, answer = _seconds_and_answer_of_one_among(running, 1100)
        if seconds < SOON_SECONDS:  # on a busy machine its own time may have been over
            assert _is(answer, 200)
            return
    pytest.fail("each time, the requests took longer than one may take to arrive")


def _seconds_and_answer_of_one_among(stack: Stack, others: int) -> tuple[float, bytes]:
    began = time.monotonic()
    with stack.connect() as connection, contextlib.suppress(OSError):
        connection.sendall(HEAD)
        for _ in range(others // 50):
            for _ in range(50):
                stack.connect().close()
            _seconds_of_health(stack)  # so that the listen queue does not overflow
        connection.sendall(b"Content-Length: 0\r\n\r\n")
        seconds = time.monotonic() - began
        return seconds, read_all(connection)
    return time.monotonic() - began, b""


@pytest.mark.long
def test_requests_that_arrive_while_foo_is_frozen_are_answered(running: Stack) -> None:
    """Their time was over before what lay in the sockets was read, so complete requests were cut off."""
    serving = running.serving()
    with running.connect() as begun, running.connect() as whole:
        begun.sendall(HEAD + b"Content-Length: 2\r\n\r\n{")
        _seconds_of_health(running)
        serving.suspend()
        begun.sendall(b"}")
        whole.sendall(HEAD + b"Content-Length: 2\r\n\r\n{}")
        time.sleep(12)
        serving.resume()
        assert _is(read_all(begun), 200) and _is(read_all(whole), 200)


@pytest.mark.long
def test_a_request_may_wait_for_longer_than_it_may_take_to_arrive(running: Stack) -> None:
    assert running.post({"pause": 11}).json["message"] == 3


def test_512_waiting_requests_leave_room_for_one_that_does_not_wait(served: Stack) -> None:
    served.start_services()
    with closing([served.send_waiting_request(f"full-{number}", pause=600) for number in range(512)]):
        wait_until(lambda: all(_has_begun(served, number) for number in (0, 255, 511)), "they wait")
        wait_until(
            lambda: served.post(prefer="wait=60").status == HTTPStatus.SERVICE_UNAVAILABLE, "all places are taken"
        )
        refused = served.post({"pause": 1}, key="refused")
        assert is_problem(refused, HTTPStatus.SERVICE_UNAVAILABLE)
        assert "512 requests are already waiting" in refused.json["detail"]
        assert 1 < int(refused.headers["Retry-After"]) <= 600, "the first of them can end when its pause does"
        assert served.get("/foo/refused").status == HTTPStatus.NOT_FOUND
        assert served.post({"pause": 60}, prefer="respond-async").status == HTTPStatus.ACCEPTED
        assert _seconds_of_health(served) < SOON_SECONDS
    wait_until(lambda: served.post().status == HTTPStatus.OK, "those who have left gave their places back")


def _has_begun(stack: Stack, number: int) -> bool:
    return stack.get(f"/foo/full-{number}").status == HTTPStatus.OK


def _half_requests(stack: Stack, number: int) -> list[socket.socket]:
    connections = []
    for index in range(number):
        connection = stack.connect()
        connection.sendall(HALVES[index % len(HALVES)])
        connection.setblocking(False)
        connections.append(connection)
    return connections


def _trickle(connections: list[socket.socket]) -> None:
    for index, connection in enumerate(connections):
        if HALVES[index % len(HALVES)].endswith(b"2\r\n"):
            with contextlib.suppress(OSError):
                connection.send(b"  \r\n2\r\n")


def _is_open(connection: socket.socket) -> bool:
    try:
        return connection.recv(4096) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def _seconds_of_health(stack: Stack) -> float:
    began = time.monotonic()
    assert stack.get("/health").status == HTTPStatus.OK
    return time.monotonic() - began
