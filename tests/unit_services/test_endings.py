"""How foo ends: waiting clients are sent away, leases are released, and nothing in the log is alarming."""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable

import psutil
import pytest
from harness.basics import wait_until
from harness.process import Process

from .programs import Stack, read_all

CLAIMS_SECONDS = 0.5
ALARMS = ("Traceback", "CRITICAL", "ERROR", "exited with code", "never retrieved", "has left")


def _is_sent_away(connection: socket.socket) -> bool:
    answer = read_all(connection)
    told = b"\r\nRetry-After: ", b"with the header Idempotency-Key: "
    return answer.startswith(b"HTTP/1.1 503 ") and all(each in answer for each in told)


def _assert_quiet(foo: Process) -> None:
    assert [alarm for alarm in ALARMS if alarm in foo.output()] == [], foo.output()


def _wait_for_leases(stack: Stack) -> None:
    wait_until(lambda: not stack.ask_server("task.search", state="acquired")["tasks"], "the leases are back")


def _accepted(stack: Stack) -> int:
    own = (each for each in stack.serving().net_connections() if each.laddr.port == stack.foo_port)
    return sum(each.status == psutil.CONN_ESTABLISHED for each in own)


def _crowd(stack: Stack, size: int) -> list[socket.socket]:
    waiting = [stack.send_waiting_request(f"crowd-{number}", pause=600) for number in range(size)]
    wait_until(lambda: all(stack.get(f"/foo/crowd-{at}").status == 200 for at in (0, size - 1)), "all have begun", 60)
    return waiting


@pytest.mark.parametrize("becomes", [signal.SIGCONT, signal.SIGSTOP, signal.SIGKILL], ids=["well", "frozen", "killed"])
def test_foo_is_told_to_stop_while_it_claims_tasks_for_100_clients(
    served: Stack, foo: Process, becomes: signal.Signals
) -> None:
    served.server.send(signal.SIGSTOP)
    waiting = [served.send_waiting_request(f"crowd-{number}" if number % 2 else None) for number in range(100)]
    wait_until(lambda: _accepted(served) == 100, "foo has accepted all")
    time.sleep(CLAIMS_SECONDS)  # its claims are in flight for that long
    served.server.send(becomes)

    assert foo.end()[0] == 0
    assert all(_is_sent_away(connection) for connection in waiting)
    _assert_quiet(foo)
    if becomes == signal.SIGCONT:
        _wait_for_leases(served)


def test_foo_whose_parent_is_killed_sends_its_clients_away_and_ends(served: Stack, foo: Process) -> None:
    serving = served.serving()
    waiting = _crowd(served, 30)

    foo.end(signal.SIGKILL)

    assert all(_is_sent_away(connection) for connection in waiting)
    wait_until(lambda: not serving.is_running() or serving.status() == psutil.STATUS_ZOMBIE, "it ends")
    _assert_quiet(foo)
    assert "shutting down" in foo.output()
    _wait_for_leases(served)


@pytest.mark.parametrize("send", [os.killpg, os.kill], ids=["its terminal is closed", "only itself gets SIGHUP"])
def test_foo_ends_when(served: Stack, foo: Process, send: Callable[[int, int], None]) -> None:
    waiting = _crowd(served, 10)

    send(foo.pid, signal.SIGHUP)

    assert all(_is_sent_away(connection) for connection in waiting)
    assert foo.wait() == 0
    _assert_quiet(foo)
    _wait_for_leases(served)


def test_foo_that_nohup_has_started_outlives_its_terminal_and_so_do_its_requests(served: Stack) -> None:
    command = ["nohup", sys.executable, "-m", "foo"]
    foo = served.programs["foo"] = Process(command, served.folder / "foo.log", served.env_of("foo")).launch()
    wait_until(served.is_healthy, "foo is healthy")
    [waiting] = _crowd(served, 1)

    os.killpg(foo.pid, signal.SIGHUP)

    assert served.post(key="later", prefer="respond-async").status == 202
    served.settle("crowd-0", b"3")
    assert b'"message":3' in read_all(waiting)
    assert foo.end()[0] == 0
