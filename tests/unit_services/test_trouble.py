"""foo, bar and baz while something fails or is absent."""

import signal
import time
from concurrent.futures import Future, ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path

from harness.basics import free_port, wait_until
from harness.foo import Reply
from harness.process import Process

from .programs import Calls, Stack, is_problem

LONG = 600
"""Seconds; the test itself ends a pause this long."""
SOON_SECONDS = 8.0
"""Less than a lease. On an idle machine, a second or two would do."""


def ends_soon(process: Process, number: signal.Signals = signal.SIGTERM) -> bool:
    status, seconds = process.end(number)
    return status == 0 and seconds < SOON_SECONDS


def begin(stack: Stack, body: dict[str, float], key: str) -> Future[Reply]:
    """Send foo a request whose answer is waited for in a thread of its own."""
    return ThreadPoolExecutor(1).submit(stack.post, body, key=key)


def test_a_function_that_raises_fails_the_chain(served: Stack) -> None:
    served.start_worker("bar")
    baz = served.start_worker("functions", GROUP="service-baz")
    served.start_foo()
    reply = served.post(key="doomed")
    assert is_problem(reply, HTTPStatus.INTERNAL_SERVER_ERROR)
    assert (reply.json["detail"], reply.json["id"]) == ("no number today", "doomed")
    assert served.get("/foo/doomed").json == {"id": "doomed", "state": "rejected", "error": "no number today"}
    assert "ValueError: no number today" in baz.output()
    assert baz.count("running function baz") == 3


def test_an_older_worker_gives_back_an_unknown_function_but_fails_for_an_unknown_argument(served: Stack) -> None:
    old = served.connect_worker("functions", GROUP="service-bar")
    served.start_worker("baz")
    served.start_foo()
    request = begin(served, {}, "renamed")
    old.wait_for("function 'bar' is not known to this worker")
    served.start_worker("bar")
    assert request.result(60).json == {"id": "renamed", "message": 3}

    calls = Calls(served.server_port)
    served.connect_worker("functions")
    assert (
        calls.outcome(calls.start("more", "give_back", 1, 2))["message"] == "give_back: too many positional arguments"
    )


def test_a_worker_that_is_told_to_stop_hands_its_work_to_another(served: Stack) -> None:
    """Its lease lasts an hour, so if it were left to expire, nobody would continue in time."""
    bar, baz, _ = served.start_worker("bar", LEASE_SECONDS="3600"), served.start_worker("baz"), served.start_foo()
    request = begin(served, {"running": 10}, "moved")
    bar.wait_for("running function work")
    assert ends_soon(bar)
    assert "released 1 task " in bar.output()
    served.start_worker("bar").wait_for("running function bar")
    assert request.result(60).json == {"id": "moved", "message": 3}
    assert baz.count("running function baz") == 1
    assert "Traceback" not in bar.output()


def test_foo_that_ends_sends_its_clients_away(served: Stack) -> None:
    foo, _, baz = served.start_services()
    request = begin(served, {"pause": LONG}, "again")
    baz.wait_for("running function baz")
    assert ends_soon(foo)
    reply = request.result(60)
    assert is_problem(reply, HTTPStatus.SERVICE_UNAVAILABLE)
    assert reply.headers["Retry-After"] == "1"
    assert "Idempotency-Key: again" in reply.json["detail"]
    served.start_foo()
    served.client().end_sleep("again")
    assert served.post({"pause": LONG}, key="again").json == {"id": "again", "message": 3}
    assert baz.count("running function baz") == 1


def test_a_killed_foo_can_be_restarted_at_once(served: Stack) -> None:
    foo, _, baz = served.start_services()
    request = begin(served, {"pause": LONG}, "killed")
    baz.wait_for("running function baz")
    foo.end(signal.SIGKILL)
    served.start_foo().wait_for("listening on")  # until then, gunicorn's child may still report that it is healthy
    assert request.exception(60) or request.result().status == HTTPStatus.SERVICE_UNAVAILABLE
    served.client().end_sleep("killed")
    assert served.post({"pause": LONG}, key="killed").json == {"id": "killed", "message": 3}
    assert baz.count("running function baz") == 1


def test_requests_survive_an_absence_of_the_server(stack: Stack, tmp_path: Path) -> None:
    server = stack.start_server()
    foo, bar, baz = stack.start_services()
    health_file = tmp_path / "health"
    observed = stack.start_worker("bar", health_file=health_file)
    wait_until(health_file.exists, "the worker is healthy")

    request = begin(stack, {"pause": 1}, "held")
    baz.wait_for("running function baz")
    server.kill()
    wait_until(lambda: not health_file.exists(), "the worker notices")
    wait_until(lambda: not stack.is_healthy(), "foo notices")
    assert is_problem(stack.get("/health"), HTTPStatus.SERVICE_UNAVAILABLE)
    assert is_problem(stack.get("/foo/held"), HTTPStatus.SERVICE_UNAVAILABLE)
    refused = stack.post(key="tried")
    assert is_problem(refused, HTTPStatus.SERVICE_UNAVAILABLE)
    assert refused.headers["Retry-After"]
    assert refused.json["id"] == "tried"

    stack.start_server()
    began = time.monotonic()
    wait_until(health_file.exists, "the worker is back")
    wait_until(stack.is_healthy, "foo is back")
    assert time.monotonic() - began < SOON_SECONDS
    assert request.result(60).json == {"id": "held", "message": 3}
    assert stack.post(key="tried").json == {"id": "tried", "message": 3}
    assert baz.count("running function baz  promise=tried:1.1 ") == 1
    for program in (foo, bar, baz, observed):
        assert "Traceback" not in program.output()
        assert program.count("cannot reach server") == 1
    assert observed.end()[0] == 0
    assert not health_file.exists()


def test_a_worker_ends_at_once_even_if_no_server_answers(stack: Stack) -> None:
    bar = stack.start_worker("bar")
    bar.wait_for("cannot reach server")
    assert ends_soon(bar, signal.SIGHUP)


def test_foo_without_a_server_or_with_a_wrong_token_says_so(stack: Stack) -> None:
    foo = stack.start_worker("foo")
    foo.wait_for("cannot reach server")
    assert is_problem(stack.get("/health"), HTTPStatus.SERVICE_UNAVAILABLE)
    assert is_problem(stack.post(), HTTPStatus.SERVICE_UNAVAILABLE)
    assert ends_soon(foo, signal.SIGINT)
    stack.start_server(RESONATE_AUTH__TOKEN="right")
    reasons = {"wrong": "it does not accept RESONATE_TOKEN", "": "it requires a token, and RESONATE_TOKEN is"}
    for token, reason in reasons.items():
        stack.foo_port = free_port()
        stack.start_worker("foo", RESONATE_TOKEN=token).wait_for("refuses this worker")
        reply = stack.post()
        assert is_problem(reply, HTTPStatus.SERVICE_UNAVAILABLE)
        assert f"refuses foo: {reason}" in reply.json["detail"]


def test_a_taken_port_is_answered_with_the_variable_to_set(stack: Stack) -> None:
    foo = stack.start_worker("foo")
    foo.wait_for("listening on")
    second = stack.start_worker("foo")
    second.wait_for("FOO_PORT")
    assert "Traceback" not in second.output()
