"""The logs of workers and of foo: whatever others write into ids and messages, each line is the program's own."""

import re
import socket

from .calls import Calls
from .programs import Stack

TIMED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00 \S")
FORGED = "x\n2026-11-25T19:20:01.123+00:00 running function bar  promise=forged\r\x1b[2J\u2028\u202ey"


def lines(output: str) -> list[str]:
    return output.split("\n")[:-1]


def test_a_message_begins_no_line_of_a_worker(stack: Stack) -> None:
    stack.start_server()
    worker = stack.start_worker("asking")
    worker.wait_for("connected to server")
    calls = Calls(stack.server_port)

    assert calls.result(calls.begin("forging", "service-asking", "fail", FORGED))["message"] == FORGED

    assert "ValueError: x" in worker.output
    for line in lines(worker.output):
        assert line.isprintable()
        assert TIMED.match(line) or line.startswith("  ")
        assert not re.match(r"\S+ running function bar", line)


def test_a_request_begins_no_line_of_foo(stack: Stack) -> None:
    stack.start_server()
    foo = stack.start_foo()
    for request in (
        b"GET /\x1b[2J\x9b HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GE\x1bT / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\x1b[31m\x85: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: \x1b\x0b\r\n\r\n",
        b"GET / HTTP/\x1b.1\r\nHost: localhost\r\n\r\n",
        b"GET /foo/%0A%1B[2J HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /foo HTTP/1.1\r\nHost: localhost\r\nIdempotency-Key: a\x1b[2J\r\nContent-Length: 0\r\n\r\n",
        b"POST /foo HTTP/1.1\r\nHost: localhost\r\nContent-Length: \x1b1\r\n\r\n",
        b"POST /foo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: \x1bchunked\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", stack.foo_port), timeout=30) as connection:
            connection.sendall(request)
            connection.recv(4096)
    for line in lines(foo.output):
        assert line.isprintable(), repr(line)
