"""The logs of workers and of foo show what becomes of a request; whatever others write into ids and messages, each line
is the program's own."""

import contextlib
import http.client
import re
import threading

import pytest
from harness.basics import wait_until
from harness.process import Process

from .programs import Stack

TIMED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00 \S")
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def lines(output: str) -> list[str]:
    return output.split("\n")[:-1]


def test_a_request_cannot_forge_a_line_of_foo(running: Stack) -> None:
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
        with running.connect() as connection:
            connection.sendall(request)
            connection.recv(4096)
    assert running.program("foo").count("\\x1b[2J") >= 2, "they are there, escaped"
    for line in lines(running.program("foo").output()):
        assert line.isprintable(), repr(line)
        assert TIMED.match(line), line


def test_what_gunicorn_tells_is_among_the_lines_of_foo(served: Stack, foo: Process) -> None:
    serving = served.serving()
    serving.kill()
    foo.wait_for(f"ERROR: Worker (pid:{serving.pid}) was sent SIGKILL!")
    wait_until(served.is_healthy, "gunicorn has begun another process")
    assert all(TIMED.match(line) for line in lines(foo.output()))


def test_foo_logs_each_request_with_its_id_status_and_seconds(running: Stack) -> None:
    before = running.program("foo").output()
    running.post(key="told")
    running.post(key="not:a-key")
    running.get("/foo/told")
    running.get("/health")
    running.request("POST", "/health")
    running.request("GET", "/foo", headers=UPGRADE)
    running.get("/elsewhere/" + "x" * 1000)
    told = [
        re.sub(r"^\S+ |\d+\.\d{3}$", "", line)
        for line in lines(running.program("foo").output().removeprefix(before))
        if "status=" in line
    ]
    assert told == [
        "POST /foo  id=told  status=200  seconds=",
        "POST /foo  id=-  status=400  seconds=",
        "GET /foo/told  id=told  status=200  seconds=",
        "POST /health  id=-  status=405  seconds=",
        "WebSocket /foo  id=-  status=403  seconds=",
        f"GET /elsewhere/{'x' * 117}  id=-  status=404  seconds=",
    ]


def test_a_search_for_its_id_finds_the_story_of_a_request_in_all_logs(running: Stack) -> None:
    programs = [running.program(name) for name in ("foo", "bar", "baz")]
    assert running.post({"running": 0.2}, key="story").json["message"] == 3
    results = {"result: 3", "result: 2", "result: None", "result: 1"}
    told = re.compile(r"promise=story.* (result: \w+)")
    wait_until(lambda: results <= set(told.findall(running.printed())), "each end is told")

    for program in (*programs, running.server):
        assert all(TIMED.match(line) for line in lines(program.output()))
    found = [line for program in programs for line in lines(program.output()) if "story" in line]
    assert ends(found) == {
        "foo story": ["suspended, waits for story:1", "result: 3"],
        "bar story:1": ["suspended, waits for story:1.1; continues at once", "result: 2"],
        "work story:1.2": ["result: None"],
        "baz story:1.1": ["result: 1"],
    }
    assert sum("running function" in line for line in found) == 6


@pytest.mark.parametrize("order", ["foo bar baz server", "server baz bar foo"])
def test_a_stack_that_stops_under_load_logs_no_errors(served: Stack, order: str) -> None:
    served.start_services()
    stopping = threading.Event()

    def ask() -> None:
        while not stopping.wait(0.05):  # or those who are refused would ask without end
            with contextlib.suppress(OSError, http.client.HTTPException):
                served.post({"running": 0.1})

    clients = [threading.Thread(target=ask) for _ in range(20)]
    for client in clients:
        client.start()
    wait_until(lambda: served.program("bar").count("result: 2") > 20, "there is much to do")
    for name in order.split():
        assert served.program(name).end()[0] == 0
    stopping.set()
    for client in clients:
        client.join()
    for program in (served.server, *served.programs.values()):
        assert "Warning" not in program.output()
        assert "Traceback" not in program.output()
        assert "never" not in program.output()
        assert program.count("running function") == program.count("ended function")


def ends(told: list[str]) -> dict[str, list[str]]:
    """Return the outcomes of each function's runs, by its name and promise."""
    found: dict[str, list[str]] = {}
    for line in told:
        if end := re.search(r" ended function (\S+)  promise=(\S+)  attempt=\d+  seconds=\d+\.\d{3}  (.*)", line):
            found.setdefault(f"{end[1]} {end[2]}", []).append(end[3])
    return found
