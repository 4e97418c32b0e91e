"""Programs that cannot reach a server, may not use it, or find their port taken, say so and end when told to."""

import signal
from http import HTTPStatus

from harness.basics import free_port
from harness.process import Process

from .programs import Stack, is_problem

SOON_SECONDS = 8.0
"""Less than a lease. On an idle machine, a second or two would do."""


def ends_soon(process: Process, number: signal.Signals = signal.SIGTERM) -> bool:
    status, seconds = process.end(number)
    return status == 0 and seconds < SOON_SECONDS


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
